"""Make the cubes of this folder from a copy of them with images/, masks/ and nodules.csv.

Usage: python examples/nodules/make.py FOLDER

Cubes are chosen by seed among those whose nodule leaves room for a region without one; grey values are rounded to 64
levels, well within a scan's noise, to halve the files.
"""

import csv
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

HERE = Path(__file__).parent
SPLITS = {"train": 8, "val": 2, "test": 3}
VOXELS = range(100, 1200)  # of a nodule
LEVEL = 4  # grey values become one


def main(source: Path) -> None:
    """Write images/, masks/ and split.csv beside this script."""
    with (source / "nodules.csv").open(encoding="utf-8", newline="") as file:
        names = [row["volume"] for row in csv.DictReader(file) if int(row["voxels"]) in VOXELS]
    chosen = np.random.default_rng(2018).permutation(names)[: sum(SPLITS.values())].tolist()
    for folder in ("images", "masks"):
        (HERE / folder).mkdir(exist_ok=True)
        for name in chosen:
            cube = sitk.ReadImage(str(source / folder / f"{name}.nii.gz"), sitk.sitkUInt8)
            values = sitk.GetArrayFromImage(cube)
            rounded = sitk.GetImageFromArray(values // LEVEL * LEVEL if folder == "images" else values)
            rounded.CopyInformation(cube)
            sitk.WriteImage(rounded, str(HERE / folder / f"{name}.nii.gz"), True, 9)
    splits = [split for split, count in SPLITS.items() for _ in range(count)]
    rows = [f"{name},{split}\n" for name, split in zip(chosen, splits, strict=True)]
    (HERE / "split.csv").write_text("patient,split\n" + "".join(rows), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
