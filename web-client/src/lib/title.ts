// The title of the browser's tab.
import { useEffect } from 'preact/hooks';
import { text } from '../text';

/** Shows `page` in the tab's title, or the product's name alone. */
export function useTitle(page: string | undefined): void {
  useEffect(() => {
    document.title = page ? text.title(page) : text.product;
  }, [page]);
}
