/** The images to label, fetched shortly before they are needed. They need the token, so they are fetched as data. */

import { ask, patiently } from './api.js';

const KEPT = 8;

/** Keeps the last few images at hand. */
export class Reel {
  /** @type {Map<number, Promise<string>>} */
  #images = new Map();
  #table;

  /** @param {string} table the digest of the table that the rows are of */
  constructor(table) {
    this.#table = table;
  }

  /**
   * @param {number} row
   * @returns {Promise<string>} an address for an image element
   */
  get(row) {
    const kept = this.#images.get(row);
    const image = kept ?? this.#load(row);
    this.#images.delete(row);
    this.#images.set(row, image);
    if (!kept) image.catch(() => this.#images.delete(row));
    for (const [old, url] of this.#images) {
      if (this.#images.size <= KEPT) break;
      this.#images.delete(old);
      url.then(URL.revokeObjectURL, () => undefined);
    }
    return image;
  }

  /** @param {number} row */
  async #load(row) {
    const response = await patiently(() => ask(`api/labeling/${row}/image?table=${this.#table}`), new AbortController().signal);
    return URL.createObjectURL(await response.blob());
  }
}
