// The box on the picture: drawn with mouse, pen or finger, or moved with the keys. In shares of the upright picture.

import { $ } from "./dom.js";

const SMALLEST = 0.02; // of a side; anything less was a click
const STEP = 0.02;
const REST_MS = 400;

const area = $("crop");
let box = null; // { left, top, width, height }
let told = ""; // the box of the last search, as text
let drawing = null; // where it began, and the box before it
let settled = 0; // the timer that waits for the keys to rest
let changed = () => {};

/** Calls back with the box, or null for the whole picture, when the visitor has chosen another one. */
export function onCrop(callback) {
  changed = callback;
}

/** The box as the server takes it in a form, or nothing. */
export const cropText = () => box && [box.left, box.top, box.width, box.height].map((share) => share.toFixed(4)).join(",");

/** There is another picture: starts with the box that was chosen on it earlier, or with none. */
export function startCrop(image, earlier = null) {
  clearTimeout(settled);
  drawing = null;
  set(earlier);
  told = cropText() ?? "";
  image.addEventListener("load", () => set(box)); // only now is it known where the picture is in its frame
}

const clamp = (value, low = 0, high = 1) => Math.min(high, Math.max(low, value));

function set(next) {
  box = next;
  const frame = $("crop-box");
  frame.hidden = !box;
  $("whole").hidden = !box;
  if (box) {
    const inside = imageRect();
    const outside = area.getBoundingClientRect();
    Object.assign(frame.style, {
      left: `${inside.left - outside.left + box.left * inside.width}px`,
      top: `${inside.top - outside.top + box.top * inside.height}px`,
      width: `${box.width * inside.width}px`,
      height: `${box.height * inside.height}px`,
    });
    const name = (share) => `${Math.round(share * 100)} %`;
    frame.ariaLabel = `Part of the picture: from ${name(box.left)}, ${name(box.top)}; ${name(box.width)} wide, ${name(box.height)} high. Arrow keys move it, with Shift they resize it.`;
  }
}

/** Calls back if the box is not that of the last search. */
function tell() {
  const text = cropText() ?? "";
  if (text === told) return;
  told = text;
  changed(box);
}

/** Where the picture itself is in its frame: it is fitted in, with space left and right or above and below. */
function imageRect() {
  const image = $("preview");
  const frame = image.getBoundingClientRect();
  const scale = image.naturalWidth ? Math.min(frame.width / image.naturalWidth, frame.height / image.naturalHeight) : 0;
  const [width, height] = [image.naturalWidth * scale, image.naturalHeight * scale];
  return { left: frame.left + (frame.width - width) / 2, top: frame.top + (frame.height - height) / 2, width, height };
}

// --- with a pointer ---

function at(event) {
  const inside = imageRect();
  return [clamp((event.clientX - inside.left) / inside.width), clamp((event.clientY - inside.top) / inside.height)];
}

function between([x0, y0], [x1, y1]) {
  return { left: Math.min(x0, x1), top: Math.min(y0, y1), width: Math.abs(x1 - x0), height: Math.abs(y1 - y0) };
}

area.addEventListener("pointerdown", (event) => {
  if (!event.isPrimary || event.button !== 0) return;
  // Only a picture that is sent can be cut, and only one that is shown.
  if ($("cut").hidden || !$("preview").naturalWidth) return;
  // A finger on the picture scrolls the page, until "Search with a part" has made a box.
  if (event.pointerType === "touch" && !box) return;
  event.preventDefault();
  area.setPointerCapture(event.pointerId);
  drawing = { from: at(event), before: box };
});
area.addEventListener("pointermove", (event) => {
  if (drawing) set(between(drawing.from, at(event)));
});
area.addEventListener("pointerup", (event) => {
  if (!drawing) return;
  const drawn = between(drawing.from, at(event));
  drawing = null;
  set(drawn.width < SMALLEST || drawn.height < SMALLEST ? null : drawn);
  tell();
});
area.addEventListener("pointercancel", () => {
  if (drawing) set(drawing.before);
  drawing = null;
});

// --- without one: the button makes a box in the middle, the keys move and resize it ---

$("part").addEventListener("click", () => {
  set(box ?? { left: 0.2, top: 0.2, width: 0.6, height: 0.6 });
  $("crop-box").focus();
  tell();
});
$("whole").addEventListener("click", () => {
  $("part").focus(); // this button goes away with the box
  set(null);
  tell();
});
$("crop-box").addEventListener("keydown", (event) => {
  const [x, y] = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[event.key] ?? [];
  if (x === undefined) return;
  event.preventDefault();
  const { left, top, width, height } = box;
  set(event.shiftKey
    ? { left, top, width: clamp(width + x, SMALLEST, 1 - left), height: clamp(height + y, SMALLEST, 1 - top) }
    : { left: clamp(left + x, 0, 1 - width), top: clamp(top + y, 0, 1 - height), width, height });
  clearTimeout(settled); // search once the keys rest
  settled = setTimeout(tell, REST_MS);
});

window.addEventListener("resize", () => set(box));
