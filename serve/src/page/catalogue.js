// The catalogue browser: all products, page by page; one of them with all of its pictures.

import { json } from "./api.js";
import { $, element, number } from "./dom.js";
import { picture } from "./picture.js";
import { hideProblem, showProblem } from "./problem.js";
import { describeServer } from "./server.js";

const PAGE = 48;

let next = null; // where the next page begins
let loading = false; // in place of disabling the button, which would take the focus from it
let opening = null; // stops the product that was clicked before

function frame(url, title) {
  const image = element("img", { alt: title, loading: "lazy", decoding: "async" });
  const box = element("div", { className: "picture", children: [image] });
  const noPicture = () => {
    image.remove();
    box.classList.add("none");
  };
  if (url) picture(image, url, noPicture);
  else noPicture();
  return box;
}

function card(product) {
  const title = product.name ?? `Product ${product.id}`;
  const open = element("button", { className: "open", type: "button", text: title });
  open.addEventListener("click", () => show(product.id, title));
  const pictures = product.items === 1 ? "1 picture" : `${number(product.items)} pictures`;
  const item = element("li", {
    className: "card",
    children: [
      frame(product.image_url, title),
      element("div", {
        className: "text",
        children: [
          element("h3", { className: "name", children: [open] }),
          element("p", { className: "category", text: product.category ?? "" }),
          element("p", { className: "licence", text: pictures }),
        ],
      }),
    ],
  });
  item.dataset.product = product.id;
  return item;
}

async function load() {
  if (loading) return;
  loading = true;
  try {
    const after = next === null ? "" : `&after=${encodeURIComponent(next)}`;
    const page = await json(`/v1/products?limit=${PAGE}${after}`);
    const cards = page.products.map(card);
    $("cards").append(...cards);
    // What was pressed may go away: the keys go on with what came.
    const first = cards[0]?.querySelector(".open") ?? $("main");
    if (after || $("problem").contains(document.activeElement)) first.focus({ preventScroll: true });
    next = page.next ?? null;
    $("more-products").hidden = next === null;
    $("nothing").hidden = $("cards").childElementCount > 0;
    hideProblem();
  } catch (error) {
    fail(error, load);
  }
  loading = false;
}

async function show(id, title) {
  opening?.abort();
  opening = new AbortController();
  const { signal } = opening;
  try {
    const { items } = await json(`/v1/products/${encodeURIComponent(id)}`, { signal });
    if (signal.aborted) return;
    hideProblem();
    describe(title, items);
    $("product").showModal();
  } catch (error) {
    if (!signal.aborted) fail(error, () => show(id, title));
  }
}

function describe(title, items) {
  $("product-title").textContent = title;
  $("product-items").replaceChildren(...items.map((item) => {
    const search = element("a", { className: "more", text: "Find similar" });
    search.href = `/?item=${encodeURIComponent(item.id)}`;
    search.ariaLabel = `Find what is similar to ${item.id}`;
    return element("li", { className: "card", children: [frame(item.image_url, item.id), search] });
  }));
  const facts = Object.entries(items[0]?.metadata ?? {}).filter(([name]) => name !== "path");
  $("product-facts").replaceChildren(...facts.flatMap(([name, value]) => [
    element("dt", { text: name }),
    element("dd", { text: Array.isArray(value) ? value.join(", ") : String(value) }),
  ]));
}

function fail(error, tryAgain) {
  showProblem(error, tryAgain);
  $("problem").scrollIntoView({ block: "nearest" }); // the visitor may be far below
}

$("product-close").addEventListener("click", () => $("product").close());
$("more-products").addEventListener("click", load);
const { index } = await describeServer();
const products = index.products === null ? "" : `${number(index.products)} products, `;
$("count").textContent = `${products}${number(index.items)} pictures`;
await load();
