// Starts the client: sign-in, portal and viewer in one page. It keeps nothing on the device.
import { render } from 'preact';
import './styles/theme.css';
import './styles/controls.css';
import './styles/dialog.css';
import { App } from './app';
import { Guard } from './ui/guard';

const root = document.getElementById('app');
if (root) {
  render(
    <Guard>
      <App />
    </Guard>,
    root,
  );
}
