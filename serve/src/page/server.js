// What the server tells of itself, and the line in the head that says how it is.

import { askForKey, json, keyGiven } from "./api.js";
import { $, element, number, pause, say } from "./dom.js";

const EVERY_SECONDS = 3;

let known = null; // what it told last
let describing = null; // one loop at a time, however many want to know

/** What the server told of itself; asked for if that is not known yet. Throws a Problem. */
export async function serverInfo() {
  known ??= await json("/v1/info");
  return known;
}

/** Asks the server how it is until it is ready, and says so in the head. Returns what it told. */
export function describeServer() {
  describing ??= describe().finally(() => {
    describing = null;
  });
  return describing;
}

async function describe() {
  for (;;) {
    try {
      known = await json("/v1/info");
      const { index, model, provider } = known;
      const products = index.products === null ? "" : `${number(index.products)} products · `;
      const why = `Execution provider ${provider.active} (asked for ${provider.requested}): ${provider.reason}`;
      head("ready", `${products}${model.name} · ${provider.active}`, why);
      return known;
    } catch (problem) {
      if (problem.status === 401) {
        head("locked", "a key is needed");
        await keyGiven();
      } else {
        head("down", problem.status === 0 ? "server unreachable" : "server not ready");
        await pause(Math.max(EVERY_SECONDS, problem.wait ?? 0));
      }
    }
  }
}

function head(state, text, title = "") {
  const server = $("server");
  server.dataset.state = state;
  server.title = title;
  say("server-text", text);
  const button = $("server-key");
  if (state === "locked" && !button) {
    const enter = element("button", { id: "server-key", type: "button", text: "Enter a key" });
    enter.addEventListener("click", askForKey);
    server.append(enter);
  } else if (state !== "locked" && button) {
    const hadFocus = document.activeElement === button;
    button.remove();
    if (hadFocus) $("main").focus({ preventScroll: true });
  }
}
