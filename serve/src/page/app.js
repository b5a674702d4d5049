// The page: takes a picture (drop, paste, camera, file) or a product of the catalogue, asks /v1/search, shows cards.
// Nothing here builds HTML from text: every value goes through textContent or a property.

import { $, Problem, describeServer, element, json, percent, picture, post, request } from "./api.js";
import { clearCrop, cropText, onCrop } from "./crop.js";

const STAGES = ["read", "decode", "preprocess", "embed", "search"];

let asked = null; // what to search with: { blob, name } or { item, url, name }
let unlike = []; // counter-examples: { item, name }
let calibrated = false;
let running = null; // aborts the request under way

// --- taking pictures ---

for (const id of ["file", "camera"]) {
  $(id).addEventListener("change", (event) => {
    take(event.target.files);
    event.target.value = ""; // so that choosing the same file again is a change
  });
}
document.addEventListener("paste", (event) => take(event.clipboardData?.files));
for (const name of ["category", "k", "least", "group"]) {
  $(name).addEventListener("change", () => asked && search());
}
$("least").addEventListener("input", describeLeast);
$("retry").addEventListener("click", () => asked && search());
$("form").addEventListener("submit", (event) => event.preventDefault());
onCrop(() => search());

let depth = 0; // dragenter and dragleave also fire for every element inside
const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
function dragging(change) {
  depth = Math.max(0, depth + change);
  document.body.classList.toggle("dragging", depth > 0);
}
document.addEventListener("dragenter", (event) => carriesFiles(event) && dragging(1));
document.addEventListener("dragleave", (event) => carriesFiles(event) && dragging(-1));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  dragging(-depth);
  take(event.dataTransfer?.files);
});

function take(files) {
  const file = files?.[0];
  if (file) searchWith({ blob: file, name: file.name || "picture" });
}

/** Starts over with another picture or product. */
function searchWith(next) {
  asked = next;
  unlike = [];
  clearCrop();
  const preview = $("preview");
  if (preview.src.startsWith("blob:")) URL.revokeObjectURL(preview.src);
  preview.alt = `Searching with: ${next.name}`;
  preview.hidden = false;
  // The browser cannot show it; the server will say what it thinks of it.
  const cannotShow = () => {
    preview.hidden = true;
    document.body.classList.remove("shown");
  };
  document.body.classList.add("shown");
  $("asked-name").textContent = next.name;
  $("cut").hidden = !next.blob; // a stored picture is searched with as a whole
  if (next.blob) {
    preview.onerror = cannotShow;
    preview.src = URL.createObjectURL(next.blob);
  } else if (next.url) {
    picture(preview, next.url, cannotShow);
  } else {
    cannotShow();
  }
  search();
}

// --- searching ---

/** The search as the server takes it: JSON for a stored picture, a form for one that is sent. */
function send(options) {
  const least = Number($("least").value) / 100;
  const fields = {
    k: Number($("k").value),
    category: $("category").value || undefined,
    group_by: $("group").checked ? "product" : "item",
    [calibrated ? "min_probability" : "threshold"]: least > 0 ? least : undefined,
  };
  const negative = unlike.map(({ item }) => ({ item_id: item }));
  if (asked.item) return post("/v1/search", { ...fields, item_id: asked.item, negative }, options);
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (value !== undefined) body.set(name, value);
  }
  if (cropText()) body.set("crop", cropText());
  if (negative.length > 0) body.set("negative", JSON.stringify(negative));
  body.set("image", asked.blob, asked.name);
  return json("/v1/search", { ...options, method: "POST", body });
}

async function search() {
  running?.abort();
  const mine = (running = new AbortController());
  document.body.dataset.state = "searching";
  chips();
  waiting();
  const start = performance.now();
  try {
    const answer = await send({ signal: mine.signal });
    if (!mine.signal.aborted) results(answer, performance.now() - start);
  } catch (error) {
    if (error.name === "AbortError" || mine.signal.aborted) return;
    problem(error);
    describeServer();
  }
}

/** The counter-examples, each with a way to take it back. */
function chips() {
  $("unlike").hidden = unlike.length === 0;
  $("unlike-list").replaceChildren(...unlike.map((example) => {
    const button = element("button", { text: `${example.name} ×` });
    button.type = "button";
    button.ariaLabel = `No longer less like ${example.name}`;
    button.addEventListener("click", () => {
      unlike = unlike.filter((other) => other !== example);
      search();
    });
    return element("li", { children: [button] });
  }));
}

function waiting() {
  $("problem").hidden = true;
  $("nothing").hidden = true;
  $("summary").textContent = "Searching…";
  if ($("cards").childElementCount > 0) return; // keep the last results in place until new ones come
  const line = () => element("div", { className: "line" });
  $("cards").replaceChildren(...Array.from({ length: Math.min(Number($("k").value), 12) }, () => {
    const card = element("li", {
      className: "card waiting",
      children: [element("div", { className: "picture" }), element("div", { className: "text", children: [line(), line()] })],
    });
    card.ariaHidden = "true";
    return card;
  }));
}

function results(answer, elapsed) {
  document.body.dataset.state = "answered";
  const found = answer.results;
  $("cards").replaceChildren(...found.map(card));
  $("nothing").hidden = found.length > 0;
  const noun = $("group").checked ? (found.length === 1 ? "product" : "products") : found.length === 1 ? "picture" : "pictures";
  $("summary").textContent = `${found.length} ${noun}, best first`;
  timings(answer.timings_ms, elapsed);
}

function card(result) {
  const item = $("card").content.firstElementChild.cloneNode(true);
  const find = (selector) => item.querySelector(selector);
  const title = result.name ?? `Product ${result.product_id}`;
  Object.assign(item.dataset, { product: result.product_id, item: result.item_id });
  const image = find("img");
  const noPicture = () => {
    image.remove();
    find(".picture").classList.add("none");
  };
  image.alt = title;
  if (result.image_url) picture(image, result.image_url, noPicture);
  else noPicture();
  find(".rank").textContent = result.rank;
  find(".name").textContent = title;
  find(".category").textContent = result.category ?? "";
  score(find, result);
  find(".licence").textContent = [result.creator && `by ${result.creator}`, result.license].filter(Boolean).join(" · ");
  const example = { item: result.item_id, url: result.image_url, name: title };
  find(".more").ariaLabel = `More like ${title}`;
  find(".more").addEventListener("click", () => {
    searchWith(example);
    window.scrollTo({ top: 0, behavior: "smooth" });
  });
  find(".less").ariaLabel = `Less like ${title}`;
  find(".less").addEventListener("click", () => {
    unlike = [...unlike.filter((other) => other.item !== example.item), example];
    search();
  });
  return item;
}

/** How sure the match is, where the model can say; how similar the pictures are always. */
function score(find, { score: similarity, match_probability: probability }) {
  const told = probability ?? similarity;
  const words = probability === null ? percent(similarity, 1) : `${percent(probability)} match`;
  find("meter").value = Math.max(0, told);
  find("meter").ariaLabel = probability === null ? `similarity ${words}` : `probability of a match ${percent(probability)}`;
  find(".score span").textContent = words;
  find(".score").title = `cosine similarity ${similarity.toFixed(4)}`;
  find(".similarity").textContent = probability === null ? "" : `similarity ${percent(similarity, 1)}`;
}

// --- timings ---

const figure = (ms) => (ms < 10 ? ms.toFixed(1) : Math.round(ms).toString());

function timings(ms, elapsed) {
  $("timings").hidden = false;
  $("timings-total").textContent = `${figure(ms.total)} ms on the server, ${figure(elapsed)} ms in all`;
  $("timings-bar").replaceChildren(...STAGES.map((stage, index) => {
    const part = element("span", { className: `stage-${index}` });
    part.style.flex = `${Math.max(ms[stage], 0.01)} 1 0`;
    return part;
  }));
  $("timings-list").replaceChildren(...STAGES.map((stage, index) => element("li", {
    className: `stage-${index}`,
    children: [stage, `${figure(ms[stage])} ms`].map((text) => element("span", { text })),
  })));
}

// --- problems ---

function problem(error) {
  const { message, detail, code } = error instanceof Problem ? error : new Problem({ detail: String(error) });
  document.body.dataset.state = "failed";
  $("cards").replaceChildren();
  $("timings").hidden = true;
  $("summary").textContent = "";
  $("problem-title").textContent = message;
  $("problem-detail").textContent = detail;
  $("problem-code").textContent = code;
  $("problem").hidden = false;
}

// --- what can be chosen ---

function describeLeast() {
  const least = Number($("least").value);
  const what = calibrated ? "sure match" : "similar";
  $("least-text").textContent = least === 0 ? "everything" : `at least ${least} % ${what}`;
}

async function listCategories() {
  const { categories } = await json("/v1/categories");
  if (categories.length < 2) return;
  const options = categories.map(({ name, items }) => new Option(`${name} (${items.toLocaleString("en")})`, name));
  $("category").append(...options);
  $("category-option").hidden = false;
}

/** Comes from the catalogue: /?item=… searches with that picture. */
async function searchFromAddress() {
  const item = new URLSearchParams(location.search).get("item");
  if (!item) return;
  try {
    const { metadata, image_url: url } = await (await request(`/v1/items/${encodeURIComponent(item)}`)).json();
    searchWith({ item, url, name: metadata.name ?? item });
  } catch (error) {
    problem(error);
  }
}

const info = await describeServer();
calibrated = info.model.calibrated;
describeLeast();
await Promise.all([searchFromAddress(), listCategories().catch(() => {})]);
