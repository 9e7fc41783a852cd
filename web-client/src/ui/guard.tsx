// Catches what a page throws while drawing, so that a defect shows words and a way on instead of an empty page.
import { Component, type ComponentChildren } from 'preact';
import { text } from '../text';

export class Guard extends Component<{ children: ComponentChildren }, { failed: boolean }> {
  override state = { failed: false };

  static override getDerivedStateFromError() {
    return { failed: true };
  }

  override componentDidCatch(cause: unknown) {
    console.error('lucarne: a page failed', cause);
  }

  render() {
    if (!this.state.failed) return this.props.children;
    return (
      <main class="plain-page" role="alert">
        <p>{text.error.unexpected}</p>
        <button type="button" class="primary" onClick={() => location.reload()}>
          {text.error.reload}
        </button>
      </main>
    );
  }
}
