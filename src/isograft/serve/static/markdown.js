/** The Markdown of a model card as elements. Only text nodes are made from its text, so that it can do nothing. */

import { el } from './dom.js';

/**
 * @param {string} text a card: headings, paragraphs, lists, tables, code, emphasis, links
 * @returns {HTMLElement[]}
 */
export function renderMarkdown(text) {
  const lines = text.replaceAll('\r\n', '\n').replace(/^---\n[\s\S]*?\n---\n/, '').split('\n');
  /** @type {HTMLElement[]} */
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    const [block, next] = readBlock(lines, at);
    if (block) blocks.push(block);
    at = next;
  }
  return blocks;
}

/**
 * @param {string[]} lines
 * @param {number} at
 * @returns {[HTMLElement | null, number]} the block that begins there, and the line after it
 */
function readBlock(lines, at) {
  const line = lines[at] ?? '';
  if (line.trim() === '') return [null, at + 1];
  const fence = /^\s*(```+|~~~+)/.exec(line);
  if (fence) return code(lines, at, fence[1] ?? '```');
  const heading = /^(#{1,6})\s+(.*?)\s*#*$/.exec(line);
  // The page has its own h1 and h2 above the card.
  if (heading) return [el(`h${Math.min(6, Math.max(3, (heading[1] ?? '').length + 1))}`, {}, inline(heading[2] ?? '')), at + 1];
  if (/^\s*([-*_])(\s*\1){2,}\s*$/.test(line)) return [el('hr'), at + 1];
  if (isRow(line) && /^\s*\|?[\s:|-]+\|[\s:|-]*$/.test(lines[at + 1] ?? '')) return table(lines, at);
  if (ITEM.test(line)) return items(lines, at, indent(line));
  if (/^\s*>/.test(line)) {
    const [inside, next] = run(lines, at, (one) => /^\s*>/.test(one));
    return [el('blockquote', {}, renderMarkdown(inside.map((one) => one.replace(/^\s*>\s?/, '')).join('\n'))), next];
  }
  const [inside, next] = run(lines, at, (one, first) => first || (one.trim() !== '' && !starts(one)));
  return [el('p', {}, inline(inside.map((one) => one.trim()).join(' '))), next];
}

const ITEM = /^\s*([-*+]|\d+[.)])\s+/;

/** @param {string} line */
function starts(line) {
  return /^\s*(```|~~~|#{1,6}\s|>)/.test(line) || ITEM.test(line);
}

/** @param {string} line */
function isRow(line) {
  return line.includes('|');
}

/** @param {string} line */
function indent(line) {
  return line.length - line.trimStart().length;
}

/**
 * Lines from `at` on for as long as they fit.
 * @param {string[]} lines
 * @param {number} at
 * @param {(line: string, first: boolean) => boolean} fits
 * @returns {[string[], number]}
 */
function run(lines, at, fits) {
  let end = at;
  while (end < lines.length && fits(lines[end] ?? '', end === at)) end += 1;
  return [lines.slice(at, end), Math.max(end, at + 1)];
}

/**
 * @param {string[]} lines
 * @param {number} at
 * @param {string} fence
 * @returns {[HTMLElement, number]}
 */
function code(lines, at, fence) {
  const [inside, end] = run(lines, at + 1, (line) => !line.trim().startsWith(fence));
  const whole = (lines[at + 1] ?? '').trim().startsWith(fence) ? [] : inside;
  const next = whole.length === 0 ? at + 2 : end + 1;
  return [el('pre', { tabIndex: 0 }, el('code', {}, whole.join('\n'))), next];
}

/**
 * @param {string[]} lines
 * @param {number} at
 * @returns {[HTMLElement, number]}
 */
function table(lines, at) {
  const head = cells(lines[at] ?? '');
  const [rows, next] = run(lines, at + 2, (line) => isRow(line) && line.trim() !== '');
  const body = isRow(lines[at + 2] ?? '') ? rows : [];
  const headed = head.some((cell) => cell !== '');
  return [
    el(
      'div',
      { className: 'wide', tabIndex: 0, role: 'region', 'aria-label': 'Table' },
      el(
        'table',
        { className: 'plain-table' },
        headed && el('thead', {}, el('tr', {}, head.map((cell) => el('th', { scope: 'col' }, inline(cell))))),
        el('tbody', {}, body.map((line) => el('tr', {}, cells(line).map((cell, column) => (column === 0 && !headed ? el('th', { scope: 'row' }, inline(cell)) : el('td', {}, inline(cell))))))),
      ),
    ),
    body.length > 0 ? next : at + 2,
  ];
}

/** @param {string} line */
function cells(line) {
  const inner = line.trim().replace(/^\|/, '').replace(/(?<!\\)\|$/, '');
  return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll('\\|', '|'));
}

/**
 * @param {string[]} lines
 * @param {number} at
 * @param {number} depth how far the list is indented
 * @returns {[HTMLElement, number]}
 */
function items(lines, at, depth) {
  const list = el(/^\s*\d/.test(lines[at] ?? '') ? 'ol' : 'ul');
  while (at < lines.length) {
    const line = lines[at] ?? '';
    if (ITEM.test(line) && indent(line) >= depth + 2 && list.lastElementChild) {
      const [inner, next] = items(lines, at, indent(line));
      list.lastElementChild.append(inner);
      at = next;
    } else if (ITEM.test(line) && indent(line) >= depth) {
      const [more, next] = run(lines, at + 1, (one) => one.trim() !== '' && !starts(one));
      const text = [line.replace(ITEM, ''), ...((lines[at + 1] ?? '').trim() !== '' && !starts(lines[at + 1] ?? '') ? more : [])];
      list.append(el('li', {}, inline(text.map((one) => one.trim()).join(' '))));
      at = text.length > 1 ? next : at + 1;
    } else break;
  }
  return [list, at];
}

const INLINE = /\\([\\`*_{}[\]()#+\-.!|<>~$&])|(`+)(.+?)\2|\*\*(.+?)\*\*|\*([^*\s](?:[^*]*[^*\s])?)\*|(?<![\w])_([^_\s](?:[^_]*[^_\s])?)_(?!\w)|\[([^\]]+)\]\(([^()\s]+)\)|<(https?:[^>\s]+)>/;

/**
 * @param {string} text
 * @returns {(Node | string)[]}
 */
export function inline(text) {
  /** @type {(Node | string)[]} */
  const parts = [];
  let rest = text;
  for (let found = INLINE.exec(rest); found; found = INLINE.exec(rest)) {
    if (found.index > 0) parts.push(rest.slice(0, found.index));
    const [whole, escaped, , quoted, strong, star, under, words, target, url] = found;
    if (escaped !== undefined) parts.push(escaped);
    else if (quoted !== undefined) parts.push(el('code', {}, quoted.trim()));
    else if (strong !== undefined) parts.push(el('strong', {}, inline(strong)));
    else if (star !== undefined || under !== undefined) parts.push(el('em', {}, inline(star ?? under ?? '')));
    else parts.push(link(words ?? url ?? '', target ?? url ?? ''));
    rest = rest.slice(found.index + whole.length);
  }
  return rest ? [...parts, rest] : parts;
}

/**
 * Links lead to web pages only; what else a card points at is left as words.
 * @param {string} words
 * @param {string} target
 */
function link(words, target) {
  return /^https?:\/\//i.test(target) ? el('a', { href: target, rel: 'noopener noreferrer', target: '_blank' }, inline(words)) : el('span', {}, inline(words));
}
