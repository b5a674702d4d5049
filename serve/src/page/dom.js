// Helpers for the document. No page builds HTML from text: every value goes through textContent or a property.

export const $ = (id) => document.getElementById(id);
export const number = (value) => value.toLocaleString("en");
export const percent = (share, digits = 0) => `${(Math.max(0, share) * 100).toFixed(digits)} %`;
export const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/** An element with a text, with children, and with whatever other properties are given. */
export function element(name, { text, children, ...properties } = {}) {
  const made = Object.assign(document.createElement(name), properties);
  if (text !== undefined) made.textContent = text;
  if (children) made.append(...children);
  return made;
}

/** Changes an element's text, but only if it differs: a screen reader reads out what is written anew. */
export function say(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}
