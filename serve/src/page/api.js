// Talking to the server: the API key, requests, problems, pictures, and the line in the head that says how it is.

const KEY = "dfml-key";

export const $ = (id) => document.getElementById(id);
export const number = (value) => value.toLocaleString("en");
export const percent = (share, digits = 0) => `${(Math.max(0, share) * 100).toFixed(digits)} %`;

const key = () => sessionStorage.getItem(KEY);

/** What went wrong, as the server tells it. */
export class Problem extends Error {
  constructor({ title, detail, code, request_id: id }) {
    super(title ?? "Something went wrong");
    Object.assign(this, { detail: detail ?? "", code: [code, id && `request ${id}`].filter(Boolean).join(" · ") });
  }
}

/** Sends a request with the key, if there is one; asks for a key if the server wants one. Throws a Problem or an AbortError. */
export async function request(path, options = {}) {
  const headers = new Headers(options.headers);
  if (key()) headers.set("authorization", `Bearer ${key()}`);
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ title: "The server cannot be reached", detail: "Is it still running?" });
  }
  if (response.status === 401 && (await askForKey())) return request(path, options);
  if (response.ok) return response;
  const problem = await response.json().catch(() => null);
  throw new Problem(problem ?? { title: `The server answered ${response.status}`, detail: "Its answer was not understood." });
}

export const json = async (path, options) => (await request(path, options)).json();
export const post = (path, body, options) =>
  json(path, { ...options, method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

let asking = null; // one dialog at a time, however many requests want a key

function askForKey() {
  asking ??= new Promise((resolve) => {
    const dialog = $("key-dialog");
    $("key-wrong").hidden = !key();
    dialog.returnValue = "";
    dialog.showModal();
    dialog.addEventListener("close", () => {
      asking = null;
      const given = dialog.returnValue === "use" && $("key").value.trim();
      if (given) sessionStorage.setItem(KEY, given);
      resolve(Boolean(given));
    }, { once: true });
  });
  return asking;
}

/** Shows a picture of the server in an img element; with a key it has to be fetched, as an element cannot send one. */
export async function picture(image, url, failed) {
  image.onerror = failed;
  if (!key()) {
    image.src = url;
    return;
  }
  try {
    const blob = await (await request(url)).blob();
    image.onload = () => URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(blob);
  } catch {
    failed?.();
  }
}

/** The line in the head. Returns what the server told, once it is ready. */
export async function describeServer() {
  const server = $("server");
  for (;;) {
    try {
      const info = await json("/v1/info");
      server.dataset.state = "ready";
      $("server-text").textContent = `${info.index.products === null ? "" : `${number(info.index.products)} products · `}${info.model.name} · ${info.provider.active}`;
      server.title = `Execution provider ${info.provider.active} (asked for ${info.provider.requested}): ${info.provider.reason}`;
      return info;
    } catch (problem) {
      server.dataset.state = "down";
      $("server-text").textContent = problem.message.includes("reached") ? "server unreachable" : "server not ready";
      await new Promise((resolve) => setTimeout(resolve, 3000));
    }
  }
}

/** An element with a class, text or children. */
export function element(name, { className, text, children } = {}) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  if (children) made.append(...children);
  return made;
}
