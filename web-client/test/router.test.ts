import { describe, expect, it } from 'vitest';
import { desktopPath, parsePath } from '../src/lib/router';

describe('parsePath', () => {
  it('shows the portal at the root', () => {
    expect(parsePath('/')).toEqual({ page: 'portal' });
  });
  it('shows the viewer for a session, with or without a trailing slash', () => {
    const route = { page: 'desktop', session: '0199a3f0-7c1e-7abc-8def-0123456789ab', as: 'owner' };
    expect(parsePath('/desktop/0199a3f0-7c1e-7abc-8def-0123456789ab')).toEqual(route);
    expect(parsePath('/desktop/0199a3f0-7c1e-7abc-8def-0123456789ab/')).toEqual(route);
    expect(parsePath(desktopPath(route.session))).toEqual(route);
  });
  it.each([
    ['view', 'view_only'],
    ['shadow', 'shadow'],
    ['control', 'control'],
  ])('shows the viewer at /desktop/a/%s as %s', (way, as) => {
    expect(parsePath(`/desktop/a/${way}`)).toEqual({ page: 'desktop', session: 'a', as });
  });
  it.each([
    '/desktop',
    '/desktop/',
    '/desktop/a/b',
    '/desktop/a/view/b',
    '/desktop/a/toString',
    '/elsewhere',
    '/desktop/%2e%2e',
    '/desktop/..',
    '/desktop/<x>',
  ])('says that there is nothing at %s', (path) => expect(parsePath(path)).toEqual({ page: 'unknown' }));
});
