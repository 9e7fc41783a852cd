// Which page an address means, and moving between pages without a reload. Knows nothing of the pages themselves.
import { useEffect, useState } from 'preact/hooks';

/** As what a desktop is looked at: by its user, by its user who only looks, by an administrator without or with control. */
export type ViewAs = 'owner' | 'view_only' | 'shadow' | 'control';

export type Route =
  { page: 'portal' } | { page: 'desktop'; session: string; as: ViewAs } | { page: 'unknown' };

/** What stands after the session in a desktop's address. */
const WAYS: Record<string, ViewAs> = { '': 'owner', view: 'view_only', shadow: 'shadow', control: 'control' };

/** An id in an address: what the server hands out, and nothing that could climb out of a path. */
const ID = /^[0-9A-Za-z][0-9A-Za-z._-]{0,63}$/;

/** The page of a path such as `/desktop/0192…` or `/desktop/0192…/view`; a trailing slash is ignored. */
export function parsePath(path: string): Route {
  const parts = path.split('/').filter((part) => part !== '');
  if (parts.length === 0) return { page: 'portal' };
  const [head, id, way = ''] = parts;
  const as = Object.hasOwn(WAYS, way) ? WAYS[way] : undefined;
  if (parts.length <= 3 && head === 'desktop' && id !== undefined && ID.test(id) && as !== undefined) {
    return { page: 'desktop', session: id, as };
  }
  return { page: 'unknown' };
}

export const portalPath = '/';
export const desktopPath = (session: string) => `/desktop/${encodeURIComponent(session)}`;
export const viewPath = (session: string) => `${desktopPath(session)}/view`;

/** Goes to a path of this client. With `replace` the present page is not kept in the history. */
export function navigate(path: string, options: { replace?: boolean } = {}): void {
  if (options.replace) history.replaceState(null, '', path);
  else history.pushState(null, '', path);
  dispatchEvent(new PopStateEvent('popstate'));
}

/** The present route, as it changes. */
export function useRoute(): Route {
  const [path, setPath] = useState(location.pathname);
  useEffect(() => {
    const changed = () => setPath(location.pathname);
    addEventListener('popstate', changed);
    return () => removeEventListener('popstate', changed);
  }, []);
  return parsePath(path);
}
