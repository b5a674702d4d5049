// The way back: whatever is searched with is an entry of the browser's history. An address can name a stored picture, but
// not one of the visitor's, so the last ones are remembered here.

import { $ } from "./dom.js";

const KEPT = 20;
const kept = new Map(); // what was searched with, by the state of its entry
let count = 0;

/** Makes an entry of what is searched with, or puts it into the present one. */
export function remember(asked, replace) {
  count += 1;
  const state = `${performance.timeOrigin} ${count}`; // told apart from the entries of an earlier load of the page
  kept.set(state, asked);
  if (kept.size > KEPT) kept.delete(kept.keys().next().value);
  const address = asked.item ? `/?item=${encodeURIComponent(asked.item)}` : "/";
  if (replace) history.replaceState(state, "", address);
  else history.pushState(state, "", address);
}

/** Calls back with what was searched with when the visitor comes back to it. */
export function onReturn(callback) {
  window.addEventListener("popstate", ({ state }) => {
    if (kept.has(state)) callback(kept.get(state));
    else location.reload(); // the page's beginning, or forgotten: the address says what there is to show
  });
}

// The link that skips the head would make an entry of its own, with nothing searched with.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  $("main").focus();
});
