/** The answer to one image: what it is in words, how far to trust it, then the numbers. */

import { button, el } from './dom.js';
import { heldClasses, inWords, percent, share, short } from './words.js';

/**
 * @typedef {import('./words.js').Model} Model
 * @typedef {import('./words.js').Answer} Answer
 */

const SHOWN = 12;

/**
 * @param {Answer} answer
 * @param {Model} model
 * @returns {HTMLElement}
 */
export function showAnswer(answer, model) {
  const { title, detail, promise } = inWords(answer, model);
  const doubtful = answer.abstain !== false || answer.out_of_domain === true;
  return el(
    'div',
    { className: 'answer-parts' },
    el(
      'div',
      { className: `verdict${doubtful ? ' is-doubtful' : ''}` },
      el('h2', { className: 'verdict-title', tabIndex: -1 }, title),
      el('p', {}, detail),
      promise && el('p', { className: 'quiet' }, promise),
    ),
    caution(answer, model),
    probabilities(answer, model),
    thresholds(answer, model),
  );
}

/**
 * @param {Answer} answer
 * @param {Model} model
 */
function caution(answer, model) {
  const far = answer.domain_distance === null ? '' : ` Its distance to them is ${short(answer.domain_distance)}; 1 is the border.`;
  if (answer.out_of_domain) {
    return warning(
      'Outside what this model knows',
      `The image is farther from all labeled images of the training than 99 % of such images are.${far} The answer means little.`,
      'Check that it is the kind of image the model was made for, sharp, and with the whole finding in view. If it is, rely on a person, not on this answer.',
    );
  }
  const left = heldClasses(answer);
  if (answer.abstain && (left === null || left.length === 1)) {
    return warning('The model abstains', `${answer.note ?? ''}.`, 'Give the whole image, as the camera or the scanner made it.');
  }
  if (answer.abstain) {
    return warning(
      'The model abstains',
      left?.length === 0 ? 'The image fits none of its classes.' : 'The image fits more than one class, so that naming one would promise too much.',
      'Let a person decide. A sharper image, or one with the whole finding in view, may help.',
    );
  }
  if (!model.calibrated) {
    return warning('Not calibrated', `Nothing says when not to rely on this model, and its probabilities may be too sure of themselves: ${model.missing}.`, '');
  }
  if (answer.out_of_domain === null) {
    return el('p', { className: 'hint' }, 'Whether the image is of a kind the model knows cannot be told: the model was handed on without its labeled cases.');
  }
  return el('p', { className: 'hint' }, el('span', { 'aria-hidden': 'true' }, '✓ '), `One class is left, and the image is like those of the training.${far}`);
}

/**
 * @param {string} title
 * @param {string} meaning
 * @param {string} act
 */
function warning(title, meaning, act) {
  return el(
    'div',
    { className: 'warning', role: 'note' },
    el('p', { className: 'warning-title' }, el('span', { 'aria-hidden': 'true' }, '⚠ '), title),
    el('p', {}, meaning),
    act && el('p', {}, el('strong', {}, 'What to do: '), act),
  );
}

/**
 * @param {Answer} answer
 * @param {Model} model
 */
function probabilities(answer, model) {
  const held = heldClasses(answer) ?? [];
  const sorted = Object.entries(answer.probabilities).sort((a, b) => b[1] - a[1]);
  const row = (/** @type {[string, number]} */ [name, p]) => {
    const bar = el('span', { className: 'bar-fill' });
    bar.style.width = `${100 * p}%`;
    const mark = held.includes(name) && el('span', { className: 'mark' }, 'cannot be ruled out');
    return el(
      'tr',
      { className: held.includes(name) ? 'is-held' : '' },
      el('th', { scope: 'row' }, el('span', { className: 'class-name' }, name), ' ', mark),
      el('td', { className: 'bar-cell', 'aria-hidden': 'true' }, el('span', { className: 'bar' }, bar)),
      el('td', { className: 'number', title: String(p) }, percent(p)),
    );
  };
  const body = el('tbody', {}, sorted.slice(0, SHOWN).map(row));
  const more = sorted.length > SHOWN && button(`Show all ${sorted.length} classes`, () => {
    body.append(...sorted.slice(SHOWN).map(row));
    more.remove();
  });
  const always = model.always_held.filter((name) => held.includes(name));
  return el(
    'section',
    { className: 'block' },
    el('h3', {}, model.calibrated ? 'Probabilities' : 'Scores, not calibrated'),
    el(
      'table',
      { className: 'bars' },
      el('caption', { className: 'unseen' }, 'Probability of each class, largest first'),
      el('thead', { className: 'unseen' }, el('tr', {}, el('th', { scope: 'col' }, 'Class'), el('td', {}), el('th', { scope: 'col' }, 'Probability'))),
      body,
    ),
    more,
    model.calibrated
      ? el('p', { className: 'quiet' }, `Calibrated on ${model.fitted_on}: of images given 70 %, about 70 in 100 should be of that class.`)
      : null,
    always.length > 0 && el('p', { className: 'quiet' }, `Never ruled out, since too few images of it were held out to learn when that is safe: ${always.join(', ')}.`),
  );
}

/**
 * @param {Answer} answer
 * @param {Model} model
 */
function thresholds(answer, model) {
  const named = model.points.filter((point) => point.by_hand);
  if (named.length === 0) return null;
  return el(
    'section',
    { className: 'block' },
    el('h3', {}, 'Named thresholds'),
    el(
      'ul',
      { className: 'points' },
      named.map((point) => {
        const said = answer.points[point.name];
        const state = said === true ? 'positive' : said === false ? 'negative' : 'not known';
        const rule = point.threshold === null
          ? `no threshold: too few held-out images for ${point.of} ${atLeast(point.rule)}`
          : `${point.of} at ${percent(point.threshold)} or more, chosen for ${atLeast(point.rule)}`;
        return el(
          'li',
          { className: `point is-${state.replace(' ', '-')}` },
          el('span', { className: 'point-name' }, point.name),
          el('strong', { className: 'point-state' }, el('span', { 'aria-hidden': 'true' }, said ? '● ' : '○ '), state),
          el('span', { className: 'quiet' }, rule),
        );
      }),
    ),
  );
}

/** @param {string} rule such as `sensitivity >= 0.95` */
export function atLeast(rule) {
  const [measure, value] = rule.split('>=');
  return value === undefined ? rule : `${measure?.trim()} of at least ${share(Number(value))}`;
}
