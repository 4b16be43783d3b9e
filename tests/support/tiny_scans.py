"""Tiny pictures and volumes with light lesions, and what preprocess makes of them, in milliseconds each."""

import json
from dataclasses import replace

import numpy as np
import SimpleITK as sitk
from PIL import Image

from medaug_cli.preprocess.pipeline import PreprocessOptions, preprocess, summary
from medaug_cli.preprocess.recipe import Recipe

SIDE = 32
BOX = (8, 6, 18, 16)
PLAIN = Recipe(size=16, strip="none", denoising="none")


def picture(path, *boxes, side=SIDE):
    """Write a grey picture with light boxes."""
    image = np.full((side, side), 60, np.uint8) + np.indices((side, side)).sum(0).astype(np.uint8) % 7
    for x_min, y_min, x_max, y_max in boxes:
        image[y_min:y_max, x_min:x_max] = 200
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def mask(path, *boxes, side=SIDE):
    """Write a mask of boxes."""
    image = np.zeros((side, side), np.uint8)
    for x_min, y_min, x_max, y_max in boxes:
        image[y_min:y_max, x_min:x_max] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def volume(path, values):
    """Write a volume (z, y, x) of cubic millimetres, from whose voxels boxes go as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(np.asarray(values)), str(path))


def grey_volume(slices=6, side=SIDE):
    return (60 + np.indices((slices, side, side)).sum(0) % 7).astype(np.int16)


def rows(folder, lines, header="image,x_min,y_min,x_max,y_max"):
    """Write boxes.csv."""
    (folder / "boxes.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return folder / "boxes.csv"


def options(folder, recipe=PLAIN, **changes):
    """Return options for the scans in scans/, whose store goes to out/."""
    said = changes.setdefault("said", [])
    changes = {name: value for name, value in changes.items() if name != "said"}
    return PreprocessOptions(folder / "scans", folder / "out/real.h5", recipe=recipe, announce=said.append, **changes)


def made(folder, recipe=PLAIN, **changes):
    """Return the store that preprocess makes."""
    return preprocess(replace(options(folder, recipe, **changes), workers=1))


def summed(store):
    """Return the summary of a store."""
    return summary(store.path, store)


def reported(store):
    """Return preprocess.json."""
    return json.loads(store.path.with_name("preprocess.json").read_text(encoding="utf-8"))
