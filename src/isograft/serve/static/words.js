/** How an answer reads to people. */

/**
 * @typedef {{name: string, of: string, rule: string, threshold: number | null, by_hand: boolean}} Point
 * @typedef {{name: string, answers: boolean, classes: string[], image_size: number, backbone: string, method: string, created: string, content_hash: string,
 *   licence: string | null, calibrated: boolean, missing: string, fitted_on: string, coverage: number | null, always_held: string[],
 *   points: Point[], out_of_domain: boolean, heatmap: Record<string, any> | null, similar: boolean, thumbnails: boolean, card: string,
 *   lineage: string, limits: {megabytes: number, megapixels: number}, labeling: boolean, version: string}} Model
 * @typedef {{id: string, part: string, width: number, height: number, note: string | null, predicted: string,
 *   probabilities: Record<string, number>, prediction_set: string[] | null, abstain: boolean | null, out_of_domain: boolean | null,
 *   domain_distance: number | null, points: Record<string, boolean | null>}} Answer
 */

/** As the server counts. */
const MEGABYTE = 1024 * 1024;

/**
 * The prediction set as names; the word that stands for an empty set in tables is no class.
 * @param {Answer} answer
 * @returns {string[] | null} null where the model has no sets
 */
export function heldClasses(answer) {
  return answer.prediction_set === null ? null : answer.prediction_set.filter((name) => name in answer.probabilities);
}

/**
 * The answer in words.
 * @param {Answer} answer
 * @param {Model} model
 * @returns {{title: string, detail: string, promise: string}}
 */
export function inWords(answer, model) {
  const held = heldClasses(answer);
  if (held === null) return { title: answer.predicted, detail: 'The most probable class. How sure the model is was never tested, see below.', promise: '' };
  if (answer.out_of_domain || (answer.abstain && held.length === 1)) {
    const title = held.length === 0 ? 'Fits no class well' : held.length === 1 ? /** @type {string} */ (held[0]) : `${listed(held, 'or')} cannot be told apart`;
    return { title, detail: `Most probable is ${answer.predicted}.`, promise: 'What the model promises does not hold for an image like this one.' };
  }
  const promise = model.coverage === null ? '' : `For ${share(model.coverage)} of new images like those of the training, the true class is among the classes that are left.`;
  if (held.length === 0) return { title: 'Fits no class well', detail: 'Every class of this model can be ruled out for this image.', promise };
  if (held.length === 1) return { title: /** @type {string} */ (held[0]), detail: 'All other classes can be ruled out.', promise };
  const others = held.length < model.classes.length ? ' All other classes can be ruled out.' : '';
  if (held.length === model.classes.length && held.length > 2) return { title: 'No class can be ruled out', detail: `Most probable is ${answer.predicted}.`, promise };
  return { title: `${listed(held, 'or')} cannot be told apart`, detail: `Most probable is ${answer.predicted}.${others}`, promise };
}

/**
 * The answer in a few words, for a row of a table.
 * @param {Answer} answer
 */
export function inShort(answer) {
  const held = heldClasses(answer);
  if (held === null) return answer.predicted;
  return held.length === 0 ? 'fits no class well' : listed(held, 'or');
}

/**
 * @param {string[]} names
 * @param {string} last the word before the last one
 */
export function listed(names, last) {
  return names.length < 2 ? names.join('') : `${names.slice(0, -1).join(', ')} ${last} ${names[names.length - 1]}`;
}

/**
 * A probability for the eye. It never rounds to certainty.
 * @param {number} p in [0, 1]
 */
export function percent(p) {
  if (p > 0 && p < 0.001) return '< 0.1 %';
  if (p < 1 && p > 0.999) return '> 99.9 %';
  return `${(100 * p).toFixed(1)} %`;
}

/** @param {number} p in [0, 1] */
export function share(p) {
  return `${Number((100 * p).toFixed(1))} %`;
}

/** @param {number} value */
export function short(value) {
  return Number(value.toPrecision(3)).toString();
}

/**
 * @param {number} count
 * @param {string} one
 * @param {string} [many]
 */
export function counted(count, one, many = `${one}s`) {
  return `${count.toLocaleString('en')} ${count === 1 ? one : many}`;
}

/** @param {number} bytes */
export function size(bytes) {
  return bytes < MEGABYTE ? `${Math.max(1, Math.round(bytes / 1024))} kB` : `${(bytes / MEGABYTE).toFixed(1)} MB`;
}

/** @param {string} part such as `frame=3` */
export function partInWords(part) {
  return part.replace('=', ' ').replaceAll('&', ', ');
}

/**
 * Why a file need not be sent: the server would refuse it.
 * @param {File} file
 * @param {Model} model
 * @returns {string} empty where nothing speaks against it
 */
export function tooLarge(file, model) {
  const most = model.limits.megabytes;
  if (file.size <= most * MEGABYTE) return '';
  return `${file.name} has ${size(file.size)}, and this server takes at most ${most} MB per file; start it with a larger --max-megabytes.`;
}
