// Talking to the server: requests, what goes wrong with them, and the API key.

import { $, element } from "./dom.js";

const KEY = "dfml-key";
const SENDABLE = /^[\x21-\x7e]+$/; // what a header can carry
const GIVEN = "given"; // what the dialog returns when it was not cancelled

export const key = () => sessionStorage.getItem(KEY);

/** What went wrong, as the server tells it. The status is 0 where it did not answer. */
export class Problem extends Error {
  constructor({ title, detail, code, status, request_id: id, retry_after_seconds: wait }) {
    super(title ?? "Something went wrong");
    const codes = [code, id && `request ${id}`].filter(Boolean).join(" · ");
    Object.assign(this, { detail: detail ?? "", code: codes, status: status ?? 0, wait: wait ?? 0 });
  }
}

/** Sends a request with the key, if there is one; asks for a key if the server wants one. Throws a Problem or an AbortError. */
export async function request(path, options = {}) {
  const sent = key();
  const headers = new Headers(options.headers);
  if (sent) headers.set("authorization", `Bearer ${sent}`);
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ title: "The server cannot be reached", detail: "It may have stopped, or have too much to do." });
  }
  if (response.ok) return response;
  if (response.status === 401 && (await hasAnotherKey(sent))) return request(path, options);
  const told = await response.json().catch(() => null);
  const unknown = { title: `The server answered ${response.status}`, detail: "Its answer was not understood." };
  throw new Problem({ ...(told ?? unknown), status: response.status });
}

export const json = async (path, options) => (await request(path, options)).json();
export const post = (path, body, options) =>
  json(path, { ...options, method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

// --- the key ---

let asking = null; // one dialog at a time, however many requests want a key
let declined = false; // after Cancel the dialog opens only when the visitor wants it to
const waiting = []; // what goes on once there is a key

/** Resolves when the visitor next gives a key, wherever that is. */
export const keyGiven = () => new Promise((goOn) => waiting.push(goOn));

/** Whether there is a key to try after this one was refused: given to another request meanwhile, or in the dialog now. */
async function hasAnotherKey(refused) {
  return key() !== refused || (!declined && askForKey());
}

/** Opens the dialog; resolves to whether a key was given. */
export function askForKey() {
  asking ??= answer().then((given) => {
    asking = null;
    declined = !given;
    if (given) waiting.splice(0).forEach((goOn) => goOn());
    return given;
  });
  return asking;
}

function answer() {
  const dialog = $("key-dialog") ?? document.body.appendChild(keyDialog());
  dialog.returnValue = "";
  $("key").value = "";
  $("key-wrong").hidden = !key();
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === GIVEN), { once: true });
  });
}

function keyDialog() {
  const input = element("input", { id: "key", type: "password", autocomplete: "off", spellcheck: false, placeholder: "dfml_…" });
  const wrong = element("p", { id: "key-wrong", className: "wrong", role: "alert", text: "That key is not valid." });
  // Not a submit button: Enter presses the first of those.
  const cancel = element("button", { type: "button", text: "Cancel" });
  const form = element("form", {
    children: [
      element("h2", { id: "key-title", text: "This server needs a key" }),
      wrong,
      element("label", { className: "option", children: [element("span", { text: "API key" }), input] }),
      element("p", { className: "hint", text: "It is kept in this tab until it is closed." }),
      element("p", { className: "buttons", children: [cancel, element("button", { className: "strong", text: "Use this key" })] }),
    ],
  });
  const dialog = element("dialog", { id: "key-dialog", children: [form] });
  dialog.setAttribute("aria-labelledby", "key-title");
  cancel.addEventListener("click", () => dialog.close());
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const given = input.value.trim();
    if (SENDABLE.test(given)) {
      sessionStorage.setItem(KEY, given);
      dialog.close(GIVEN);
    } else {
      wrong.hidden = false;
      input.select();
    }
  });
  return dialog;
}
