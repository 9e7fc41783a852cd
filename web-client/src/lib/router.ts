// Which page an address means, and moving between pages without a reload. Knows nothing of the pages themselves.
import { useEffect, useState } from 'preact/hooks';

export type Route = { page: 'portal' } | { page: 'desktop'; session: string } | { page: 'unknown' };

/** An id in an address: what the server hands out, and nothing that could climb out of a path. */
const ID = /^[0-9A-Za-z][0-9A-Za-z._-]{0,63}$/;

/** The page of a path such as `/desktop/0192…`; a trailing slash is ignored. */
export function parsePath(path: string): Route {
  const parts = path.split('/').filter((part) => part !== '');
  if (parts.length === 0) return { page: 'portal' };
  const [head, id] = parts;
  if (parts.length === 2 && head === 'desktop' && id !== undefined && ID.test(id)) {
    return { page: 'desktop', session: id };
  }
  return { page: 'unknown' };
}

export const portalPath = '/';
export const desktopPath = (session: string) => `/desktop/${encodeURIComponent(session)}`;

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
