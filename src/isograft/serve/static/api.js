/** Talking to the server this page came from: the token, what goes wrong, and whether it is there at all. */

import { session } from './store.js';

const KEY = 'isograft-token';
const WAITS = [1, 2, 4, 8, 10];
const LONGEST = 30;

/** How the server says that an image is of no use: with the status and the reason that `isograft predict` writes. */
const UNREADABLE = /^the image cannot be used \((\w+)\): (.*)$/s;

/** What the server said no to. */
export class Refused extends Error {
  /**
   * @param {number} status HTTP status
   * @param {string} sentence what the server says, for people
   * @param {number} [wait] seconds after which to ask again
   */
  constructor(status, sentence, wait = 0) {
    super(sentence);
    const [, kind = 'failed', reason = sentence] = UNREADABLE.exec(sentence) ?? [];
    this.status = status;
    this.wait = wait;
    this.kind = kind;
    this.reason = reason;
  }
}

/** The server has other images or another model than this page was made for: nothing more is asked until the page is loaded again. */
export class Outdated extends Error {}

/** The server did not answer. */
export class Gone extends Error {
  constructor() {
    super('The server does not answer.');
  }
}

/** Says `gone`, `waiting` (with `detail` = seconds), `back`, `token` (one is needed) and `outdated` (with `detail` = why). */
export const connection = new EventTarget();

let gone = false;
/** Why the page must be loaded again, if it must. */
let ended = '';
/** @type {string | null} the content hash of the model that this page was built for */
let built = null;
/** @type {(() => void)[]} */
let waiting = [];
/** @type {{promise: Promise<void>, given: () => void} | null} */
let asked = null;

/** Take the token out of the address bar, so that it is in no bookmark, screenshot or history. */
export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get('token');
  if (given === null) return false;
  setToken(given);
  history.replaceState(null, '', location.pathname + location.search);
  return true;
}

export function hasToken() {
  return session.get(KEY) !== null;
}

/** @param {string} token */
export function setToken(token) {
  session.set(KEY, token.trim());
  asked?.given();
  asked = null;
}

/**
 * Ask the server.
 * @param {string} path below this page, such as `api/model`
 * @param {RequestInit} [options] of fetch
 * @returns {Promise<Response>} an answer with a good status
 * @throws {Refused} the server answered with an error
 * @throws {Gone} it did not answer
 * @throws {Outdated} the page must be loaded again
 */
export async function ask(path, options = {}) {
  for (;;) {
    if (ended) throw new Outdated(ended);
    const token = session.get(KEY);
    const headers = new Headers(options.headers);
    if (token) headers.set('Authorization', `Bearer ${token}`);
    let response;
    try {
      response = await fetch(path, { ...options, headers, cache: 'no-store', redirect: 'error' });
    } catch (error) {
      if (options.signal?.aborted) throw error;
      lose();
      throw new Gone();
    }
    if (response.ok) return response;
    if (response.status !== 401) {
      const refused = await refusal(response);
      if (refused !== null && response.headers.has('Isograft-Load-Again')) throw outdated(refused.message);
      if (refused !== null) throw refused;
      lose();
      throw new Gone();
    }
    if (session.get(KEY) === token) await tokenGiven(token !== null);
  }
}

/**
 * End all asking: what this page shows and what the server has no longer belong together.
 * @param {string} sentence
 */
function outdated(sentence) {
  if (!ended) connection.dispatchEvent(new CustomEvent('outdated', { detail: sentence }));
  ended ||= sentence;
  return new Outdated(ended);
}

/**
 * Ask for JSON.
 * @param {string} path
 * @param {RequestInit} [options]
 * @returns {Promise<any>}
 */
export async function json(path, options = {}) {
  const response = await ask(path, options);
  try {
    return await response.json();
  } catch (error) {
    if (options.signal?.aborted) throw error;
    lose();
    throw new Gone();
  }
}

/**
 * From now on, answers of any other model end the page: one table must not mix two.
 * @param {string} hash the content hash of the model
 */
export function expectModel(hash) {
  built = hash;
}

/**
 * Send a file with fields.
 * @param {string} path
 * @param {File} file
 * @param {Record<string, string>} fields
 * @param {AbortSignal} signal
 * @returns {Promise<any>} what the model of this page answers
 * @throws {Outdated} another model answered
 */
export async function send(path, file, fields, signal) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) body.append(name, value);
  body.append('file', file, file.name.split('/').pop() || 'image');
  const told = await json(path, { method: 'POST', body, signal });
  if (built !== null && told.model !== built) throw outdated('the server has another model now; load this page again');
  return told;
}

/**
 * Wait, for a while or until the server is back where it is gone.
 * @param {number} seconds
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
export function pause(seconds, signal) {
  return new Promise((done) => {
    const timer = setTimeout(done, seconds * 1000);
    signal?.addEventListener('abort', () => (clearTimeout(timer), done()), { once: true });
  });
}

/**
 * Wait until the server answers again; at once where it does.
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
export function there(signal) {
  if (!gone) return Promise.resolve();
  return new Promise((done) => {
    waiting.push(done);
    signal?.addEventListener('abort', () => done(), { once: true });
  });
}

/**
 * Do something that asks the server, for as long as it is busy or gone.
 * @template T
 * @param {() => Promise<T>} act
 * @param {AbortSignal} signal gives it up
 * @param {(trouble: string) => void} [tell] is told why it takes longer
 * @returns {Promise<T>}
 */
export async function patiently(act, signal, tell = () => {}) {
  for (let tried = 0; ; tried += 1) {
    try {
      return await act();
    } catch (error) {
      if (signal.aborted) throw error;
      if (error instanceof Gone) {
        tell(error.message);
        await there(signal);
      } else if (error instanceof Refused && error.status === 429) {
        await pause(waitFor(error, tried), signal);
      } else throw error;
      if (signal.aborted) throw error;
    }
  }
}

/**
 * Seconds until a busy server is asked again: what it asks for, longer each time, a little apart from others.
 * @param {Refused} error
 * @param {number} tried how often it was asked already
 */
export function waitFor(error, tried) {
  return Math.max(error.wait, Math.min(LONGEST, 0.5 * 2 ** tried)) * (1 + 0.2 * Math.random());
}

/** Look at once whether the server is back. */
export async function look() {
  try {
    const response = await fetch('health', { cache: 'no-store' });
    if (!response.ok) return false;
  } catch {
    return false;
  }
  if (gone) {
    gone = false;
    connection.dispatchEvent(new Event('back'));
    for (const done of waiting.splice(0)) done();
  }
  return true;
}

/**
 * What the server says no to; null where it is shutting down, or where a server in front of it says that it is gone.
 * @param {Response} response
 */
async function refusal(response) {
  const text = await response.text().catch(() => '');
  let said;
  try {
    said = JSON.parse(text);
  } catch {
    said = {};
  }
  const told = typeof said.detail === 'string' && said.detail;
  if (response.status === 503 || (!told && [502, 504].includes(response.status))) return null;
  const wait = Number(response.headers.get('Retry-After'));
  return new Refused(response.status, told || `The server answered with an error (HTTP ${response.status}).`, Number.isFinite(wait) ? wait : 0);
}

/** @param {boolean} refused whether one was given already */
function tokenGiven(refused) {
  if (asked === null) {
    /** @type {() => void} */
    let given = () => {};
    const promise = new Promise((/** @type {(value: void) => void} */ done) => (given = () => done()));
    asked = { promise, given };
    connection.dispatchEvent(new CustomEvent('token', { detail: refused }));
  }
  return asked.promise;
}

async function lose() {
  if (gone) return;
  gone = true;
  connection.dispatchEvent(new Event('gone'));
  for (let tried = 0; gone; tried += 1) {
    const seconds = WAITS[Math.min(tried, WAITS.length - 1)] ?? 10;
    connection.dispatchEvent(new CustomEvent('waiting', { detail: seconds }));
    await pause(seconds);
    if (gone) await look();
  }
}
