// The live status: what the server says of itself, every two seconds.

import { Problem, json, keyGiven } from "./api.js";
import { $, element, number, pause, percent, say } from "./dom.js";
import { describeServer } from "./server.js";

const EVERY_SECONDS = 2;
const WORDS = {
  ok: "All is well",
  degraded: "It answers, and something is wrong",
  loading: "It is loading its model and index",
  stopping: "It is stopping",
};

const milliseconds = (value) => (value === null ? "–" : value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`);

function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = value > 0 ? Math.min(units.length - 1, Math.floor(Math.log10(value) / 3)) : 0;
  return `${(value / 1000 ** power).toFixed(power > 0 ? 1 : 0)} ${units[power]}`;
}

function duration(seconds) {
  const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  return days > 0 ? `${days} d ${hours} h` : hours > 0 ? `${hours} h ${minutes} min` : minutes > 0 ? `${minutes} min` : `${Math.floor(seconds)} s`;
}

function tiles(id, pairs) {
  $(id).replaceChildren(...pairs.flatMap(([name, value]) => [element("dt", { text: name }), element("dd", { text: value })]));
}

/** The verdict and what is wrong. A screen reader reads out what changes here, so that only what differs is changed. */
function judge(status, verdict, problems) {
  document.body.dataset.status = status;
  say("verdict", verdict);
  const shown = [...$("problems").children].map((item) => item.textContent);
  if (shown.join("\n") === problems.join("\n")) return;
  $("problems").replaceChildren(...problems.map((text) => element("li", { text })));
}

function show(stats) {
  judge(stats.status, WORDS[stats.status], stats.problems);
  tiles("searches", [
    ["searches", number(stats.search_ms.count)],
    ["half within", milliseconds(stats.search_ms.p50)],
    ["95 % within", milliseconds(stats.search_ms.p95)],
    ["99 % within", milliseconds(stats.search_ms.p99)],
  ]);
  tiles("load", [
    ["up for", duration(stats.uptime_seconds)],
    ["requests", number(stats.requests)],
    ["failed", number(stats.failed)],
    ["refused for load", number(stats.rejected)],
    ["in flight", number(stats.in_flight)],
    ["waiting for the model", `${number(stats.queue_depth)} of ${number(stats.queue_capacity)}`],
  ]);
  const { index, model } = stats;
  tiles("index", index ? [
    ["products", index.products === null ? "many" : number(index.products)],
    ["pictures", number(index.items)],
    ["search", index.mode === "exact" ? "compares everything" : "walks a graph"],
    ["recall", index.recall === null ? "not measured yet" : percent(index.recall, 1)],
    ["memory", bytes(index.memory_bytes)],
    ["on disk", bytes(index.disk_bytes)],
    ["deleted, not reclaimed", number(index.tombstones)],
  ] : [["index", "not loaded yet"]]);
  tiles("model", model ? [
    ["model", model.name],
    ["computes on", model.provider_active],
    ["asked for", model.provider_requested],
    ["because", model.provider_reason],
    ["pictures per second", Math.round(model.images_per_second)],
    ["match probability", model.expected_calibration_error === null ? "not calibrated" : `off by ${percent(model.expected_calibration_error, 1)} on average`],
  ] : [["model", "not loaded yet"]]);
  const slowest = Math.max(...stats.stages_ms.map((stage) => stage.p99 ?? 0), 0.001);
  $("stages").replaceChildren(...stats.stages_ms.map((stage) => {
    const bar = element("meter");
    Object.assign(bar, { min: 0, max: slowest, value: stage.p99 ?? 0, ariaLabel: `${stage.stage}: 99 % within ${milliseconds(stage.p99)}` });
    const cells = [stage.stage, milliseconds(stage.p50), milliseconds(stage.p95), milliseconds(stage.p99)];
    return element("tr", { children: [...cells.map((text, at) => element(at === 0 ? "th" : "td", { text })), element("td", { children: [bar] })] });
  }));
}

/** Looks once; returns what went wrong, if anything did. */
async function look() {
  try {
    show(await json("/v1/stats"));
    return null;
  } catch (problem) {
    const detail = problem instanceof Problem ? problem.detail : String(problem);
    judge(problem.status === 401 ? "locked" : "down", problem.message, [detail]);
    return problem;
  } finally {
    $("time").textContent = `as of ${new Date().toLocaleTimeString("en-GB")}`;
  }
}

async function watch() {
  for (;;) {
    const problem = await look();
    await (problem?.status === 401 ? keyGiven() : pause(EVERY_SECONDS));
  }
}

describeServer();
watch();
