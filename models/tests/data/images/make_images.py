"""Writes small JPEGs of kinds that Rust crates cannot encode, and what Pillow decodes them to: `python make_images.py` here.

A 48x32 picture: smooth, so that chroma subsampling costs little, and different in every corner, so that a mirrored or
turned result shows.
"""

import io

import numpy as np
import webp
from PIL import Image

y, x = np.mgrid[0:32, 0:48] / np.array([31.0, 47.0])[:, None, None]
picture = Image.fromarray((np.stack([x, y, 0.5 + 0.5 * np.sin(3 * x + 2 * y)], -1) * 255).round().astype("uint8"))


def write(name, image, **options):
    image.save(f"{name}.jpg", quality=92, **options)
    Image.open(f"{name}.jpg").convert("RGB").save(f"{name}.expected.png", optimize=True)


write("progressive", picture, progressive=True)
write("gray", picture.convert("L"))
write("cmyk", picture.convert("CMYK"))
write("restarts", picture, restart_marker_blocks=2)
for orientation in range(1, 9):
    exif = Image.Exif()
    exif[0x0112] = orientation
    # What the camera would store so that the viewer sees `picture`: the inverse of the turn that the tag asks for.
    inverse = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = picture if inverse is None else picture.transpose(inverse)
    stored.save(f"orientation{orientation}.jpg", quality=92, exif=exif, subsampling=0)
picture.save("picture.png", optimize=True)
picture.save("lossy.webp", quality=80)
# Eight partitions, the 19th number of libwebp's settings, which neither Pillow nor the package webp has a name for.
config = webp.WebPConfig.new(quality=60, method=2)
webp.ffi.cast("int *", config.ptr)[18] = 3
with open("partitions.webp", "wb") as file:
    file.write(webp.WebPPicture.from_pil(picture.resize((32, 144))).encode(config).buffer())
