/** The page as a whole: the model it is about, its tabs, and what to do when the server is gone or asks for a token. */

import { buildAbout } from './about.js';
import { Refused, connection, expectModel, json, patiently, takeToken } from './api.js';
import { el, fill } from './dom.js';
import { startConnection } from './connection.js';
import { buildLabel } from './label.js';
import { buildMany } from './many.js';
import { buildOne } from './one.js';
import { startTheme } from './theme.js';

/**
 * @typedef {import('./words.js').Model} Model
 * @typedef {{panel: HTMLElement, shown?: () => void, hidden?: () => void, take?: (file: File) => void, focus?: () => void}} Part
 * @typedef {{key: string, name: string, rest: string, build: (model: Model, open: (file: File) => void) => Part}} Tab
 */

const content = /** @type {HTMLElement} */ (document.getElementById('content'));
const bar = /** @type {HTMLElement} */ (document.getElementById('tabs'));

/** @type {Tab[]} */
const TABS = [
  { key: 'one', name: 'One', rest: ' image', build: buildOne },
  { key: 'many', name: 'Many', rest: ' images', build: buildMany },
  { key: 'label', name: 'Label', rest: '', build: buildLabel },
  { key: 'about', name: 'About', rest: ' this model', build: buildAbout },
];

/** @param {Model} model */
function showTabs(model) {
  const tabs = TABS.filter(({ key }) => (key === 'label' ? model.labeling : model.answers || key === 'about'));
  /** @type {Map<string, Part>} */
  const parts = new Map();
  /** @type {Map<string, HTMLButtonElement>} */
  const buttons = new Map();
  let current = '';

  /** @param {string} key */
  const choose = (key) => {
    if (key === current) return;
    parts.get(current)?.hidden?.();
    for (const tab of tabs) {
      const button = /** @type {HTMLButtonElement} */ (buttons.get(tab.key));
      button.setAttribute('aria-selected', String(tab.key === key));
      button.tabIndex = tab.key === key ? 0 : -1;
      /** @type {HTMLElement} */ (document.getElementById(`panel-${tab.key}`)).hidden = tab.key !== key;
    }
    const tab = /** @type {Tab} */ (tabs.find((one) => one.key === key));
    if (!parts.has(key)) {
      const part = tab.build(model, (file) => {
        buttons.get('one')?.click();
        buttons.get('one')?.focus();
        parts.get('one')?.take?.(file);
      });
      parts.set(key, part);
      fill(/** @type {HTMLElement} */ (document.getElementById(`panel-${key}`)), part.panel);
    }
    current = key;
    document.title = `${tab.name}${tab.rest} · ${model.name} · Isograft`;
    parts.get(key)?.shown?.();
  };

  for (const { key, name, rest } of tabs) {
    const open = (/** @type {MouseEvent} */ event) => {
      history.replaceState(null, '', `#${key}`);
      choose(key);
      // A pointer, not a key: the arrow keys are to move in the tab, not between the tabs.
      if (event.detail > 0) parts.get(key)?.focus?.();
    };
    const button = el('button', { type: 'button', role: 'tab', id: `tab-${key}`, className: 'tab', onclick: open, 'aria-controls': `panel-${key}`, 'aria-label': name + rest }, name, el('span', { className: 'words' }, rest));
    buttons.set(key, button);
  }
  bar.addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const at = tabs.findIndex((tab) => tab.key === current);
    const to = event.key === 'Home' ? 0 : event.key === 'End' ? tabs.length - 1 : step === undefined ? -1 : (at + step + tabs.length) % tabs.length;
    const next = tabs[to];
    if (!next) return;
    event.preventDefault();
    event.stopPropagation();
    buttons.get(next.key)?.click();
    buttons.get(next.key)?.focus();
  });
  fill(bar, [...buttons.values()]);
  fill(
    content,
    tabs.map(({ key }) => el('section', { id: `panel-${key}`, role: 'tabpanel', className: 'panel', hidden: true, 'aria-labelledby': `tab-${key}` })),
  );
  const wanted = () => tabs.find((tab) => `#${tab.key}` === location.hash)?.key;
  addEventListener('hashchange', () => {
    if (takeToken()) return;
    const key = wanted();
    if (key) choose(key);
  });
  choose(wanted() ?? (model.labeling ? 'label' : 'one'));
}

async function start() {
  const name = /** @type {HTMLElement} */ (document.getElementById('name'));
  const footer = /** @type {HTMLElement} */ (document.getElementById('footer'));
  startTheme(/** @type {HTMLButtonElement} */ (document.getElementById('theme')));
  startConnection(connection, /** @type {HTMLElement} */ (document.getElementById('connection')));
  // A file dropped beside its place must not take the reader away from the page.
  for (const type of ['dragover', 'drop']) addEventListener(type, (event) => event.preventDefault());
  takeToken();
  try {
    const model = /** @type {Model} */ (await patiently(() => json('api/model'), new AbortController().signal));
    expectModel(model.content_hash);
    name.textContent = model.name;
    fill(footer, `Isograft ${model.version}. Images go to the server that this page came from and nowhere else; it keeps none of them.`);
    showTabs(model);
  } catch (error) {
    const sentence = error instanceof Refused ? error.message : String(error);
    fill(content, el('div', { className: 'warning', role: 'alert' }, el('p', {}, sentence), el('p', {}, 'Load this page again when that is solved.')));
  }
}

start();
