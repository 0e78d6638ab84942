/** One image: it is dropped, pasted or chosen; the answer comes first, what explains it follows. */

import { showAnswer } from './answer.js';
import { Refused, patiently, send } from './api.js';
import { button, el, fill, freshId } from './dom.js';
import { ACCEPTED, dropZone, fileChooser } from './files.js';
import { showHeatmap } from './heatmap.js';
import { showSimilar } from './similar.js';
import { counted, inShort, inWords, listed, partInWords, size, tooLarge } from './words.js';

/**
 * @typedef {import('./words.js').Model} Model
 * @typedef {import('./words.js').Answer} Answer
 */

/**
 * @param {Model} model
 * @returns {import('./main.js').Part}
 */
export function buildOne(model) {
  const status = el('p', { className: 'unseen', role: 'status' });
  const result = el('div', { className: 'result' }, before(model));
  let controller = new AbortController();
  let active = false;

  /** @param {File[]} files */
  const take = (files) => {
    const [file] = files;
    if (!file) return;
    controller.abort();
    controller = new AbortController();
    zone.classList.add('is-small');
    const more = files.length > 1 ? `${counted(files.length, 'file')} were given; this is the first. The tab “Many images” takes them all.` : '';
    fill(result, asked(model, file, more, controller.signal, status));
  };

  const zone = dropZone(
    { drop: 'Drop an image here', touch: 'Which image?', hint: el('p', { className: 'quiet no-touch' }, 'or paste one, or choose a file: a photograph, a scan, DICOM') },
    [fileChooser('Choose an image', { accept: ACCEPTED }, take, 'main'), fileChooser('Take a photo', { accept: 'image/*', capture: 'environment' }, take, 'only-touch')],
    () => active,
    take,
  );
  addEventListener('paste', (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (active && files.length > 0) take(files);
  });
  const panel = el('div', {}, zone, status, result);
  return { panel, shown: () => (active = true), hidden: () => (active = false), take: (file) => take([file]) };
}

/**
 * What is said before there is an image.
 * @param {Model} model
 */
function before(model) {
  const tells = model.calibrated
    ? 'The answer says which classes cannot be ruled out, how probable each is, and when not to rely on the model.'
    : 'The answer says how probable the model takes each class to be; that was never calibrated.';
  return el(
    'div',
    { className: 'before' },
    el('p', {}, 'This model tells apart ', el('strong', {}, listed(model.classes, 'and')), '.'),
    el('p', {}, tells),
    el('p', { className: 'quiet' }, 'It knows only the kind of images that it was trained on: see “About this model”.'),
  );
}

/**
 * What is shown of one file; it fills itself.
 * @param {Model} model
 * @param {File} file
 * @param {string} more a remark
 * @param {AbortSignal} signal
 * @param {HTMLElement} status
 */
function asked(model, file, more, signal, status) {
  const picture = preview(file, signal);
  const main = el('div', { className: 'answer', 'aria-busy': 'true' });
  const after = el('div', { className: 'after' });
  const chooser = el('div', { className: 'frames' });

  /** @param {Answer} answer */
  const show = (answer) => {
    fill(main, showAnswer(answer, model));
    picture.describe(answer);
    let frame = new AbortController();
    signal.addEventListener('abort', () => frame.abort(), { once: true });
    stopFrame = () => frame.abort();
    fill(
      after,
      model.heatmap && showHeatmap(model, file, answer, frame.signal, picture.replace),
      model.similar && showSimilar(model, file, answer, frame.signal),
    );
    status.textContent = `${answer.part ? `${partInWords(answer.part)}: ` : ''}${inWords(answer, model).title}.`;
  };
  let stopFrame = () => {};

  /** @param {unknown} error */
  const fail = (error) => {
    const sentence = error instanceof Error ? error.message : String(error);
    status.textContent = sentence;
    const again = error instanceof Refused && error.status >= 500;
    fill(
      main,
      el(
        'div',
        { className: 'warning' },
        el('p', { className: 'warning-title' }, el('span', { 'aria-hidden': 'true' }, '⚠ '), 'No answer to this file'),
        el('p', { className: 'sentence' }, sentence),
        again && button('Try again', load),
      ),
    );
  };
  const wait = (/** @type {string} */ words) => {
    fill(main, el('p', { className: 'waiting' }, words));
    status.textContent = words;
  };
  const load = async () => {
    wait('Asking the model…');
    const large = tooLarge(file, model);
    try {
      if (large) throw new Refused(413, large);
      const { answers } = /** @type {{answers: Answer[]}} */ (await patiently(() => send('api/predict', file, {}, signal), signal, (trouble) => wait(`${trouble} Waiting for it…`)));
      if (signal.aborted) return;
      if (answers.length > 1) fill(chooser, frameChooser(answers, (answer) => (stopFrame(), show(answer))));
      if (answers[0]) show(answers[0]);
    } catch (error) {
      if (!signal.aborted) fail(error);
    } finally {
      main.removeAttribute('aria-busy');
    }
  };
  load();
  return [more && el('p', { className: 'hint' }, more), el('div', { className: 'asked' }, el('div', { className: 'asked-side' }, picture.figure, chooser), main), after];
}

/**
 * The image as the browser shows it, or as the server read it where the browser cannot.
 * @param {File} file
 * @param {AbortSignal} signal
 */
function preview(file, signal) {
  const url = URL.createObjectURL(file);
  signal.addEventListener('abort', () => URL.revokeObjectURL(url), { once: true });
  let own = true;
  const frame = el('div', { className: 'preview' });
  const image = el('img', { src: url, alt: 'The image that was given.' });
  image.addEventListener('error', () => {
    own = false;
    if (image.isConnected) fill(frame, el('p', { className: 'quiet' }, 'No preview in this browser'));
  });
  fill(frame, image);
  const facts = el('span', { className: 'quiet' }, size(file.size));
  const note = el('p', { className: 'quiet' });
  const figure = el('figure', { className: 'picture' }, frame, el('figcaption', {}, el('span', { className: 'file-name' }, file.name || 'Pasted image'), ' ', facts, note));
  return {
    figure,
    /** @param {Answer} answer */
    describe(answer) {
      facts.textContent = `${answer.width} × ${answer.height} px, ${size(file.size)}`;
      note.textContent = answer.note ?? '';
    },
    /** @param {string} src */
    replace(src) {
      if (!own) fill(frame, el('img', { src, alt: 'The image as the server read it.' }));
    },
  };
}

/**
 * @param {Answer[]} answers of one file
 * @param {(answer: Answer) => void} choose
 */
function frameChooser(answers, choose) {
  const select = el(
    'select',
    { id: freshId('frame') },
    answers.map((answer, at) => el('option', { value: String(at) }, `${partInWords(answer.part)}: ${inShort(answer)}`)),
  );
  const go = (/** @type {number} */ step) => {
    const at = Math.max(0, Math.min(answers.length - 1, Number(select.value) + step));
    if (step !== 0 && at === Number(select.value)) return;
    select.value = String(at);
    choose(/** @type {Answer} */ (answers[at]));
  };
  select.addEventListener('change', () => go(0));
  return [
    el('label', { for: select.id }, `This file holds ${counted(answers.length, 'image')}`),
    el('div', { className: 'frame-row' }, arrow('‹', 'Image before', () => go(-1)), select, arrow('›', 'Next image', () => go(1))),
  ];
}

/**
 * @param {string} sign
 * @param {string} name
 * @param {() => void} act
 */
function arrow(sign, name, act) {
  const made = button(sign, act);
  made.setAttribute('aria-label', name);
  return made;
}
