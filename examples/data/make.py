"""Make the slices of this folder from a copy of the data set with images/NNNN.jpg, masks/NNNN.png and slices.csv.

Usage: python examples/data/make.py FOLDER

Patients are chosen by seed within each split of slices.csv; every slice of a chosen patient is kept,
halved to 256x256 pixels by averaging, and stored as JPEG of quality 88; its tumour's mask as PNG.
"""

import csv
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

from medaug_cli.boxes import BoxesFile, ImageBoxes, LabelledBox, write_boxes

HERE = Path(__file__).parent
PATIENTS = {"train": 37, "val": 7, "test": 16}
SIZE = 256


def chosen(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return the rows of the patients that the project ships."""
    patients = defaultdict(set)
    for row in rows:
        patients[row["split"]].add(row["patient"])
    chance = np.random.default_rng(2019)
    kept = {name for split, n in PATIENTS.items() for name in chance.permutation(sorted(patients[split]))[:n]}
    return [row for row in rows if row["patient"] in kept]


def main(source: Path) -> None:
    """Write images/, masks/, boxes.json and classes.csv beside this script."""
    with (source / "slices.csv").open(encoding="utf-8", newline="") as file:
        rows = chosen(list(csv.DictReader(file)))
    for name in ("images", "masks"):
        (HERE / name).mkdir(exist_ok=True)
    images = []
    for row in rows:
        picture = Image.open(source / "images" / f"{row['image']}.jpg").convert("L")
        scale = SIZE / picture.width
        name = f"images/{row['image']}.jpg"
        picture.resize((SIZE, SIZE), Image.Resampling.BOX).save(HERE / name, quality=88, optimize=True)
        mask = Image.open(source / "masks" / f"{row['image']}.png").convert("L")
        half = np.asarray(mask.resize((SIZE, SIZE), Image.Resampling.BOX)) >= 128
        Image.fromarray((half * 255).astype(np.uint8)).save(HERE / "masks" / f"{row['image']}.png", optimize=True)
        box = [float(row[side]) * scale for side in ("x_min", "y_min", "x_max", "y_max")]
        images.append(ImageBoxes(
            id=row["image"], file=name, width=SIZE, height=SIZE, patient=row["patient"], split=row["split"],
            boxes=[LabelledBox(box=box, label=row["label"])],
        ))  # fmt: skip
    write_boxes(HERE / "boxes.json", BoxesFile(version=1, images=images))
    lines = ["image,class", *(f"{row['image']},{row['label']}" for row in rows)]
    (HERE / "classes.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
