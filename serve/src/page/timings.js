// Where the time of a search went.

import { $, element } from "./dom.js";

const STAGES = ["read", "decode", "preprocess", "embed", "search"];

const figure = (ms) => (ms < 10 ? ms.toFixed(1) : Math.round(ms).toString());

/** Shows the server's times of each stage, and the time that passed for the visitor. */
export function showTimings(ms, elapsed) {
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
