// The cards of the results, and those that stand in for them while the first are awaited.

import { $, element, percent } from "./dom.js";
import { picture } from "./picture.js";

/** A result. `more` and `less` are called with it as an example. */
export function card(result, { more, less }) {
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
  const example = () => ({ name: title, item: result.item_id, url: result.image_url });
  find(".more").ariaLabel = `More like ${title}`;
  find(".more").addEventListener("click", () => more(example()));
  find(".less").ariaLabel = `Less like ${title}`;
  find(".less").addEventListener("click", () => less(example()));
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

/** A card without anything on it. */
export function waitingCard() {
  const line = () => element("div", { className: "line" });
  const text = element("div", { className: "text", children: [line(), line()] });
  const children = [element("div", { className: "picture" }), text];
  return element("li", { className: "card waiting", ariaHidden: "true", children });
}
