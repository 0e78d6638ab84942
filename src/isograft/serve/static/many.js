/** Many images: a few at a time, a table that can be sorted, and the table that `isograft predict` would write. */

import { Outdated } from './api.js';
import { answerTable } from './table.js';
import { looksLikeFormula, rowsOf, toCsv } from './csv.js';
import { button, download, el, fill } from './dom.js';
import { ACCEPTED, dropZone, fileChooser, imagesAmong, placeOf } from './files.js';
import { askAll } from './queue.js';
import { counted, tooLarge } from './words.js';

/**
 * @typedef {import('./words.js').Model} Model
 * @typedef {import('./queue.js').Item} Item
 */

const EVERY = 300;

/**
 * @param {Model} model
 * @param {(file: File) => void} open shows one file in the first tab
 * @returns {import('./main.js').Part}
 */
export function buildMany(model, open) {
  /** @type {Item[]} */
  let items = [];
  /** @type {AbortController | null} */
  let running = null;
  let active = false;
  let timer = 0;
  let told = 0;

  const status = el('p', { className: 'unseen', role: 'status' });
  const notes = el('div', {});
  const bar = el('progress', { max: 1, value: 0, 'aria-label': 'Images answered' });
  const count = el('span', { className: 'count' });
  const stop = button('Stop', () => running?.abort());
  const goOn = button('Go on', () => run(), 'main');
  const clear = button('Clear the list', () => reset());
  const save = button('Download as CSV', () => download(toCsv(rowsOf(items), model), 'predictions.csv', 'text/csv;charset=utf-8'), 'main');
  const summary = el('p', { className: 'summary' });
  const control = el('div', { className: 'control', hidden: true }, el('div', { className: 'progress' }, bar, count), el('div', { className: 'row' }, stop, goOn, save, clear), summary);
  const table = answerTable(model, (uri) => {
    const item = items.find((one) => one.uri === uri);
    if (item) open(item.file);
  });

  const draw = () => {
    timer = 0;
    const rows = rowsOf(items);
    const done = items.filter((item) => item.state === 'done').length;
    bar.max = Math.max(1, items.length);
    bar.value = done;
    count.textContent = `${done.toLocaleString('en')} of ${counted(items.length, 'file')}`;
    control.hidden = items.length === 0;
    zone.classList.toggle('is-small', items.length > 0);
    stop.hidden = running === null;
    goOn.hidden = running !== null || done === items.length;
    clear.hidden = running !== null;
    save.disabled = rows.length === 0;
    summary.textContent = inSummary(rows, items.length - done);
    table.update(rows);
    // Readers who listen are told now and then, not at every file.
    const tenth = items.length === 0 ? 0 : Math.floor((10 * done) / items.length);
    if (tenth !== told || done === items.length) status.textContent = `${count.textContent} answered.`;
    told = tenth;
  };
  const changed = () => {
    if (timer === 0) timer = setTimeout(draw, EVERY);
  };
  const run = async () => {
    const mine = (running = new AbortController());
    draw();
    try {
      await askAll(items, mine.signal, (file) => tooLarge(file, model), changed);
    } catch (error) {
      if (!(error instanceof Outdated)) throw error;
      mine.abort();
    }
    if (running === mine) running = null;
    draw();
    const waiting = items.some((item) => item.state === 'waiting');
    if (waiting && !mine.signal.aborted) run();
  };
  const reset = () => {
    items = [];
    fill(notes);
    draw();
  };
  /** @param {File[]} files @param {boolean} folder */
  const take = (files, folder) => {
    const { wanted, others } = folder ? imagesAmong(files) : { wanted: files, others: 0 };
    const taken = new Map(items.map((item) => [item.uri, item.file]));
    const fresh = wanted.filter((file) => {
      const uri = freeName(placeOf(file), file, taken);
      if (uri === null) return false;
      taken.set(uri, file);
      items.push({ file, uri, state: 'waiting', answers: [], status: '', reason: '' });
      return true;
    });
    const again = wanted.length - fresh.length;
    const odd = fresh.map(placeOf).filter(looksLikeFormula);
    fill(
      notes,
      others > 0 && el('p', { className: 'hint' }, `${counted(others, 'file')} of the folder ${others === 1 ? 'is' : 'are'} not images by their names and ${others === 1 ? 'is' : 'are'} passed over.`),
      again > 0 && el('p', { className: 'hint' }, `${counted(again, 'file')} ${again === 1 ? 'is' : 'are'} in the list already and ${again === 1 ? 'was' : 'were'} not added again.`),
      odd.length > 0 && el('p', { className: 'hint' }, `${counted(odd.length, 'name')} (such as ${odd[0]}) could be taken for a formula by a spreadsheet; the CSV writes ./ before ${odd.length === 1 ? 'it' : 'them'}, which names the same file.`),
    );
    draw();
    if (fresh.length > 0 && running === null) run();
  };

  const zone = dropZone(
    { drop: 'Drop images or a folder here', touch: 'Which images?', hint: el('p', { className: 'quiet' }, 'Every file gets a row, also one that cannot be read.') },
    [
      fileChooser('Choose images', { accept: ACCEPTED, multiple: true }, (files) => take(files, false), 'main'),
      fileChooser('Choose a folder', { webkitdirectory: true, multiple: true }, (files) => take(files, true), 'no-touch'),
    ],
    () => active,
    take,
    true,
  );
  return { panel: el('div', {}, zone, status, notes, control, table.root), shown: () => (active = true), hidden: () => (active = false) };
}

/**
 * @param {import('./csv.js').Row[]} rows
 * @param {number} open files that wait
 */
function inSummary(rows, open) {
  const answers = rows.flatMap((row) => row.answer ?? []);
  const abstained = answers.filter((answer) => answer.abstain).length;
  const outside = answers.filter((answer) => answer.out_of_domain).length;
  const bad = rows.length - answers.length;
  const known = answers.some((answer) => answer.abstain !== null);
  return [
    `${counted(answers.length, 'image')} answered`,
    known && `${abstained.toLocaleString('en')} for a person to decide (the model abstains)`,
    answers.some((answer) => answer.out_of_domain !== null) && `${outside.toLocaleString('en')} out of domain`,
    `${counted(bad, 'file')} without an answer`,
    open > 0 && `${open.toLocaleString('en')} still to ask`,
  ].filter(Boolean).join(' · ');
}

/**
 * A name for a file that no other file in the list has: its own, or with a number behind it; null for one that is in the list already.
 * @param {string} name
 * @param {File} file
 * @param {Map<string, File>} taken
 */
function freeName(name, file, taken) {
  for (let number = 1; ; number += 1) {
    const tried = number === 1 ? name : `${name} (${number})`;
    const other = taken.get(tried);
    if (other === undefined) return tried;
    if (other.size === file.size && other.lastModified === file.lastModified) return null;
  }
}
