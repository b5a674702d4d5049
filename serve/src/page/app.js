// The search page: takes a picture or a product of the catalogue, asks /v1/search, shows cards.

import { json, post } from "./api.js";
import { card, waitingCard } from "./cards.js";
import { cropText, onCrop, startCrop } from "./crop.js";
import { $, element } from "./dom.js";
import { chosen, countUnlike, fitOptions, listCategories, onChoice } from "./options.js";
import { picture } from "./picture.js";
import { hideProblem, showProblem } from "./problem.js";
import { describeServer, serverInfo } from "./server.js";
import { onPicture, prepared } from "./take.js";
import { showTimings } from "./timings.js";
import { onReturn, remember } from "./trail.js";

const WAITING_CARDS_MAX = 12;

const isNarrow = matchMedia("(max-width: 860px)");
const isCalm = matchMedia("(prefers-reduced-motion: reduce)");

/** What to search with: { name, file } or { name, item, url }; with it its counter-examples and its crop. */
let asked = null;
let running = null; // stops what is under way
let hadFocus = false; // whether the answer takes away what has the focus

onPicture((file) => searchWith({ name: file.name || "picture", file }), refuse);
onCrop((box) => {
  asked.crop = box;
  search();
});
onChoice(() => asked && search());
onReturn(ask);
$("form").addEventListener("submit", (event) => event.preventDefault());

// --- what is searched with ---

/** Starts over with another picture or product. */
function searchWith(next, replace = false) {
  remember(next, replace);
  ask(next);
  reveal();
}

function ask(next) {
  asked = next;
  asked.unlike ??= [];
  $("asked-name").textContent = asked.name;
  $("cut").hidden = !asked.file; // a stored picture is searched with as a whole
  preview();
  search();
}

function preview() {
  // A fresh element each time: what comes late for an earlier picture falls on the earlier one.
  const old = $("preview");
  const image = old.cloneNode();
  image.removeAttribute("src");
  image.alt = `Searching with: ${asked.name}`;
  image.hidden = false;
  old.replaceWith(image);
  URL.revokeObjectURL(old.src);
  document.body.classList.add("shown");
  startCrop(image, asked.crop);
  // The browser cannot show it; the server will say what it thinks of it.
  const cannotShow = () => {
    if (!image.isConnected) return;
    image.hidden = true;
    document.body.classList.remove("shown");
  };
  if (asked.file) {
    image.onerror = cannotShow;
    image.src = URL.createObjectURL(asked.file);
  } else if (asked.url) {
    picture(image, asked.url, cannotShow);
  } else {
    cannotShow();
  }
}

/** Comes from the catalogue: /?item=… searches with that picture. */
async function searchWithStored(item) {
  const signal = begin();
  try {
    const { metadata, image_url: url } = await json(`/v1/items/${encodeURIComponent(item)}`, { signal });
    if (!signal.aborted) searchWith({ name: metadata.name ?? item, item, url }, true);
  } catch (error) {
    if (!signal.aborted) fail(error, () => searchWithStored(item));
  }
}

// --- searching ---

async function search() {
  const signal = begin();
  const start = performance.now();
  try {
    const answer = await send(asked, signal);
    if (!signal.aborted) show(answer, performance.now() - start);
  } catch (error) {
    if (signal.aborted) return; // something else is searched with by now
    fail(error, search);
    describeServer().then(fitOptions);
  }
}

/** The search as the server takes it: JSON for a stored picture, a form for one that is sent. */
async function send(query, signal) {
  const { name, item, file, unlike } = query;
  const image = file && (await prepared(query));
  fitOptions(await serverInfo());
  const fields = chosen();
  const negative = unlike.map((example) => ({ item_id: example.item }));
  if (item) return post("/v1/search", { ...fields, item_id: item, negative }, { signal });
  const body = new FormData();
  for (const [field, value] of Object.entries(fields)) {
    if (value !== undefined) body.set(field, value);
  }
  if (cropText()) body.set("crop", cropText());
  if (negative.length > 0) body.set("negative", JSON.stringify(negative));
  body.set("image", image, name);
  return json("/v1/search", { method: "POST", body, signal });
}

/** Takes the place of whatever is under way, and says that an answer is awaited. */
function begin() {
  running?.abort();
  running = new AbortController();
  const focused = document.activeElement;
  hadFocus ||= $("results").contains(focused) || $("unlike").contains(focused);
  document.body.dataset.state = "searching";
  hideProblem();
  showUnlike();
  $("nothing").hidden = true;
  $("summary").textContent = "Searching…";
  // The last results stay in place until new ones come.
  if ($("cards").childElementCount === 0) {
    const length = Math.min(Number($("k").value), WAITING_CARDS_MAX);
    $("cards").replaceChildren(...Array.from({ length }, waitingCard));
  }
  return running.signal;
}

/** The counter-examples, each with a way to take it back. */
function showUnlike() {
  const unlike = asked?.unlike ?? [];
  countUnlike(unlike.length);
  $("unlike").hidden = unlike.length === 0;
  $("unlike-list").replaceChildren(...unlike.map((example) => {
    const ariaLabel = `No longer less like ${example.name}`;
    const button = element("button", { type: "button", ariaLabel, text: `${example.name} ×` });
    button.addEventListener("click", () => {
      asked.unlike = asked.unlike.filter((other) => other !== example);
      search();
    });
    return element("li", { children: [button] });
  }));
}

function show({ results, timings_ms: timings }, elapsed) {
  document.body.dataset.state = "answered";
  const less = (example) => {
    asked.unlike = [...asked.unlike.filter((other) => other.item !== example.item), example];
    search();
  };
  $("cards").replaceChildren(...results.map((result) => card(result, { more: searchWith, less })));
  $("nothing").hidden = results.length > 0;
  const noun = $("group").checked ? "product" : "picture";
  $("summary").textContent = `${results.length} ${noun}${results.length === 1 ? "" : "s"}, best first`;
  showTimings(timings, elapsed);
  keepFocus();
}

// --- what went wrong ---

/** What the visitor gave is no picture: what was asked for before stays. */
function refuse(refusal) {
  running?.abort();
  fail(refusal);
}

function fail(error, tryAgain) {
  document.body.dataset.state = "failed";
  $("cards").replaceChildren();
  $("nothing").hidden = true;
  $("timings").hidden = true;
  $("summary").textContent = "";
  showProblem(error, tryAgain);
  keepFocus();
  reveal();
}

// --- where the visitor is ---

/** If the answer has taken away what had the focus, the keys go on from the answer. */
function keepFocus() {
  const focused = document.activeElement;
  const isLost = focused === document.body || focused.closest("[hidden]");
  if (hadFocus && isLost) $("results").focus({ preventScroll: true });
  hadFocus = false;
}

/** On a narrow screen the answer is below the question, on a wide one beside it. */
function reveal() {
  const behavior = isCalm.matches ? "auto" : "smooth";
  if (isNarrow.matches) $("results").scrollIntoView({ behavior });
  else window.scrollTo({ top: 0, behavior });
}

// --- the beginning ---

fitOptions(await describeServer());
listCategories().catch(() => {}); // a search can do without
const item = new URLSearchParams(location.search).get("item");
// A picture that was dropped while the server was loading comes first.
if (item && !running) searchWithStored(item);
