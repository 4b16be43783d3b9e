"""Answers on the images of a store of scans, written for people and programs that know the scans alone.

Classes become tables, an image and a scan a row. Masks lie in the pixels of their scan: PNG for a picture, NIfTI for a
volume, 0 where there is nothing, then the labels in the order of labels.json.
"""

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli.forms.naming import bare
from medaug_cli.plugin import Grid
from medaug_cli.scans.masks import PREDICTED
from medaug_cli.scans.way_back import scan_mask, stored_slice
from medaug_cli.scans.writing import write_volume
from medaug_cli.store import Store

DIGITS = 6  # of a probability
Labelled = tuple[np.ndarray, Grid | None]  # labels (*s), and the grid of a volume's


def write_classes(store: Store, answers: Sequence[np.ndarray], names: Sequence[str], out: Path) -> None:
    """Write images.csv with the probabilities (k,) of each image, and scans.csv with their mean over each scan."""
    by_scan = _by_scan(store)
    rows = [
        {
            "image": store.ids[i],
            "file": file,
            "slice": _shown(stored_slice(store.details[i])),
            **_shares(answers[i], names),
        }
        for file, images in by_scan.items()
        for i in images
    ]
    means = {file: np.mean([answers[i] for i in images], axis=0) for file, images in by_scan.items()}
    scans = [
        {"file": file, "images": len(by_scan[file]), **_shares(mean, names), "class": names[int(mean.argmax())]}
        for file, mean in means.items()
    ]
    for name, table in (("images.csv", rows), ("scans.csv", scans)):
        with (out / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table)


class ScanMasks(Mapping[str, Labelled]):
    """The file of each scan -> its labels (*s) in its stored pixels, and the grid of a volume's.

    They are made when they are asked for: whole scans are many times as large as what a network saw of them.
    """

    def __init__(self, store: Store, answers: Sequence[np.ndarray]):
        self._store, self._answers, self._images = store, answers, _by_scan(store)

    def __getitem__(self, file: str) -> Labelled:
        images = self._images[file]
        return scan_mask([self._store.details[i] for i in images], [self._answers[i] for i in images])

    def __iter__(self) -> Iterator[str]:
        return iter(self._images)

    def __len__(self) -> int:
        return len(self._images)

    def stems(self) -> dict[str, str]:
        """Return what the mask of each scan is called, by the scan's file: `preprocess --masks` finds its scan by that.

        It is the name of a file that lies in the folder of scans itself, and of others the scan's id; no two are alike.
        """
        ids = {file: _scan_id(self._store, images[0]) for file, images in self._images.items()}
        own = {file: bare(file) or file for file in ids if "/" not in file}
        taken = Counter([*own.values(), *(ids[file] for file in ids if file not in own)])
        return {file: own[file] if taken[own.get(file, "")] == 1 else ids[file] for file in ids}


def _scan_id(store: Store, i: int) -> str:
    """Return the id of the scan that an image is of, which is the image's own but for the number of a slice."""
    return store.ids[i].rpartition("-")[0] if "slice" in store.details[i] else store.ids[i]


def write_masks(masks: ScanMasks, names: Sequence[str], out: Path) -> int:
    """Write the masks of scans, NAME.png or NAME.nii.gz, and labels.json; return in how many something is marked."""
    stems, marked = masks.stems(), 0
    for file, (mask, grid) in masks.items():
        marked += bool(mask.any())
        if grid is None:
            from PIL import Image

            Image.fromarray(mask).save(out / f"{stems[file]}.png", format="PNG")
        else:
            from medaug_cli.scans.grids import as_image

            write_volume(as_image(mask, grid), out / f"{stems[file]}.nii.gz")
    labels = {name: value for value, name in enumerate(names, 1)}
    (out / PREDICTED).write_text(json.dumps({"background": 0, **labels}, indent=1) + "\n", encoding="utf-8")
    return marked


def _by_scan(store: Store) -> dict[str, list[int]]:
    """Return which images come from each scan, by the name of its file."""
    scans: dict[str, list[int]] = {}
    for i, details in enumerate(store.details):
        scans.setdefault(details["file"], []).append(i)
    return scans


def _shares(probabilities: np.ndarray, names: Sequence[str]) -> Mapping[str, Any]:
    return {name: f"{share:.{DIGITS}f}" for name, share in zip(names, probabilities.tolist(), strict=True)}


def _shown(number: int | None) -> str:
    return "" if number is None else str(number)
