// The clipboard, visible: what the desktop copied, and what is to be sent there, as far as the pool allows either. The
// device's own clipboard is touched only when a button is pressed. Its text lives in this panel and goes with it.
import { useState } from 'preact/hooks';
import type { ClipboardPolicy } from '../api/types';
import { text } from '../text';
import { Icon } from '../ui/icons';

export interface ClipboardPanelProps {
  policy: Exclude<ClipboardPolicy, 'off'>;
  content: string;
  onContent: (content: string) => void;
  onSend: (content: string) => void;
  onClose: () => void;
}

export function ClipboardPanel(props: ClipboardPanelProps) {
  const [word, setWord] = useState('');
  const sends = props.policy !== 'from_desktop';
  const receives = props.policy !== 'to_desktop';
  const send = (content: string) => {
    props.onSend(content);
    setWord(text.clipboard.sent);
  };
  const fetchFromDevice = async () => {
    try {
      const content = await navigator.clipboard.readText();
      props.onContent(content);
      send(content);
    } catch {
      setWord(text.clipboard.denied);
    }
  };
  const copyToDevice = async () => {
    try {
      await navigator.clipboard.writeText(props.content);
      setWord(text.clipboard.copied);
    } catch {
      setWord(text.clipboard.denied);
    }
  };
  return (
    <section class="clipboard" aria-label={text.clipboard.heading} data-testid="clipboard">
      <header>
        <h2>{text.clipboard.heading}</h2>
        <button type="button" class="plain" aria-label={text.common.close} onClick={props.onClose}>
          <Icon name="close" />
        </button>
      </header>
      <p class="quiet">{text.clipboard.intro[props.policy]}</p>
      {/* autocomplete="off" also keeps the browser from saving the text to restore it after a crash. */}
      <textarea
        aria-label={text.clipboard.label}
        value={props.content}
        onInput={(event) => props.onContent(event.currentTarget.value)}
        rows={5}
        readOnly={!sends}
        autocomplete="off"
        autocapitalize="off"
        spellcheck={false}
        autofocus
        data-testid="clipboard-text"
      />
      <div class="clipboard-actions">
        {sends && (
          <>
            <button
              type="button"
              class="primary"
              onClick={() => send(props.content)}
              data-testid="clipboard-send"
            >
              {text.clipboard.send}
            </button>
            <button type="button" onClick={fetchFromDevice} data-testid="clipboard-fetch">
              {text.clipboard.fetch}
            </button>
          </>
        )}
        {receives && (
          <button
            type="button"
            onClick={copyToDevice}
            disabled={props.content === ''}
            data-testid="clipboard-copy"
          >
            {text.clipboard.copy}
          </button>
        )}
      </div>
      <p class="clipboard-word" role="status">
        {word}
      </p>
    </section>
  );
}
