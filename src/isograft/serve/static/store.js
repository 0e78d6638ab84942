/** What the browser keeps for this page; where it may keep nothing, memory does until the page is closed. */

/** @param {() => Storage} where */
function keeper(where) {
  /** @type {Map<string, string>} */
  const memory = new Map();
  return {
    /** @param {string} key @returns {string | null} */
    get(key) {
      try {
        return where().getItem(key) ?? memory.get(key) ?? null;
      } catch {
        return memory.get(key) ?? null;
      }
    },
    /** @param {string} key @param {string | null} value null takes it away */
    set(key, value) {
      if (value === null) memory.delete(key);
      else memory.set(key, value);
      try {
        if (value === null) where().removeItem(key);
        else where().setItem(key, value);
      } catch {
        // Memory has it.
      }
    },
  };
}

/** Until the tab is closed. */
export const session = keeper(() => sessionStorage);

/** From one visit to the next. */
export const lasting = keeper(() => localStorage);
