// The catalogue browser: all products, page by page; one of them with all of its pictures.

import { $, describeServer, element, json, number, picture } from "./api.js";

const PAGE = 48;
let next = null;

function frame(url, title) {
  const image = element("img");
  Object.assign(image, { alt: title, loading: "lazy", decoding: "async" });
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
  const open = element("button", { className: "open", text: title });
  open.type = "button";
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
  $("more-products").disabled = true;
  try {
    const after = next === null ? "" : `&after=${encodeURIComponent(next)}`;
    const page = await json(`/v1/products?limit=${PAGE}${after}`);
    $("cards").append(...page.products.map(card));
    next = page.next ?? null;
    $("more-products").hidden = next === null;
    $("nothing").hidden = $("cards").childElementCount > 0;
    $("problem").hidden = true;
  } catch (problem) {
    $("problem-title").textContent = problem.message;
    $("problem-detail").textContent = problem.detail ?? "";
    $("problem").hidden = false;
  }
  $("more-products").disabled = false;
}

async function show(id, title) {
  const { items } = await json(`/v1/products/${encodeURIComponent(id)}`);
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
  $("product").showModal();
}

$("product-close").addEventListener("click", () => $("product").close());
$("more-products").addEventListener("click", load);
$("retry").addEventListener("click", load);
const info = await describeServer();
$("count").textContent = `${info.index.products === null ? "" : `${number(info.index.products)} products, `}${number(info.index.items)} pictures`;
await load();
