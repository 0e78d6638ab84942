/** Files from the reader: choosers, dropped files and whole dropped folders. */

import { el, freshId } from './dom.js';

export const ACCEPTED = 'image/*,.dcm,.dicom,.tif,.tiff,application/dicom';
const IMAGES = /\.(png|jpe?g|jpe|bmp|gif|webp|tiff?|ppm|pgm|pbm|pnm|jp2|dcm|dicom|ima)$/i;

/**
 * A button that lets the reader choose files.
 * @param {string} text
 * @param {Record<string, any>} options of the input: `accept`, `multiple`, `capture`, `webkitdirectory`
 * @param {(files: File[]) => void} take
 * @param {string} [className]
 */
export function fileChooser(text, options, take, className = '') {
  const input = el('input', { type: 'file', id: freshId('file'), className: 'file-input', ...options });
  input.addEventListener('change', () => {
    const files = [...(input.files ?? [])];
    input.value = '';
    take(files);
  });
  return el('span', { className: `chooser ${className}` }, input, el('label', { for: input.id }, text));
}

/**
 * The place of a tab where files are dropped or chosen.
 * @param {{drop: string, touch: string, hint: Node}} words where there is a pointer, where there is none, and beneath
 * @param {Node[]} choosers
 * @param {() => boolean} active
 * @param {(files: File[], folder: boolean) => void} take
 * @param {boolean} [folders] whether folders are opened
 */
export function dropZone(words, choosers, active, take, folders = false) {
  const title = el('p', { className: 'zone-title' }, el('span', { className: 'no-touch' }, words.drop), el('span', { className: 'only-touch' }, words.touch));
  const zone = el('div', { className: 'zone' }, el('div', { className: 'zone-text' }, title, words.hint), el('div', { className: 'zone-buttons' }, choosers));
  takesDrops(zone, active, take, folders);
  return zone;
}

/**
 * Take what is dropped on the page while a tab is shown.
 * @param {HTMLElement} zone shows that it would be taken
 * @param {() => boolean} active
 * @param {(files: File[], folder: boolean) => void} take
 * @param {boolean} [folders] whether folders are opened
 */
function takesDrops(zone, active, take, folders = false) {
  const over = (/** @type {boolean} */ on) => zone.classList.toggle('is-over', on);
  addEventListener('dragover', () => active() && over(true));
  addEventListener('dragleave', (event) => event.relatedTarget === null && over(false));
  addEventListener('drop', async (event) => {
    over(false);
    if (!active() || !event.dataTransfer) return;
    const entries = folders ? [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter((entry) => entry !== null && entry !== undefined) : [];
    if (entries.some((entry) => entry.isDirectory)) {
      /** @type {File[]} */
      const found = [];
      // The name of a single folder is left out, as predict does; of several it tells them apart.
      for (const entry of entries) await walk(entry, '', found, entries.length === 1);
      take(found, true);
    } else {
      const files = [...event.dataTransfer.files];
      take(files, false);
    }
  });
}

/** @type {WeakMap<File, string>} */
const places = new WeakMap();

/**
 * The name of a file as `isograft predict` would give it: relative to the folder that was chosen.
 * @param {File} file
 */
export function placeOf(file) {
  const within = file.webkitRelativePath.split('/').slice(1).join('/');
  return places.get(file) ?? (within || file.name);
}

/**
 * The files that are images by their names, as `isograft predict` picks them from a folder; in order of their names.
 * @param {File[]} files
 * @returns {{wanted: File[], others: number}}
 */
export function imagesAmong(files) {
  const visible = files.filter((file) => !placeOf(file).split('/').some((part) => part.startsWith('.') || part === '__MACOSX'));
  const wanted = visible.filter((file) => IMAGES.test(file.name) || !/\.[^.]*[^.\d][^.]*$/.test(file.name));
  const order = (/** @type {File} */ a, /** @type {File} */ b) => (placeOf(a) < placeOf(b) ? -1 : placeOf(a) > placeOf(b) ? 1 : 0);
  return { wanted: wanted.sort(order), others: files.length - wanted.length };
}

/**
 * @param {FileSystemEntry} entry
 * @param {string} above
 * @param {File[]} found
 * @param {boolean} [top] whether its own name is left out
 */
async function walk(entry, above, found, top = true) {
  if (entry.isFile) {
    const file = await new Promise((/** @type {(file: File) => void} */ done, fail) => /** @type {FileSystemFileEntry} */ (entry).file(done, fail));
    places.set(file, above + file.name);
    found.push(file);
    return;
  }
  const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
  for (;;) {
    const entries = await new Promise((/** @type {(entries: FileSystemEntry[]) => void} */ done, fail) => reader.readEntries(done, fail));
    if (entries.length === 0) return;
    for (const one of entries) await walk(one, top ? '' : `${above}${entry.name}/`, found, false);
  }
}
