/** What speaks for a class, laid over the image. It comes after the answer and may be asked for another class. */

import { patiently, send } from './api.js';
import { button, el, fill, freshId } from './dom.js';
import { short } from './words.js';

/**
 * @typedef {import('./words.js').Model} Model
 * @typedef {import('./words.js').Answer} Answer
 */

const USUAL = 60;

/**
 * A section that fills itself.
 * @param {Model} model
 * @param {File} file
 * @param {Answer} answer
 * @param {AbortSignal} signal ends it when another image is asked about
 * @param {(image: string) => void} onImage is given the image as the server read it
 * @returns {HTMLElement}
 */
export function showHeatmap(model, file, answer, signal, onImage) {
  const about = /** @type {Record<string, any>} */ (model.heatmap);
  const stage = el('div', { className: 'stage' });
  const side = el('div', { className: 'stage-text' });
  const status = el('p', { className: 'quiet', role: 'status' });
  const choice = el(
    'select',
    { id: freshId('target') },
    Object.keys(answer.probabilities).map((name) => el('option', { value: name, selected: name === answer.predicted }, name)),
  );
  let strength = USUAL;
  let latest = 0;

  const load = async () => {
    const mine = (latest += 1);
    const target = choice.value;
    status.textContent = `Computing what speaks for ${target}…`;
    section.setAttribute('aria-busy', 'true');
    stage.classList.add('is-waiting');
    const tell = (/** @type {string} */ trouble) => (status.textContent = trouble);
    try {
      const told = await patiently(() => send('api/explain', file, { part: answer.part, target }, signal), signal, tell);
      if (signal.aborted || mine !== latest) return;
      onImage(told.image);
      draw(told);
      status.textContent = '';
    } catch (error) {
      if (signal.aborted || mine !== latest) return;
      fill(stage);
      fill(side);
      fill(status, error instanceof Error ? error.message : String(error), ' ', button('Try again', load));
    } finally {
      if (mine === latest) {
        section.removeAttribute('aria-busy');
        stage.classList.remove('is-waiting');
      }
    }
  };

  /** @param {Record<string, any>} told */
  const draw = (told) => {
    const image = el('img', { src: told.image, alt: 'The image as the model sees it.', className: 'under' });
    const place = told.where ? `The largest value lies ${told.where}.` : `Nothing in the image speaks for ${told.target}.`;
    const heat = el('img', { src: told.heat, alt: `Heatmap of what speaks for ${told.target}. ${place}`, className: 'over' });
    const slider = el('input', { type: 'range', min: 0, max: 100, step: 5, value: strength, id: freshId('strength'), className: 'strength' });
    const value = el('output', { for: slider.id });
    const apply = () => {
      strength = Number(slider.value);
      heat.style.opacity = String(strength / 100);
      // The photograph turns grey under the colours, so that none of its own is taken for one of the map.
      image.style.filter = `grayscale(${Math.min(1, strength / 40)})`;
      value.textContent = `${strength} %`;
      slider.setAttribute('aria-valuetext', strength === 0 ? 'off, the image alone' : `${strength} percent`);
    };
    slider.addEventListener('input', apply);
    apply();
    fill(stage, el('div', { className: 'layers' }, image, heat));
    fill(
      side,
      el('div', { className: 'field' }, el('label', { for: slider.id }, 'Strength of the colours'), el('div', { className: 'slide' }, slider, value)),
      legend(told),
      el('p', {}, el('strong', {}, 'In words: '), place),
      el('p', {}, el('strong', {}, `What ${told.title} shows: `), told.shows),
      el('p', {}, el('strong', {}, 'What it cannot: '), told.limits),
      told.note && el('p', { className: 'hint' }, told.note),
    );
  };

  const section = el(
    'section',
    { className: 'block heatmap' },
    el('h2', {}, 'Where the model looks'),
    el('div', { className: 'field' }, el('label', { for: choice.id }, 'What speaks for'), choice),
    status,
    el('div', { className: 'stage-row' }, stage, side),
    el('p', { className: 'quiet' }, `Why ${about.title}: ${about.reason}.`),
  );
  choice.addEventListener('change', load);
  load();
  return section;
}

/** @param {Record<string, any>} told */
function legend(told) {
  const [low, high] = told.ends;
  return el(
    'figure',
    { className: 'legend' },
    el('img', { src: told.legend, alt: '' }),
    el(
      'figcaption',
      {},
      el('span', {}, `${end(low)} `, told.signed ? 'against' : 'nothing'),
      told.signed && el('span', {}, 'neither'),
      el('span', {}, told.signed ? 'for ' : 'most ', end(high)),
    ),
    el('p', { className: 'quiet' }, `Speaks for ${told.target}, in ${told.unit}.`),
  );
}

/** @param {string | number} value */
function end(value) {
  return typeof value === 'number' ? short(value) : value;
}
