import { describe, expect, it } from 'vitest';
import type { Card, Phase } from '../src/api/types';
import { conditionOf } from '../src/portal/condition';

const card = (more: Partial<Card>): Card => ({
  pool: 'p',
  name: 'office',
  description: '',
  desktop: null,
  session: null,
  availability: 'available',
  detail: '',
  progress: null,
  ...more,
});

const withDesktop = (phase: Phase, detail = '', more: Partial<Card> = {}): Card =>
  card({
    desktop: { id: 'd', name: 'office-1', pool: 'office', phase, detail },
    session: {
      id: 's',
      user: 'ada',
      pool: 'office',
      desktop: 'd',
      desktop_name: 'office-1',
      state: 'disconnected',
      viewers: [],
    },
    ...more,
  });

describe('a pool without a desktop of the user', () => {
  it('can be connected to when it is available', () => {
    expect(conditionOf(card({}))).toMatchObject({
      chip: 'Not started',
      connect: 'Connect',
      canLogOff: false,
    });
  });
  it('says how far the template is', () => {
    const condition = conditionOf(card({ availability: 'preparing', progress: 40, detail: 'Booting.' }));
    expect(condition).toMatchObject({
      chip: 'Preparing 40\u202f%',
      progress: 40,
      moving: true,
      detail: 'Booting.',
    });
    expect(condition.connect).not.toBeNull();
  });
  it('says why it is unavailable, in the server’s words or its own', () => {
    const full = conditionOf(card({ availability: 'unavailable', detail: 'No host is online.' }));
    expect(full).toMatchObject({ chip: 'Unavailable', connect: null, detail: 'No host is online.' });
    expect(conditionOf(card({ availability: 'unavailable' })).detail).not.toBe('');
  });
});

describe('the user’s desktop', () => {
  it('can be gone back to when it is suspended, with why it is', () => {
    const suspended = withDesktop('suspended', 'nobody used it', { session: null });
    expect(conditionOf(suspended)).toMatchObject({
      chip: 'Suspended',
      detail: 'nobody used it',
      connect: 'Return to desktop',
      canLogOff: false,
    });
    expect(conditionOf(withDesktop('suspended')).detail).not.toBe('');
  });
  it('can be returned to and logged off when it is ready', () => {
    const condition = conditionOf(withDesktop('ready'));
    expect(condition).toMatchObject({
      chip: 'Ready',
      connect: 'Return to desktop',
      canLogOff: true,
      hasPicture: true,
    });
  });
  it('tells that connecting moves it when it is open elsewhere', () => {
    const open = withDesktop('ready');
    if (open.session) open.session.state = 'connected';
    expect(conditionOf(open)).toMatchObject({ chip: 'In use', connect: 'Connect here' });
    expect(conditionOf(open).detail).toContain('another');
  });
  it.each(['unplaced', 'placing', 'starting'] as const)('is looked at more often while it is %s', (phase) => {
    expect(conditionOf(withDesktop(phase))).toMatchObject({
      chip: 'Starting',
      moving: true,
      hasPicture: false,
    });
  });
  it.each(['stopping', 'stopped'] as const)(
    'can neither be opened nor logged off while it is %s',
    (phase) => {
      expect(conditionOf(withDesktop(phase))).toMatchObject({
        connect: null,
        canLogOff: false,
        moving: true,
      });
    },
  );
  it('that failed says why and what to do', () => {
    const condition = conditionOf(withDesktop('failed', 'the disk of host attic-1 is full'));
    expect(condition).toMatchObject({ chip: 'Failed', connect: null, canLogOff: true });
    expect(condition.detail).toMatch(/^The disk of host attic-1 is full\. .*Log off/);
  });
  it('whose host is silent can’t be opened', () => {
    expect(conditionOf(withDesktop('lost'))).toMatchObject({ chip: 'Unavailable', connect: null });
  });
});
