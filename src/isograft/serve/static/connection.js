/** What the page says when the server is gone, comes back, or asks for a token. */

import { look, setToken } from './api.js';
import { button, el, fill } from './dom.js';

/**
 * @param {EventTarget} connection that of api.js
 * @param {HTMLElement} strip where the message stands
 */
export function startConnection(connection, strip) {
  let timer = 0;
  connection.addEventListener('gone', () => {
    clearTimeout(timer);
    const when = el('span', { className: 'when', 'aria-hidden': 'true' });
    const text = el('p', {}, el('strong', {}, 'The server does not answer. '), 'Is isograft serve still running? Nothing on this page is lost; it goes on when the server is back. ', when);
    strip.className = 'strip is-bad';
    fill(strip, text, button('Try now', look));
    strip.hidden = false;
  });
  connection.addEventListener('waiting', (event) => {
    const when = strip.querySelector('.when');
    if (when) when.textContent = `Next try in ${/** @type {CustomEvent} */ (event).detail} s.`;
  });
  connection.addEventListener('back', () => {
    strip.className = 'strip is-good';
    fill(strip, el('p', {}, 'The server is back.'));
    timer = setTimeout(() => (strip.hidden = true), 4000);
  });
  connection.addEventListener('outdated', (event) => {
    clearTimeout(timer);
    strip.className = 'strip is-bad';
    fill(strip, el('p', { role: 'alert' }, el('strong', {}, `Stopped: ${/** @type {CustomEvent} */ (event).detail}.`)), button('Load again', () => location.reload()));
    strip.hidden = false;
  });
  connection.addEventListener('token', (event) => askToken(/** @type {CustomEvent} */ (event).detail));
}

/** @param {boolean} refused whether a token was given and was wrong */
function askToken(refused) {
  const field = el('input', { type: 'password', id: 'token', autocomplete: 'off', required: true, spellcheck: false, 'aria-describedby': 'token-help' });
  const dialog = el(
    'dialog',
    { className: 'token', 'aria-labelledby': 'token-title' },
    el(
      'form',
      {},
      el('h2', { id: 'token-title' }, 'This server asks for a token'),
      refused && el('p', { className: 'bad', role: 'alert' }, 'The token that was given is not the one of this server.'),
      el('p', { id: 'token-help', className: 'quiet' }, 'isograft serve printed it when it was started: it is what stands behind #token= in the address. It is kept until this tab is closed.'),
      el('label', { for: 'token' }, 'Token'),
      field,
      el('button', { type: 'submit', className: 'main' }, 'Go on'),
    ),
  );
  dialog.addEventListener('cancel', (/** @type {Event} */ event) => event.preventDefault());
  dialog.querySelector('form').addEventListener('submit', (/** @type {Event} */ event) => {
    event.preventDefault();
    setToken(field.value);
    dialog.remove();
  });
  document.body.append(dialog);
  dialog.showModal();
  field.focus();
}
