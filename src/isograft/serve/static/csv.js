/** The table that `isograft predict` writes, to the letter, made from the server's answers. */

import { heldClasses, partInWords } from './words.js';

/**
 * @typedef {import('./words.js').Model} Model
 * @typedef {import('./words.js').Answer} Answer
 * @typedef {{uri: string, part: string, status: string, reason: string | null, answer: Answer | null}} Row
 */

/** How an empty prediction set is written. */
const EMPTY = 'none';
const FORMULA = /^[=+\-@\t\r]/;

/**
 * The rows of finished items: one per image, as a file may hold several.
 * @param {import('./queue.js').Item[]} items
 * @returns {Row[]}
 */
export function rowsOf(items) {
  return items.filter((item) => item.state === 'done').flatMap(rowsOfOne);
}

/**
 * @param {import('./queue.js').Item} item
 * @returns {Row[]}
 */
function rowsOfOne({ uri, answers, status, reason }) {
  if (answers.length === 0) return [{ uri, part: '', status, reason, answer: null }];
  return answers.map((answer) => ({ uri, part: answer.part, status: 'ok', reason: answer.note || null, answer }));
}

/**
 * @param {Row} row
 */
export function nameOf(row) {
  return row.part ? `${row.uri}, ${partInWords(row.part)}` : row.uri;
}

/**
 * Whether a spreadsheet would take a file's name for a formula. It is then written with `./` before it: that names the same file, and no
 * letter of it is lost.
 * @param {string} name
 */
export function looksLikeFormula(name) {
  return FORMULA.test(name);
}

/**
 * @param {Row[]} rows
 * @param {Model} model
 * @returns {string}
 */
export function toCsv(rows, model) {
  const points = model.points.filter((point) => point.by_hand).map((point) => point.name);
  // Of files that hold several images, the name of the file is kept beside the answer.
  const several = rows.some((row) => row.part !== '');
  const head = ['id', 'uri', 'status', 'reason', 'predicted', ...model.classes.map((name) => `p_${name}`), 'prediction_set', 'abstain', 'out_of_domain', 'domain_distance', ...points];
  const lines = rows.map((row) => {
    const { answer } = row;
    return [
      answer?.id ?? null,
      safe(encodeUri(row.uri)) + (row.part ? `#${encodeUri(row.part)}` : ''),
      row.status,
      row.reason,
      answer?.predicted ?? null,
      ...model.classes.map((name) => answer?.probabilities[name] ?? null),
      answer === null ? null : setOf(answer),
      answer?.abstain ?? null,
      answer?.out_of_domain ?? null,
      answer?.domain_distance ?? null,
      ...points.map((name) => answer?.points[name] ?? null),
      ...(several ? [safe(row.uri)] : []),
    ];
  });
  return [[...head, ...(several ? ['file'] : [])], ...lines].map((line) => line.map(field).join(',')).join('\n') + '\n';
}

/** @param {Answer} answer */
function setOf(answer) {
  const held = heldClasses(answer);
  if (held === null) return null;
  return held.map((name) => name.replaceAll('|', '\\|')).join('|') || EMPTY;
}

/** @param {string} name */
function safe(name) {
  return looksLikeFormula(name) ? `./${name}` : name;
}

/**
 * `%` and `#` have a meaning in a uri, so a name that holds them is written with their codes.
 * @param {string} name
 */
function encodeUri(name) {
  return name.replaceAll('%', '%25').replaceAll('#', '%23');
}

/**
 * One field as polars writes it: numbers so that they read back to the same bits, nothing for what is not known.
 * @param {string | number | boolean | null} value
 */
function field(value) {
  if (value === null) return '';
  if (typeof value === 'number') return spelled(value);
  const text = String(value);
  return text === '' || /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/**
 * The shortest digits that read back to the same bits; an exponent below 0.00001 and from 1e16, and a point in whole numbers.
 * @param {number} value
 */
export function spelled(value) {
  const far = Math.abs(value);
  if (far !== 0 && (far < 1e-5 || far >= 1e16)) return value.toExponential();
  return Number.isInteger(value) ? `${value}.0` : String(value);
}
