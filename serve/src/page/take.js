// The visitor's picture: from a file, the camera, the clipboard or a drop; read, and made small enough to be sent.

import { $, number } from "./dom.js";
import { Refusal } from "./problem.js";
import { serverInfo } from "./server.js";

const TAKEN = ["image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp"]; // by the server and by every browser
const LIGHT_BYTES = 1 << 20; // up to here a file is sent as it is
const FILE_BYTES_MAX = 256 << 20; // no photo is larger; a film would only fill the memory
const FORM_BYTES = 64 << 10; // room for the rest of the form
const SIDE = 2048; // pixels of the longer side: the model looks at far fewer, a small crop included
const SIDE_LEAST = 256;
const QUALITY = 0.92;

const tooLarge = (detail) => new Refusal({ title: "The picture is too large", detail });
const mebibytes = (bytes) => `${number(bytes / 2 ** 20)} MiB`;

// --- where it comes from ---

/** Calls back with each file that the visitor gives, or with a Refusal for what is none. */
export function onPicture(taken, refused) {
  for (const id of ["file", "camera"]) {
    $(id).addEventListener("change", ({ target }) => {
      const [file] = target.files;
      target.value = ""; // so that choosing the same file again is a change
      if (file) taken(file);
    });
  }
  document.addEventListener("paste", (event) => {
    const file = event.clipboardData?.files[0];
    if (file) taken(file);
  });
  document.addEventListener("dragenter", (event) => carriesFiles(event) && dragging(1));
  document.addEventListener("dragleave", (event) => carriesFiles(event) && dragging(-1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    dragging(-depth);
    const file = event.dataTransfer?.files[0];
    const detail = "Save the picture and drop the file, or copy and paste it.";
    if (file) taken(file);
    else refused(new Refusal({ title: "That is not a picture file", detail }));
  });
}

let depth = 0; // dragenter and dragleave also fire for every element inside
const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
function dragging(change) {
  depth = Math.max(0, depth + change);
  document.body.classList.toggle("dragging", depth > 0);
}

// --- what is sent of it ---

/** The picture of `asked.file` as it is sent, made once however often it is searched with. Throws a Refusal or a Problem. */
export async function prepared(asked) {
  if (!asked.sent) {
    asked.whole ??= read(asked.file); // at once: the file may have changed or gone by the time that the server is ready
    const whole = await asked.whole;
    const { limits } = await serverInfo();
    asked.sent ??= fit(whole, limits.body_bytes_max);
    asked.file = await asked.sent;
    delete asked.whole; // photos are large, and several are remembered
  }
  return asked.sent;
}

async function read(file) {
  if (file.size > FILE_BYTES_MAX) throw tooLarge(`Files of up to ${mebibytes(FILE_BYTES_MAX)} are opened.`);
  const bytes = await file.arrayBuffer().catch(() => null);
  if (!bytes?.byteLength) {
    throw new Refusal({ title: "The file cannot be read", detail: "It is a folder, is empty, or is no longer there." });
  }
  return new Blob([bytes], { type: file.type });
}

/** The file itself if the server takes it and it is light or small; else a JPEG of it, as small as it has to be. */
async function fit(file, bodyBytesMax) {
  const bytesMax = Math.max(bodyBytesMax - FORM_BYTES, bodyBytesMax / 2);
  const isTaken = TAKEN.includes(file.type) && file.size <= bytesMax;
  if (isTaken && file.size <= LIGHT_BYTES) return file;
  // What the browser cannot open is sent as it is: the server knows other formats, and what to say of the rest.
  const fitted = await redraw(file, isTaken, bytesMax).catch(() => file);
  if (fitted.size > bytesMax) throw tooLarge(`This server takes ${mebibytes(bodyBytesMax)}.`);
  return fitted;
}

async function redraw(file, isTaken, bytesMax) {
  const image = await createImageBitmap(file, { imageOrientation: "from-image" });
  try {
    const longer = Math.max(image.width, image.height);
    if (isTaken && longer <= SIDE) return file;
    let scale = Math.min(1, SIDE / longer);
    let drawn = await jpeg(image, scale);
    while (drawn.size > bytesMax && longer * scale > SIDE_LEAST) {
      scale /= 2;
      drawn = await jpeg(image, scale);
    }
    return drawn;
  } finally {
    image.close();
  }
}

function jpeg(image, scale) {
  const [width, height] = [image.width, image.height].map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#fff"; // under what is transparent, as on the server
  context.fillRect(0, 0, width, height);
  context.drawImage(image, 0, 0, width, height);
  return new Promise((resolve, reject) => {
    const made = (blob) => (blob ? resolve(blob) : reject(new Error("no memory for the picture")));
    canvas.toBlob(made, "image/jpeg", QUALITY);
  });
}
