/** Labels on their way to the server: kept until it says that they are on disk, sent again for as long as it takes. */

import { Gone, Outdated, Refused, json, pause, there } from './api.js';
import { session } from './store.js';

const LONGEST = 15;
/** The server will never take this label for this image: no such row or class, a file of no use, the same pixels labeled otherwise. */
const FINAL = [400, 404, 409, 413, 415, 422];

/**
 * @typedef {{row: number, label: string | null}} Change
 * @typedef {{waiting: number, trouble: string, saved: Change | null, refused: Change | null}} State
 */

/** Saves one label after the other; of several for one row only the last counts. */
export class Saver {
  /** @type {Map<number, string | null>} */
  #pending = new Map();
  #running = false;
  #key;
  #table;
  #tell;

  /**
   * @param {string} table the digest of the table that the rows are of: labels that are kept over a reload are for no other
   * @param {(state: State) => void} tell is called after every change
   */
  constructor(table, tell) {
    this.#table = table;
    this.#key = `isograft-labels ${table}`;
    this.#tell = tell;
    addEventListener('beforeunload', (event) => this.#pending.size > 0 && event.preventDefault());
  }

  /**
   * Labels that an earlier visit could not save.
   * @returns {[number, string | null][]}
   */
  left() {
    try {
      return JSON.parse(session.get(this.#key) ?? '[]');
    } catch {
      return [];
    }
  }

  get waiting() {
    return this.#pending.size;
  }

  /**
   * @param {number} row
   * @param {string | null} label null takes it away
   */
  put(row, label) {
    this.#pending.delete(row);
    this.#pending.set(row, label);
    this.#keep();
    if (!this.#running) this.#run();
  }

  #keep() {
    session.set(this.#key, this.#pending.size > 0 ? JSON.stringify([...this.#pending]) : null);
  }

  async #run() {
    this.#running = true;
    let tried = 0;
    let trouble = '';
    for (;;) {
      const [first] = this.#pending;
      if (!first) break;
      const [row, label] = first;
      try {
        const body = JSON.stringify({ label, table: this.#table });
        await json(`api/labeling/${row}`, { method: 'PUT', body, headers: { 'Content-Type': 'application/json' } });
        // Changed again while it was being saved: that change waits for its own turn.
        if (this.#pending.get(row) === label) this.#pending.delete(row);
        this.#keep();
        [tried, trouble] = [0, ''];
        this.#tell({ waiting: this.#pending.size, trouble, saved: { row, label }, refused: null });
      } catch (error) {
        trouble = error instanceof Error ? error.message : String(error);
        const final = error instanceof Refused && FINAL.includes(error.status);
        if (final) {
          if (this.#pending.get(row) === label) this.#pending.delete(row);
          this.#keep();
        }
        this.#tell({ waiting: this.#pending.size, trouble, saved: null, refused: final && !this.#pending.has(row) ? { row, label } : null }); // a newer label waits for its own answer
        if (error instanceof Outdated) break;
        if (final) continue;
        if (error instanceof Gone) await there();
        else await pause(Math.min(LONGEST, 2 ** tried));
        tried += 1;
      }
    }
    this.#running = false;
  }
}
