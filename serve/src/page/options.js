// What the visitor can choose: category, number of results, least certainty, one picture per product.

import { json } from "./api.js";
import { $, number, say } from "./dom.js";

let calibrated = false;
let unlike = 0; // counter-examples of the present search

/** The choices as the server takes them. */
export function chosen() {
  const least = Number($("least").value) / 100;
  const limit = calibrated ? "min_probability" : "threshold";
  return {
    k: Number($("k").value),
    category: $("category").value || undefined,
    group_by: $("group").checked ? "product" : "item",
    [limit]: least > 0 && !isUncertain() ? least : undefined,
  };
}

/** Calls back when the visitor has chosen. */
export function onChoice(callback) {
  for (const name of ["category", "k", "least", "group"]) $(name).addEventListener("change", callback);
}

/** Lets the visitor choose what the server can do. */
export function fitOptions({ model, limits }) {
  calibrated = model.calibrated;
  describeLeast();
  const select = $("k");
  const isAllowed = (option) => Number(option.value) <= limits.k_max;
  if (![...select.options].some(isAllowed)) select.add(new Option(limits.k_max));
  for (const option of select.options) option.disabled = !isAllowed(option);
  const allowed = [...select.options].filter(isAllowed);
  if (!isAllowed(select.selectedOptions[0])) allowed.at(-1).selected = true;
}

/** Takes note of how many counter-examples there are. */
export function countUnlike(count) {
  unlike = count;
  describeLeast();
}

/** The probability of a match is known of one example only: with counter-examples it would leave out what it knows nothing of. */
const isUncertain = () => calibrated && unlike > 0;

function describeLeast() {
  const least = Number($("least").value);
  const limit = isUncertain()
    ? "everything (no certainty with counter-examples)"
    : `at least ${least} % ${calibrated ? "sure match" : "similar"}`;
  say("least-text", least === 0 ? "everything" : limit);
}
$("least").addEventListener("input", describeLeast);

export async function listCategories() {
  const { categories } = await json("/v1/categories");
  if (categories.length < 2) return;
  $("category").append(...categories.map(({ name, items }) => new Option(`${name} (${number(items)})`, name)));
  $("category-option").hidden = false;
}
