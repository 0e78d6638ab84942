/** The answers to many images as a table that can be sorted; a page of it at a time, so that thousands stay quick. */

import { button, el, fill, freshId } from './dom.js';
import { nameOf } from './csv.js';
import { heldClasses, inShort, percent, short } from './words.js';

/**
 * @typedef {import('./words.js').Model} Model
 * @typedef {import('./csv.js').Row} Row
 * @typedef {{key: string, title: string, value: (row: Row) => string | number | null, cell: (row: Row) => string | Node, numeric?: boolean}} Column
 */

const PAGE = 50;
const NOT_KNOWN = '–';

/**
 * @param {Model} model
 * @param {(uri: string) => void} open shows one file on its own
 */
export function answerTable(model, open) {
  const columns = columnsOf(model, open);
  /** @type {Row[]} */
  let rows = [];
  let sorted = '';
  let down = false;
  let page = 0;

  const sort = (/** @type {string} */ key, /** @type {boolean} */ descending) => {
    [sorted, down, page] = [key, descending, 0];
    draw();
  };
  const heads = columns.map((column) => {
    const sign = el('span', { className: 'sort-sign', 'aria-hidden': 'true' });
    const press = button([column.title, ' ', sign], () => sort(column.key, sorted === column.key ? !down : Boolean(column.numeric)), 'sort');
    return { column, sign, th: el('th', { scope: 'col', role: 'columnheader', className: column.numeric ? 'number' : '' }, press) };
  });
  const select = el(
    'select',
    { id: freshId('sort') },
    el('option', { value: '' }, 'the order given'),
    columns.map((column) => el('option', { value: column.key }, column.title)),
  );
  select.addEventListener('change', () => sort(select.value, Boolean(columns.find((one) => one.key === select.value)?.numeric)));
  const turn = button('', () => sort(sorted, !down));
  const body = el('tbody', { role: 'rowgroup' });
  const pager = el('nav', { className: 'pager', 'aria-label': 'Pages of the table' });
  const table = el(
    'table',
    { className: 'answers', role: 'table' },
    el('caption', { className: 'unseen' }, 'Answers, one row per image'),
    el('thead', { role: 'rowgroup' }, el('tr', { role: 'row' }, heads.map(({ th }) => th))),
    body,
  );
  const root = el(
    'div',
    { hidden: true },
    el('div', { className: 'sorter' }, el('label', { for: select.id }, 'Sort by'), select, turn),
    el('div', { className: 'wide', tabIndex: 0, role: 'region', 'aria-label': 'Table of answers' }, table),
    pager,
  );

  const draw = () => {
    const column = columns.find((one) => one.key === sorted);
    const ordered = column ? [...rows].sort((a, b) => (down ? -1 : 1) * compare(column.value(a), column.value(b), down)) : rows;
    const pages = Math.max(1, Math.ceil(rows.length / PAGE));
    page = Math.min(page, pages - 1);
    for (const head of heads) {
      const on = head.column.key === sorted;
      head.th.setAttribute('aria-sort', on ? (down ? 'descending' : 'ascending') : 'none');
      head.sign.textContent = on ? (down ? '▼' : '▲') : '';
    }
    select.value = sorted;
    turn.textContent = down ? 'Descending' : 'Ascending';
    turn.hidden = sorted === '';
    root.hidden = rows.length === 0;
    fill(body, ordered.slice(page * PAGE, (page + 1) * PAGE).map((row) => drawRow(row, columns)));
    const step = (/** @type {number} */ by) => () => ((page += by), draw());
    const [before, next] = [button('‹ Back', step(-1)), button('Next ›', step(1))];
    before.disabled = page === 0;
    next.disabled = page === pages - 1;
    fill(pager, pages > 1 && [before, el('span', {}, `Page ${page + 1} of ${pages}`), next]);
  };

  return {
    root,
    /** @param {Row[]} given */
    update(given) {
      rows = given;
      // A reader who holds the focus in the table keeps it: rows are redrawn, buttons in them are found again by their names.
      const held = body.contains(document.activeElement) ? document.activeElement?.textContent : null;
      draw();
      if (held !== null) [...body.querySelectorAll('button')].find((one) => one.textContent === held)?.focus();
    },
  };
}

/**
 * @param {Row} row
 * @param {Column[]} columns
 */
function drawRow(row, columns) {
  if (row.answer === null) {
    return el(
      'tr',
      { role: 'row', className: 'is-bad' },
      el('th', { scope: 'row', role: 'rowheader', 'data-label': columns[0]?.title }, nameOf(row)),
      el('td', { role: 'cell', colSpan: columns.length - 1, 'data-label': 'No answer' }, el('strong', {}, `${row.status}: `), row.reason ?? ''),
    );
  }
  return el(
    'tr',
    { role: 'row', className: row.answer.abstain ? 'is-unsure' : '' },
    columns.map((column, at) =>
      el(at === 0 ? 'th' : 'td', { role: at === 0 ? 'rowheader' : 'cell', scope: at === 0 ? 'row' : null, className: column.numeric ? 'number' : '', 'data-label': column.title }, column.cell(row)),
    ),
  );
}

/**
 * @param {Model} model
 * @param {(uri: string) => void} open
 * @returns {Column[]}
 */
function columnsOf(model, open) {
  const yes = (/** @type {boolean | null | undefined} */ said) => (said === null || said === undefined ? NOT_KNOWN : said ? 'yes' : 'no');
  const truth = (/** @type {boolean | null | undefined} */ said) => (said === null || said === undefined ? null : Number(said));
  /** @type {Column[]} */
  const sets = model.calibrated
    ? [
        { key: 'set', title: 'Cannot be ruled out', value: (row) => (row.answer === null ? null : (heldClasses(row.answer)?.length ?? null)), cell: (row) => (row.answer ? inShort(row.answer) : '') },
        { key: 'abstain', title: 'Abstains', value: (row) => truth(row.answer?.abstain), cell: (row) => (row.answer?.abstain ? el('strong', {}, '⚠ yes') : yes(row.answer?.abstain)) },
        {
          key: 'domain',
          title: 'Out of domain',
          value: (row) => row.answer?.domain_distance ?? null,
          cell: (row) => {
            const far = row.answer?.domain_distance ?? null;
            return `${row.answer?.out_of_domain ? '⚠ ' : ''}${yes(row.answer?.out_of_domain)}${far === null ? '' : ` (${short(far)})`}`;
          },
        },
      ]
    : [];
  return [
    { key: 'name', title: 'Name', value: nameOf, cell: (row) => button(nameOf(row), () => open(row.uri), 'link') },
    { key: 'predicted', title: 'Most probable', value: (row) => row.answer?.predicted ?? null, cell: (row) => row.answer?.predicted ?? '' },
    ...sets,
    ...model.classes.map((name) => /** @type {Column} */ ({
      key: `p_${name}`, title: name, numeric: true, value: (row) => row.answer?.probabilities[name] ?? null, cell: (row) => percent(row.answer?.probabilities[name] ?? 0),
    })),
    ...model.points.filter((point) => point.by_hand).map((point) => /** @type {Column} */ ({
      key: `point_${point.name}`, title: point.name, value: (row) => truth(row.answer?.points[point.name]),
      cell: (row) => ({ true: 'positive', false: 'negative' })[String(row.answer?.points[point.name])] ?? NOT_KNOWN,
    })),
  ];
}

/**
 * Order of two values; rows without one come last, whichever way the others are sorted.
 * @param {string | number | null} a
 * @param {string | number | null} b
 * @param {boolean} down
 */
function compare(a, b, down) {
  if (a === null || b === null) return (Number(a === null) - Number(b === null)) * (down ? -1 : 1);
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  return String(a).localeCompare(String(b), 'en', { numeric: true });
}
