/** Light and dark: as the system has it, or as the reader chose. */

import { lasting } from './store.js';

const KEY = 'isograft-theme';
const NAMES = /** @type {const} */ (['system', 'light', 'dark']);
const SIGNS = { system: '◐', light: '☀', dark: '☾' };

/** @returns {'system' | 'light' | 'dark'} */
function chosen() {
  const kept = lasting.get(KEY);
  return NAMES.find((name) => name === kept) ?? 'system';
}

/** @param {HTMLElement} button */
function show(button) {
  const name = chosen();
  if (name === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  const sign = document.createElement('span');
  sign.setAttribute('aria-hidden', 'true');
  sign.textContent = SIGNS[name];
  const words = document.createElement('span');
  words.className = 'words';
  words.textContent = name === 'system' ? 'As the system' : name === 'light' ? 'Light' : 'Dark';
  button.replaceChildren(sign, words);
  button.setAttribute('aria-label', `Appearance: ${words.textContent.toLowerCase()}. Press to change.`);
}

/**
 * Give a button the switch of light and dark.
 * @param {HTMLElement} button
 */
export function startTheme(button) {
  show(button);
  button.addEventListener('click', () => {
    const next = NAMES[(NAMES.indexOf(chosen()) + 1) % NAMES.length] ?? 'system';
    lasting.set(KEY, next);
    show(button);
  });
}
