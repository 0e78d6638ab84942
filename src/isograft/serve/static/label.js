/** Labeling: one image, one key. Every label is on disk before it is called saved. */

import { Outdated, connection, json, patiently } from './api.js';
import { button, el, fill, freshId } from './dom.js';
import { Desk, keysFor } from './desk.js';
import { Reel } from './reel.js';
import { Saver } from './saver.js';

/**
 * @typedef {import('./words.js').Model} Model
 * @typedef {{row: number, uri: string, why: string | null, predicted: string | null, label: string | null}} Row
 * @typedef {{table: string, classes: string[], rows: Row[], done: number, total: number, out: string}} Labeling
 */

/**
 * @param {Model} model
 * @returns {import('./main.js').Part}
 */
export function buildLabel(model) {
  const panel = el('div', {}, el('p', { className: 'quiet', role: 'status' }, 'Loading the images to label…'));
  let active = false;
  const load = async () => {
    try {
      const labeling = await patiently(() => json('api/labeling'), new AbortController().signal);
      fill(panel, view(model, labeling, () => active));
    } catch (error) {
      fill(panel, el('p', { className: 'warning', role: 'alert' }, error instanceof Error ? error.message : String(error)), button('Try again', load));
    }
  };
  load();
  return { panel, shown: () => (active = true), hidden: () => (active = false), focus: () => stageIn(panel)?.focus() };
}

/**
 * @param {HTMLElement} panel
 * @returns {HTMLElement | null}
 */
function stageIn(panel) {
  return panel.querySelector('.label-stage');
}

/**
 * @param {Model} model
 * @param {Labeling} labeling
 * @param {() => boolean} active
 */
function view(model, labeling, active) {
  const desk = new Desk(labeling.rows);
  const reel = new Reel(labeling.table);
  const keys = keysFor(labeling.classes);
  let seen = -1;
  /** Why no label is taken any more, if so. */
  let stopped = '';
  /** What the server has on its disk. */
  const kept = new Map(labeling.rows.map((row) => [row.row, row.label]));

  const bar = el('progress', { max: Math.max(1, labeling.total), 'aria-label': 'Images labeled' });
  const count = el('span', { className: 'count' });
  const place = el('p', { className: 'place' });
  const stage = el('div', { className: 'label-stage', tabIndex: -1 });
  const status = el('p', { className: 'save-state', role: 'status' }, 'Every label is saved as soon as it is given.');
  const finished = el('div', { className: 'note', hidden: true });
  const suggestion = el('p', { className: 'suggestion', hidden: true });
  const toggle = el('input', { type: 'checkbox', id: freshId('suggest'), 'aria-describedby': 'suggest-why' });
  toggle.addEventListener('change', () => draw());

  const saver = new Saver(labeling.table, (state) => {
    status.className = `save-state${state.trouble ? ' is-bad' : ''}`;
    if (state.saved) kept.set(state.saved.row, state.saved.label);
    if (state.refused) {
      const { row, label } = state.refused;
      desk.give(row, kept.get(row) ?? null);
      status.textContent = `⚠ Image ${desk.at(row) + 1} was not labeled ${label}, and stays as it was: ${state.trouble}.`;
    } else if (stopped) {
      end(stopped);
    } else if (state.trouble) {
      const many = state.waiting === 1 ? 'One label is' : `${state.waiting} labels are`;
      status.textContent = `⚠ ${many} not saved yet and kept here; trying again. ${state.trouble}`;
    } else if (state.saved) {
      const { row, label } = state.saved;
      const what = label === null ? 'has no label' : `is ${label}`;
      status.textContent = state.waiting > 0 ? `Saving, ${state.waiting} to go…` : `✓ Saved: image ${desk.at(row) + 1} ${what}.`;
    }
    draw();
  });
  /** @param {string} why */
  const end = (why) => {
    stopped = why;
    status.className = 'save-state is-bad';
    const many = saver.waiting === 1 ? 'One label was not saved and is' : `${saver.waiting} labels were not saved and are`;
    status.textContent = `⚠ No more labels are taken: ${why}.${saver.waiting > 0 ? ` ${many} kept in this tab for the table they were given to.` : ''}`;
  };
  connection.addEventListener('outdated', (event) => end(/** @type {CustomEvent} */ (event).detail));
  for (const [row, label] of saver.left()) if (desk.give(row, label)) saver.put(row, label);
  desk.begin();

  const buttons = labeling.classes.map((name, at) => {
    const key = keys[at];
    return button([key && el('kbd', {}, key.toUpperCase()), el('span', {}, name)], () => give(name), 'class-button');
  });

  /** @param {string | null} name */
  const give = (name) => {
    const row = desk.current;
    if (!row || stopped) return;
    if (seen !== row.row) {
      status.textContent = 'The image is not shown yet, so the key was ignored.';
      return;
    }
    if (desk.label(name)) {
      status.className = 'save-state';
      status.textContent = name === null ? 'Saving: no label…' : `Saving ${name}…`;
      saver.put(row.row, name);
    }
    draw();
  };
  const undo = () => {
    if (stopped) return;
    const change = desk.undo();
    if (change === null) {
      status.textContent = 'Nothing to undo.';
      return;
    }
    if (change.saved) {
      status.className = 'save-state';
      status.textContent = 'Undoing…';
      saver.put(change.row, change.label);
    }
    draw();
  };
  const move = (/** @type {number} */ step) => (desk.move(step), draw());
  const skip = () => (desk.skip(), draw());
  /** @type {Record<string, () => void>} */
  const acts = { arrowleft: () => move(-1), arrowright: () => move(1), u: undo, s: skip, backspace: () => give(null) };

  const draw = () => {
    const row = desk.current;
    const done = desk.done;
    bar.value = done;
    count.textContent = `${done} of ${labeling.total} labeled`;
    if (!row) return;
    fill(place, el('strong', {}, `Image ${desk.place + 1} of ${labeling.total}`), ` · ${row.uri.split('/').pop()} · `, row.label === null ? (desk.skipped(row) ? 'skipped' : 'no label yet') : `labeled ${row.label}`);
    buttons.forEach((one, at) => one.setAttribute('aria-pressed', String(labeling.classes[at] === row.label)));
    suggestion.hidden = !toggle.checked;
    suggestion.textContent = [row.predicted ? `The model says ${row.predicted}.` : 'The table has no answer of a model to this image.', row.why ? `Chosen because: ${row.why}.` : ''].join(' ');
    finished.hidden = done < labeling.total || saver.waiting > 0;
    if (stage.dataset.row !== String(row.row)) show(row);
  };

  /** @param {Row} row */
  const show = async (row) => {
    stage.dataset.row = String(row.row);
    seen = -1;
    stage.classList.add('is-waiting');
    try {
      const url = await reel.get(row.row);
      const image = el('img', { src: url, alt: `Image ${desk.at(row.row) + 1}, to be labeled.` });
      await image.decode();
      if (stage.dataset.row !== String(row.row)) return;
      fill(stage, image);
      seen = row.row;
    } catch (error) {
      if (stage.dataset.row !== String(row.row)) return;
      fill(stage, el('p', { className: 'warning' }, error instanceof Error ? error.message : String(error), error instanceof Outdated ? '.' : ' Skip it with S.'));
    }
    stage.classList.remove('is-waiting');
    for (const next of desk.ahead(2)) reel.get(next.row).catch(() => undefined);
  };

  document.addEventListener('keydown', (event) => {
    const typing = event.target instanceof Element && event.target.closest('select, textarea, dialog, input:not([type=checkbox])');
    if (!active() || typing || event.altKey) return;
    const letter = event.key.toLowerCase();
    const command = event.ctrlKey || event.metaKey;
    const named = labeling.classes[keys.indexOf(letter)];
    const act = command ? (letter === 'z' ? undo : undefined) : (acts[letter] ?? (named === undefined ? undefined : () => give(named)));
    if (!act) return;
    event.preventDefault();
    if (event.target instanceof Element && event.target.closest('[role=tab]')) stage.focus();
    // A key that is held down labels one image, not all that follow.
    if (!event.repeat || letter.startsWith('arrow')) act();
  });

  fill(finished, ending(model, labeling));
  draw();
  return [
    el('div', { className: 'label-top' }, el('div', { className: 'progress' }, bar, count), place),
    stage,
    el('div', { className: 'classes', role: 'group', 'aria-label': 'Label of this image' }, buttons),
    el('div', { className: 'row label-tools' }, tool('← Back', 'Left arrow', () => move(-1)), tool('Undo', 'U', undo), tool('Skip', 'S', skip), tool('Next →', 'Right arrow', () => move(1))),
    status,
    finished,
    el(
      'div',
      { className: 'block' },
      el('p', { className: 'check' }, toggle, el('label', { for: toggle.id }, 'Show what the model says')),
      el('p', { className: 'quiet', id: 'suggest-why' }, 'Hidden at first: who has seen an answer tends to agree with it, and labels that repeat the model teach it nothing.'),
      suggestion,
      el('details', {}, el('summary', {}, 'Keys'), keyHelp()),
      el('p', { className: 'quiet' }, 'The labels are written to ', el('code', {}, labeling.out), ' after every key.'),
    ),
  ];
}

/**
 * @param {string} text
 * @param {string} key
 * @param {() => void} act
 */
function tool(text, key, act) {
  const made = button(text, act);
  made.title = `Key: ${key}`;
  return made;
}

function keyHelp() {
  const keys = [['1 … 9, then letters', 'label the image and go on to the next without a label'], ['← →', 'move without labeling'], ['U or Ctrl+Z', 'undo, as often as needed'], ['S', 'skip: the image comes again at the end'], ['Backspace', 'take the label away']];
  return el('dl', { className: 'keys' }, keys.map(([key, does]) => [el('dt', {}, el('kbd', {}, key ?? '')), el('dd', {}, does ?? '')]).flat());
}

/**
 * @param {Model} model
 * @param {Labeling} labeling
 */
function ending(model, labeling) {
  const quoted = (/** @type {string} */ text) => (/^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
  return [
    el('p', {}, el('strong', {}, 'All images are labeled and saved.'), ' Train on the labels, in the folder of the manifest and the model, with'),
    el('pre', { tabIndex: 0 }, `isograft finetune ${quoted(labeling.out)} --init ${quoted(model.name)} --out ${quoted(`${model.name}-2`)}`),
  ];
}
