/** Labeled images of the training that the model takes to be most like the one asked about. */

import { patiently, send } from './api.js';
import { button, el, fill } from './dom.js';

/**
 * @typedef {import('./words.js').Model} Model
 * @typedef {import('./words.js').Answer} Answer
 */

const COUNT = 6;

/**
 * A section that fills itself.
 * @param {Model} model
 * @param {File} file
 * @param {Answer} answer
 * @param {AbortSignal} signal ends it when another image is asked about
 * @returns {HTMLElement}
 */
export function showSimilar(model, file, answer, signal) {
  const status = el('p', { className: 'quiet', role: 'status' });
  const list = el('ol', { className: 'cases', role: 'list' });
  const load = async () => {
    status.textContent = 'Looking for similar cases…';
    const tell = (/** @type {string} */ trouble) => (status.textContent = trouble);
    try {
      const told = await patiently(() => send('api/similar', file, { part: answer.part, k: String(COUNT) }, signal), signal, tell);
      if (signal.aborted) return;
      fill(list, told.cases.map((/** @type {Record<string, any>} */ one, /** @type {number} */ at) => showCase(one, at)));
      status.textContent = told.cases.length === 0 ? 'The model keeps no labeled cases.' : '';
    } catch (error) {
      if (signal.aborted) return;
      fill(status, error instanceof Error ? error.message : String(error), ' ', button('Try again', load));
    }
  };
  load();
  return el(
    'section',
    { className: 'block' },
    el('h2', {}, 'Similar labeled cases'),
    status,
    list,
    el(
      'p',
      { className: 'quiet' },
      'The images of the training that the model takes to be most like this one, nearest first. Distance 0 is the same, 1 has nothing in common. Alike to the model is not the same as alike to an expert.',
      !model.thumbnails && ' This model was trained without keeping small pictures (isograft finetune --keep-thumbnails keeps them).',
    ),
  );
}

/**
 * @param {Record<string, any>} one
 * @param {number} at
 */
function showCase(one, at) {
  return el(
    'li',
    { className: 'case' },
    one.thumbnail
      ? el('img', { src: one.thumbnail, alt: `Training image labeled ${one.label}.`, width: 96, height: 96 })
      : el('div', { className: 'no-picture', 'aria-hidden': 'true' }, String(at + 1)),
    el('strong', {}, one.label),
    el('span', { className: 'quiet' }, `distance ${Number(one.distance).toFixed(3)}`),
    el('span', { className: 'quiet id' }, one.id),
  );
}
