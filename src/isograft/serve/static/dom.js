/** Making elements. Text goes in as text nodes only: nothing that a model or a file says is ever read as HTML. */

/**
 * @typedef {Node | string | null | undefined | false} Child
 */

/**
 * Make an element.
 * @param {string} tag its name
 * @param {Record<string, any>} [given] properties (`className`, `onclick`, `value`), or attributes where the name holds a dash or is `role`
 * @param {...(Child | Child[])} children what it holds; nothing for null, undefined and false
 * @returns {any} the element
 */
export function el(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || value === null) continue;
    if (name.includes('-') || name === 'role' || name === 'for' || name === 'scope' || name === 'list') made.setAttribute(name, String(value));
    else /** @type {any} */ (made)[name] = value;
  }
  made.append(...there(children));
  return made;
}

/**
 * Put children in place of what an element holds.
 * @param {Element} parent
 * @param {...(Child | Child[])} children
 */
export function fill(parent, ...children) {
  parent.replaceChildren(...there(children));
}

/**
 * @param {(Child | Child[])[]} children
 * @returns {(Node | string)[]}
 */
function there(children) {
  return /** @type {(Node | string)[]} */ (children.flat().filter((child) => child !== null && child !== undefined && child !== false));
}

let made = 0;

/**
 * An id that no other element has.
 * @param {string} stem
 */
export function freshId(stem) {
  made += 1;
  return `${stem}-${made}`;
}

/**
 * A button.
 * @param {string | Child[]} text what it says
 * @param {() => void} onclick what it does
 * @param {string} [className]
 */
export function button(text, onclick, className = '') {
  return el('button', { type: 'button', className, onclick }, ...(Array.isArray(text) ? text : [text]));
}

/**
 * Hand text to the reader as a file.
 * @param {string} text
 * @param {string} name of the file
 * @param {string} type MIME type
 */
export function download(text, name, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = el('a', { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
