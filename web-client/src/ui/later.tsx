// A component whose code is fetched when it is first drawn. While it is on its way `waiting` shows; when it can't be
// had, the error goes up to the guard around it.
import type { ComponentChild, ComponentType } from 'preact';
import { useEffect, useState } from 'preact/hooks';

export function later<P extends object>(
  load: () => Promise<ComponentType<P>>,
  waiting: () => ComponentChild,
): ComponentType<P> {
  let ready: ComponentType<P> | undefined;
  return function Later(props: P) {
    const [, setLoaded] = useState(ready !== undefined);
    const [failure, setFailure] = useState<unknown>();
    useEffect(() => {
      if (ready) return;
      let gone = false;
      load().then(
        (component) => {
          ready = component;
          if (!gone) setLoaded(true);
        },
        (cause: unknown) => {
          if (!gone) setFailure(cause ?? new Error('a part of the page could not be loaded'));
        },
      );
      return () => {
        gone = true;
      };
    }, []);
    if (failure !== undefined) throw failure;
    if (!ready) return waiting();
    const Ready = ready;
    return <Ready {...props} />;
  };
}
