"""Writes cars_annos.mat as SciPy writes it, in the form of the published file: an array of structures `annotations`.

Run with SciPy installed: `python make_cars_annos.py`. Four classes on each side of the split (98 | 99), three images each.
"""

import numpy
import scipy.io

CLASSES = [1, 2, 50, 98, 99, 100, 150, 196]
IMAGES = 3

fields = ["relative_im_path", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "test"]
rows = [
    (f"car_ims/{number + 1:06d}.jpg", 1, 2, 30, 40, CLASSES[number // IMAGES], number % 2)
    for number in range(len(CLASSES) * IMAGES)
]
annotations = numpy.array(rows, dtype=[(name, object) for name in fields]).reshape(1, -1)
names = numpy.array([f"Car {n}" for n in range(1, 197)], dtype=object).reshape(1, -1)
variables = {"annotations": annotations, "class_names": names}
scipy.io.savemat("cars_annos.mat", variables, do_compression=True)
