/** Asking about many files: a few at a time, patient with a busy server and with one that is gone. */

import { Gone, Outdated, Refused, pause, send, there, waitFor } from './api.js';

const AT_ONCE = 4;

/**
 * @typedef {import('./words.js').Answer} Answer
 * @typedef {{file: File, uri: string, state: 'waiting' | 'asking' | 'done', answers: Answer[], status: string, reason: string}} Item
 */

/**
 * Ask about every waiting item, at most four at a time.
 * @param {Item[]} items
 * @param {AbortSignal} signal stops it; what was being asked then waits again
 * @param {(file: File) => string} refuses why a file need not be sent, or ''
 * @param {() => void} changed is called after every change
 * @returns {Promise<void>} when nothing waits or it was stopped
 * @throws {Outdated} the server has another model now; what was not answered waits
 */
export async function askAll(items, signal, refuses, changed) {
  const turn = { next: 0, until: 0 };
  const worker = async () => {
    while (!signal.aborted) {
      while (turn.next < items.length && items[turn.next]?.state !== 'waiting') turn.next += 1;
      const item = items[turn.next];
      if (!item) return;
      item.state = 'asking';
      changed();
      await askOne(item, signal, refuses, turn);
      changed();
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

/**
 * @param {Item} item
 * @param {AbortSignal} signal
 * @param {(file: File) => string} refuses
 * @param {{until: number}} turn when the server wants to be asked again, for all workers
 */
async function askOne(item, signal, refuses, turn) {
  const large = refuses(item.file);
  if (large) return finish(item, [], 'too_large', large);
  for (let tried = 0; !signal.aborted; tried += 1) {
    const rest = (turn.until - Date.now()) / 1000;
    if (rest > 0) await pause(rest, signal);
    if (signal.aborted) break;
    try {
      const told = await send('api/predict', item.file, {}, signal);
      return finish(item, told.answers, 'ok', '');
    } catch (error) {
      if (signal.aborted) break;
      if (error instanceof Outdated) {
        item.state = 'waiting';
        throw error;
      }
      if (error instanceof Gone) await readableAndThere(item, signal);
      else if (error instanceof Refused && error.status === 429) turn.until = Date.now() + 1000 * waitFor(error, tried);
      else if (error instanceof Refused) return finish(item, [], error.kind, error.reason);
      else return finish(item, [], 'failed', String(error));
      if (item.state === 'done') return undefined;
    }
  }
  item.state = 'waiting';
  return undefined;
}

/**
 * A file that was moved or taken away since it was chosen fails as if the server were gone: tell the two apart.
 * @param {Item} item
 * @param {AbortSignal} signal
 */
async function readableAndThere(item, signal) {
  try {
    await item.file.slice(0, 1).arrayBuffer();
  } catch {
    finish(item, [], 'missing', 'The browser can no longer read this file; choose it again.');
    return;
  }
  await there(signal);
}

/**
 * @param {Item} item
 * @param {Answer[]} answers
 * @param {string} status
 * @param {string} reason
 */
function finish(item, answers, status, reason) {
  Object.assign(item, { state: 'done', answers, status, reason });
}
