// The catalogue's pictures in img elements.

import { key, request } from "./api.js";
import { pause } from "./dom.js";

const TRIES = 3; // after a first one that came too soon after others
const NEARBY = "400px";

const wanted = new WeakMap(); // the address of an element's picture, and what to do if there is none

/** Shows a picture of the server; with a key it has to be fetched, as an element cannot send one. */
export function picture(image, url, failed) {
  if (key()) {
    wanted.set(image, { url, failed });
    nearby.observe(image);
  } else {
    image.onerror = failed;
    image.src = url;
  }
}

/** Lets elements come close to the window before their pictures are fetched: `loading="lazy"` can only do that for an address. */
const nearby = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    nearby.unobserve(target);
    const { url, failed } = wanted.get(target);
    bring(target, url, failed);
  }
}, { rootMargin: NEARBY });

async function bring(image, url, failed, tries = TRIES) {
  try {
    const file = await (await request(url)).blob();
    if (image.isConnected) show(image, file, failed);
  } catch (problem) {
    if (problem.status === 429 && tries > 0) {
      await pause(problem.wait || 1);
      if (image.isConnected) await bring(image, url, failed, tries - 1);
    } else if (image.isConnected) {
      failed();
    }
  }
}

function show(image, file, failed) {
  const address = URL.createObjectURL(file);
  const done = () => URL.revokeObjectURL(address);
  image.onload = done;
  image.onerror = () => {
    done();
    failed();
  };
  image.loading = "eager"; // one that is never loaded would never let go of its file
  image.src = address;
}
