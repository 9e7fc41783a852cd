// The viewer's toolbar: a tab at the top edge that opens into a row of words. It goes away by itself once neither pointer
// nor focus is on it.
import type { ComponentChildren, Ref } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { text } from '../text';
import { Icon, type IconName } from '../ui/icons';
import type { Hearing } from './use-screen';

/** Time without pointer and focus until it hides, ms. */
const LINGER_MS = 900;
/** Time that it shows itself when the desktop appears, ms, so that people know where it is. */
const GREETING_MS = 2_600;

export interface ToolbarProps {
  /** The desktop's name. */
  name: string;
  open: boolean;
  onOpen: (open: boolean) => void;
  /** Something below it keeps it open, such as the clipboard. */
  held: boolean;
  /** There is a desktop to send to. */
  connected: boolean;
  fullScreen: boolean;
  canFullScreen: boolean;
  clipboardOpen: boolean;
  /** What is typed here reaches the desktop. */
  canType: boolean;
  /** This viewer takes part in the clipboard. */
  canCopy: boolean;
  canLogOff: boolean;
  hearing: Hearing;
  onBack: () => void;
  onCtrlAltDel: () => void;
  onFullScreen: () => void;
  onClipboard: () => void;
  onLogOff: () => void;
  onSound: () => void;
  /** What hangs below the bar. */
  children: ComponentChildren;
}

export function Toolbar(props: ToolbarProps) {
  const { open, onOpen, held, connected } = props;
  const root = useRef<HTMLDivElement>(null);
  const first = useRef<HTMLButtonElement>(null);
  const [touched, setTouched] = useState(0);

  useEffect(() => {
    if (connected) setTouched((count) => count + 1);
  }, [connected]);
  useEffect(() => {
    if (!open || held) return;
    const timer = setInterval(
      () => {
        const element = root.current;
        if (element && !element.matches(':hover') && !element.contains(document.activeElement)) onOpen(false);
      },
      touched <= 1 ? GREETING_MS : LINGER_MS,
    );
    return () => clearInterval(timer);
  }, [open, held, onOpen, touched]);

  const toggle = () => {
    setTouched((count) => count + 1);
    onOpen(!open);
  };
  const keys = (event: KeyboardEvent) => {
    if (event.key !== 'Escape' || !open) return;
    if (props.clipboardOpen) props.onClipboard();
    else onOpen(false);
  };

  return (
    <div
      ref={root}
      class={`toolbar ${open ? 'toolbar-open' : ''}`}
      role="group"
      aria-label={text.toolbar.label}
      onKeyDown={keys}
      data-testid="toolbar"
      data-open={open}
    >
      <div class="toolbar-row" inert={!open}>
        <Tool
          icon="back"
          words={text.toolbar.back}
          hint={text.toolbar.backHint}
          id="back"
          onClick={props.onBack}
          inputRef={first}
        />
        <span class="toolbar-name">{props.name}</span>
        {props.canType && (
          <Tool
            icon="keys"
            words={text.toolbar.cad}
            id="cad"
            disabled={!connected}
            onClick={props.onCtrlAltDel}
          />
        )}
        {props.canCopy && (
          <Tool
            icon="clipboard"
            words={text.toolbar.clipboard}
            id="clipboard"
            disabled={!connected && !props.clipboardOpen}
            pressed={props.clipboardOpen}
            onClick={props.onClipboard}
          />
        )}
        {props.hearing !== 'none' && (
          <Tool
            icon={props.hearing === 'on' ? 'sound' : 'silent'}
            words={text.toolbar.sound[props.hearing]}
            hint={text.toolbar.soundHint[props.hearing]}
            id="sound"
            disabled={!connected || props.hearing === 'unable'}
            onClick={props.onSound}
          />
        )}
        {props.canFullScreen && (
          <Tool
            icon={props.fullScreen ? 'shrink' : 'expand'}
            words={props.fullScreen ? text.toolbar.leaveFullScreen : text.toolbar.fullScreen}
            id="fullscreen"
            onClick={props.onFullScreen}
          />
        )}
        {props.canLogOff && (
          <Tool icon="power" words={text.toolbar.logOff} id="logoff" onClick={props.onLogOff} />
        )}
      </div>
      {open && props.children}
      <button
        type="button"
        class="toolbar-tab"
        aria-expanded={open}
        aria-label={open ? text.toolbar.pin : text.toolbar.open}
        title={open ? text.toolbar.shortcut : text.toolbar.open}
        onClick={toggle}
        data-testid="toolbar-tab"
      >
        <Icon name={open ? 'up' : 'chevron'} />
      </button>
    </div>
  );
}

interface ToolProps {
  icon: IconName;
  words: string;
  hint?: string;
  id: string;
  disabled?: boolean;
  pressed?: boolean;
  onClick: () => void;
  inputRef?: Ref<HTMLButtonElement>;
}

function Tool(props: ToolProps) {
  return (
    <button
      ref={props.inputRef ?? null}
      type="button"
      class="tool"
      title={props.hint ?? props.words}
      disabled={props.disabled}
      aria-pressed={props.pressed}
      onClick={props.onClick}
      data-testid={`toolbar-${props.id}`}
    >
      <Icon name={props.icon} />
      <span>{props.words}</span>
    </button>
  );
}
