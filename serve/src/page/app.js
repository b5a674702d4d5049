// The page: takes a picture (drop, paste, file, "more like this"), asks /v1/search, shows cards.
// Nothing here builds HTML from text: every value goes through textContent or a property.

const $ = (id) => document.getElementById(id);
const STAGES = ["read", "decode", "preprocess", "embed", "search"];
const IMAGE_BYTES_HINT = 1 << 20;

let picture = null; // the picture that was asked for last: { blob, name }
let running = null; // aborts the request under way

// --- taking pictures ---

$("file").addEventListener("change", (event) => {
  take(event.target.files);
  event.target.value = ""; // so that choosing the same file again is a change
});
document.addEventListener("paste", (event) => take(event.clipboardData?.files));
for (const name of ["category", "k"]) {
  $(name).addEventListener("change", () => picture && search());
}
$("retry").addEventListener("click", () => picture && search());
$("form").addEventListener("submit", (event) => event.preventDefault());

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
  if (file) show(file, file.name);
}

function show(blob, name) {
  picture = { blob, name: name || "picture" };
  const preview = $("preview");
  if (preview.src) URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(blob);
  preview.alt = `Your picture: ${picture.name}`;
  preview.hidden = false;
  // The browser cannot show it; the server will say what it thinks of it.
  preview.onerror = () => {
    preview.hidden = true;
    $("drop").classList.remove("filled");
  };
  $("drop").classList.add("filled");
  search();
}

// --- searching ---

async function search() {
  running?.abort();
  const mine = (running = new AbortController());
  document.body.dataset.state = "searching";
  waiting();
  const body = new FormData();
  body.set("image", picture.blob, picture.name);
  for (const name of ["k", "category"]) {
    if ($(name).value) body.set(name, $(name).value);
  }
  const start = performance.now();
  try {
    const response = await fetch("/v1/search", { method: "POST", body, signal: mine.signal });
    const answer = await response.json().catch(() => null);
    if (mine.signal.aborted) return;
    if (response.ok && answer) results(answer, performance.now() - start);
    else problem(answer ?? { title: `The server answered ${response.status}`, detail: "Its answer was not understood." });
  } catch (error) {
    if (error.name === "AbortError") return;
    const size = picture.blob.size > IMAGE_BYTES_HINT ? " If the picture is very large, try a smaller one." : "";
    problem({ title: "The server cannot be reached", detail: `Is it still running?${size}` });
    describeServer();
  }
}

function waiting() {
  $("problem").hidden = true;
  $("nothing").hidden = true;
  $("summary").textContent = "Searching…";
  if ($("cards").childElementCount > 0) return; // keep the last results in place until new ones come
  const count = Math.min(Number($("k").value), 12);
  $("cards").replaceChildren(...Array.from({ length: count }, () => {
    const card = document.createElement("li");
    card.className = "card waiting";
    card.ariaHidden = "true";
    const [frame, text] = [document.createElement("div"), document.createElement("div")];
    frame.className = "picture";
    text.className = "text";
    for (let i = 0; i < 2; i++) text.append(Object.assign(document.createElement("div"), { className: "line" }));
    card.append(frame, text);
    return card;
  }));
}

function results(answer, elapsed) {
  document.body.dataset.state = "answered";
  const found = answer.results;
  $("cards").replaceChildren(...found.map(card));
  $("nothing").hidden = found.length > 0;
  const noun = found.length === 1 ? "product" : "products";
  $("summary").textContent = `${found.length} ${noun}, best first`;
  timings(answer.timings_ms, elapsed);
}

function card(result) {
  const item = $("card").content.firstElementChild.cloneNode(true);
  const find = (selector) => item.querySelector(selector);
  const title = result.name ?? `Product ${result.product_id}`;
  item.dataset.product = result.product_id;
  item.dataset.item = result.item_id;
  const image = find("img");
  const noPicture = () => {
    image.remove();
    find(".more").remove();
    find(".picture").classList.add("none");
  };
  if (result.image_url) {
    image.onerror = noPicture;
    image.alt = title;
    image.src = result.image_url;
  } else noPicture();
  find(".rank").textContent = result.rank;
  find(".name").textContent = title;
  find(".category").textContent = result.category ?? "";
  const percent = `${(Math.max(0, result.score) * 100).toFixed(1)} %`;
  find("meter").value = Math.max(0, result.score);
  find("meter").ariaLabel = `similarity ${percent}`;
  find(".score span").textContent = percent;
  find(".score").title = `cosine similarity ${result.score.toFixed(4)}`;
  find(".licence").textContent = licence(result);
  const more = find(".more");
  if (more) {
    more.ariaLabel = `More like ${title}`;
    more.addEventListener("click", () => moreLike(result.image_url, title));
  }
  return item;
}

function licence({ creator, license }) {
  return [creator && `by ${creator}`, license].filter(Boolean).join(" · ");
}

async function moreLike(url, title) {
  const response = await fetch(url).catch(() => null);
  if (!response?.ok) return problem({ title: "That picture cannot be fetched", detail: title });
  show(await response.blob(), title);
  window.scrollTo({ top: 0, behavior: "smooth" });
}

// --- timings ---

const figure = (ms) => (ms < 10 ? ms.toFixed(1) : Math.round(ms).toString());

function timings(ms, elapsed) {
  $("timings").hidden = false;
  $("timings-total").textContent = `${figure(ms.total)} ms on the server, ${figure(elapsed)} ms in all`;
  $("timings-bar").replaceChildren(...STAGES.map((stage, index) => {
    const part = document.createElement("span");
    part.className = `stage-${index}`;
    part.style.flex = `${Math.max(ms[stage], 0.01)} 1 0`;
    return part;
  }));
  $("timings-list").replaceChildren(...STAGES.map((stage, index) => {
    const line = document.createElement("li");
    line.className = `stage-${index}`;
    for (const text of [stage, `${figure(ms[stage])} ms`]) {
      line.append(Object.assign(document.createElement("span"), { textContent: text }));
    }
    return line;
  }));
}

// --- problems ---

function problem({ title, detail, code, request_id: id }) {
  document.body.dataset.state = "failed";
  $("cards").replaceChildren();
  $("timings").hidden = true;
  $("summary").textContent = "";
  $("problem-title").textContent = title ?? "Something went wrong";
  $("problem-detail").textContent = detail ?? "";
  $("problem-code").textContent = [code, id && `request ${id}`].filter(Boolean).join(" · ");
  $("problem").hidden = false;
}

// --- the server's state ---

async function describeServer() {
  const server = $("server");
  try {
    const response = await fetch("/v1/info");
    const info = await response.json();
    if (!response.ok) throw new Error(info.title);
    server.dataset.state = "ready";
    const products = info.index.products.toLocaleString("en");
    $("server-text").textContent = `${products} products · ${info.model.name} · ${info.provider.active}`;
    server.title = `Execution provider ${info.provider.active} (asked for ${info.provider.requested}): ${info.provider.reason}`;
  } catch (error) {
    server.dataset.state = "down";
    $("server-text").textContent = error instanceof TypeError ? "server unreachable" : "server not ready";
    setTimeout(describeServer, 3000);
  }
}

async function listCategories() {
  const response = await fetch("/v1/categories").catch(() => null);
  if (!response?.ok) return;
  const { categories } = await response.json();
  if (categories.length < 2) return;
  const options = categories.map(({ name, items }) => new Option(`${name} (${items.toLocaleString("en")})`, name));
  $("category").append(...options);
  $("category-option").hidden = false;
}

describeServer().then(listCategories);
