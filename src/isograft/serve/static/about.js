/** What the model says about itself. */

import { atLeast } from './answer.js';
import { hasToken, json } from './api.js';
import { download, el } from './dom.js';
import { renderMarkdown } from './markdown.js';
import { listed, percent, share } from './words.js';

/**
 * @typedef {import('./words.js').Model} Model
 */

/**
 * @param {Model} model
 * @returns {import('./main.js').Part}
 */
export function buildAbout(model) {
  const panel = el(
    'div',
    { className: 'about' },
    el('h2', {}, 'In short'),
    facts(model),
    el('h2', {}, 'How its answers are to be taken'),
    reliance(model),
    points(model),
    el('h2', {}, 'Model card'),
    el('div', { className: 'card' }, renderMarkdown(model.card)),
    el('h2', {}, 'Lineage'),
    el('details', {}, el('summary', {}, 'Where the model comes from, how it was trained, and with which software'), el('pre', { tabIndex: 0 }, model.lineage)),
    el('h2', {}, 'For programs'),
    el('p', {}, 'Everything on this page can be asked over HTTP: ', openapi(), '.'),
  );
  return { panel };
}

/** @param {Model} model */
function reliance(model) {
  if (!model.answers) return el('p', {}, 'It gives none: this network was pretrained without labels. Label some images, and train a classifier from it with isograft finetune.');
  if (!model.calibrated) return el('div', { className: 'warning' }, el('p', {}, `Not calibrated: ${model.missing}. Nothing says when not to rely on this model.`));
  return el('p', {}, `Probabilities, prediction sets and thresholds were fitted on ${model.fitted_on}. They hold for images like those: the same clinics, cameras and mix of patients.`);
}

/** A link to the description of the interface; where a token is asked for, a link alone could not send it. */
function openapi() {
  const link = el('a', { href: 'api/openapi.json' }, 'description of the interface (OpenAPI)');
  link.addEventListener('click', async (/** @type {Event} */ event) => {
    if (!hasToken()) return;
    event.preventDefault();
    download(JSON.stringify(await json('api/openapi.json'), null, 1), 'openapi.json', 'application/json');
  });
  return link;
}

/** @param {Model} model */
function facts(model) {
  const rows = [
    model.answers ? ['Classes', model.classes.join(', ')] : null,
    ['Network', `${model.backbone}, ${model.image_size} × ${model.image_size} px, ${model.method}`],
    ['Made', model.created.replace('T', ' ').replace(/\+00:00$/, ' UTC')],
    model.licence ? ['Licence of the starting weights', model.licence] : null,
    model.coverage === null ? null : ['Prediction sets', `hold the true class in ${share(model.coverage)} of images like those of the training`],
    model.always_held.length > 0 ? ['Never ruled out', listed(model.always_held, 'and')] : null,
    !model.answers ? null : ['Out of domain', model.out_of_domain ? 'told by the distance to the labeled images of the training' : 'cannot be told'],
    !model.answers ? null : ['Similar cases', model.similar ? (model.thumbnails ? 'shown with small pictures' : 'shown without pictures') : 'none are kept'],
    ['Limits of this server', `${model.limits.megabytes} MB per file, ${model.limits.megapixels} megapixels per image`],
    ['Content hash', model.content_hash],
    ['Isograft', model.version],
  ];
  return el('dl', { className: 'facts' }, rows.flatMap((row) => (row ? [el('dt', {}, row[0] ?? ''), el('dd', {}, row[1] ?? '')] : [])));
}

/** @param {Model} model */
function points(model) {
  if (model.points.length === 0) return null;
  return el(
    'div',
    { className: 'wide', tabIndex: 0, role: 'region', 'aria-label': 'Thresholds' },
    el(
      'table',
      { className: 'plain-table' },
      el('caption', {}, 'An image is positive when the probability of the class reaches the threshold.'),
      el('thead', {}, el('tr', {}, ['Threshold', 'Class', 'Chosen for', 'Positive from'].map((name) => el('th', { scope: 'col' }, name)))),
      el(
        'tbody',
        {},
        model.points.map((point) =>
          el('tr', {}, el('th', { scope: 'row' }, point.name), el('td', {}, point.of), el('td', {}, atLeast(point.rule)), el('td', { className: 'number' }, point.threshold === null ? 'none' : percent(point.threshold))),
        ),
      ),
    ),
  );
}
