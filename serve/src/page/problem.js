// The box that says what went wrong, with a way on where there is one.

import { Problem, askForKey, keyGiven } from "./api.js";
import { $ } from "./dom.js";

/** What the page itself does not do; it would not the next time either. */
export class Refusal extends Problem {}

let shown = null;
let again = null; // what "Try again" does

/** Says what went wrong. `tryAgain` is offered where it can help. */
export function showProblem(error, tryAgain) {
  const problem = error instanceof Problem ? error : new Problem({ detail: String(error) });
  shown = problem;
  again = isLasting(problem) ? null : tryAgain;
  if (problem.status === 401) {
    again = askForKey;
    keyGiven().then(() => shown === problem && tryAgain());
  }
  $("problem-title").textContent = problem.message;
  $("problem-detail").textContent = problem.detail;
  $("problem-code").textContent = problem.code;
  $("retry").hidden = !again;
  $("problem").hidden = false;
}

export function hideProblem() {
  shown = null;
  $("problem").hidden = true;
}

/** Whether the same would only be refused again: the fault is with what was asked, not with the load or the moment. */
function isLasting(problem) {
  const { status } = problem;
  return problem instanceof Refusal || (status >= 400 && status < 500 && status !== 408 && status !== 429);
}

$("retry").addEventListener("click", () => again());
