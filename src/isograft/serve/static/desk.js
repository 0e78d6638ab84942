/** Which image is on the desk, what was done to the images, and how to undo it. Knows nothing of the page. */

/**
 * @typedef {import('./label.js').Row} Row
 * @typedef {{row: number, label: string | null, saved: boolean}} Undone
 */

/** Keys that mean something else: undo and skip. */
const TAKEN = 'us';

/**
 * One key per class: 1 to 9, then letters; classes beyond have a button only.
 * @param {string[]} classes
 * @returns {(string | null)[]}
 */
export function keysFor(classes) {
  const keys = [...'123456789abcdefghijklmnopqrstuvwxyz'].filter((key) => !TAKEN.includes(key));
  return classes.map((_, at) => keys[at] ?? null);
}

/** The images in order, and the one that is looked at. */
export class Desk {
  /** @type {Map<number, number>} */
  #places;
  /** @type {Set<number>} */
  #skipped = new Set();
  /** @type {{place: number, label: string | null, kind: 'label' | 'skip'}[]} */
  #history = [];
  #rows;
  place = 0;

  /** @param {Row[]} rows */
  constructor(rows) {
    this.#rows = rows;
    this.#places = new Map(rows.map((row, place) => [row.row, place]));
    this.begin();
  }

  /** @returns {Row | undefined} */
  get current() {
    return this.#rows[this.place];
  }

  get done() {
    return this.#rows.filter((row) => row.label !== null).length;
  }

  /** @param {number} row */
  at(row) {
    return this.#places.get(row) ?? -1;
  }

  /** @param {Row} row */
  skipped(row) {
    return this.#skipped.has(row.row);
  }

  /** @param {number} step */
  move(step) {
    this.place = Math.max(0, Math.min(this.#rows.length - 1, this.place + step));
  }

  /**
   * Set a label without moving.
   * @param {number} row
   * @param {string | null} label
   * @returns {boolean} whether there is such a row
   */
  give(row, label) {
    const found = this.#rows[this.at(row)];
    if (found) found.label = label;
    return found !== undefined;
  }

  /** Go to the first image without a label. */
  begin() {
    this.place = Math.max(0, this.#rows.findIndex((one) => one.label === null));
  }

  /**
   * Label the current image and go on.
   * @param {string | null} label
   * @returns {boolean} whether that changed anything
   */
  label(label) {
    const row = this.current;
    if (!row) return false;
    const before = row.label;
    this.#history.push({ place: this.place, label: before, kind: 'label' });
    row.label = label;
    this.#skipped.delete(row.row);
    if (label !== null) this.#goOn();
    return label !== before;
  }

  /** Leave the current image for the end. */
  skip() {
    const row = this.current;
    if (!row) return;
    this.#history.push({ place: this.place, label: row.label, kind: 'skip' });
    if (row.label === null) this.#skipped.add(row.row);
    this.#goOn();
  }

  /**
   * Go back to the last image that was labeled or skipped, as it was.
   * @returns {Undone | null} null where there is nothing to undo
   */
  undo() {
    const last = this.#history.pop();
    const row = last && this.#rows[last.place];
    if (!last || !row) return null;
    this.place = last.place;
    this.#skipped.delete(row.row);
    if (last.kind === 'skip') return { row: row.row, label: row.label, saved: false };
    row.label = last.label;
    return { row: row.row, label: last.label, saved: true };
  }

  /**
   * Images that are likely to be looked at next.
   * @param {number} count
   */
  ahead(count) {
    return this.#rows.slice(this.place + 1, this.place + 1 + count);
  }

  /** To the next image without a label, first those that were not skipped; else one further. */
  #goOn() {
    const order = [...this.#rows.keys()].map((step) => (this.place + 1 + step) % this.#rows.length);
    const open = order.filter((place) => this.#rows[place]?.label === null);
    const next = open.find((place) => !this.#skipped.has(this.#rows[place]?.row ?? -1)) ?? open.find((place) => place !== this.place);
    if (next !== undefined) this.place = next;
    else if (open.length === 0) this.move(1);
  }
}
