"""Gather the pictures and numbers of a finished demo on one page that loads nothing: `python page.py FOLDER`."""

import base64
import csv
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader
from PIL import Image

from medaug_cli import __version__
from medaug_cli.embedding.layout import MapReport
from medaug_cli.embedding.tables import numbers_table
from medaug_cli.evaluation.predicting import load_for, predicted
from medaug_cli.figures.grid import draw_grid
from medaug_cli.figures.planes import AXES, planes
from medaug_cli.figures.task_figures import captioned, confusion_svg, outlined, png
from medaug_cli.files import new_file, publish_text, read_json
from medaug_cli.metrics.report import Metrics
from medaug_cli.metrics.table import tables as detection_tables
from medaug_cli.store import Store, open_store
from medaug_cli.tables import fixed
from medaug_cli.tasks.report import TaskMetrics
from medaug_cli.tasks.report import tables as task_tables
from medaug_cli.tasks.segmentation import mask_cases
from medaug_cli.tasks.task import task_named

HERE = Path(__file__).parent
COLUMNS, SLICES, OVERLAYS, PATIENTS, NODULES = 4, 16, 4, 9, 6


def embedded(picture: Path | bytes | str) -> str:
    """Return a picture, PNG or SVG, as a data URL."""
    content = picture.read_bytes() if isinstance(picture, Path) else picture
    content = content.encode() if isinstance(content, str) else content
    kind = "png" if content.startswith(b"\x89PNG") else "svg+xml"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def by_seed(indices: Sequence[int], count: int) -> list[int]:
    """Choose some images by seed, and return them in their order."""
    return sorted(np.random.default_rng(0).permutation(indices)[:count].tolist())


def sheet(store: Store) -> Any:
    """Draw images of the training split, chosen by seed, with their boxes."""
    chosen = by_seed(store.indices("train"), SLICES)
    images, boxes = [np.asarray(store.images[i]) for i in chosen], [store.boxes[i] for i in chosen]
    return draw_grid(images, boxes, columns=COLUMNS, cell=max(128, store.spec.spatial[-1]))


def side_by_side(left: Any, right: Any, path: Path) -> None:
    """Publish two sheets beside each other."""
    whole = Image.new("RGB", (left.width + 12 + right.width, left.height), (255, 255, 255))
    whole.paste(left, (0, 0))
    whole.paste(right, (left.width + 12, 0))
    with new_file(path) as temporary:
        whole.save(temporary, format="PNG", optimize=True)


def stores_part(folder: Path, real: Store) -> dict[str, Any]:
    """Return what the data are, real beside synthetic, and whom the generator has seen."""
    synthetic, test = open_store(folder / "kept.h5"), real.indices("test")
    (origin,) = synthetic.info.generators
    sheets = sheet(real), sheet(synthetic)
    side_by_side(*sheets, folder / "real-and-synthetic.png")
    return {
        "real": real, "training": len(real.indices("train")), "patients": len(set(real.patients)),
        "trained": len({real.patients[i] for i in real.indices("train")}),
        "test": len(test), "test_patients": len({real.patients[i] for i in test}),
        "drawn": len(open_store(folder / "synthetic.h5")), "kept": len(synthetic),
        "shipped": origin.training_store != real.hash, "known": len(origin.training_patients),
        "real_sheet": embedded(png(sheets[0])), "synthetic_sheet": embedded(png(sheets[1])),
    }  # fmt: skip


def boxes_part(folder: Path) -> dict[str, Any]:
    """Return the tables of both detectors at the first IoU, and what synthetic images change there."""
    metrics = read_json(folder / "evaluation/metrics.json", Metrics)
    table_1, matched, *_, differences = detection_tables(metrics)
    return {
        "detection": [table_1, matched, replace(differences, rows=differences.rows[: len(differences.rows) // 2])],
        "found": [row.iou["0.5"].at_fps["1"] or 0.0 for row in metrics.rows],
        "change": (metrics.rows[1].against_first or {})["0.5"]["sensitivity_at_1"],
        "froc": embedded(folder / "evaluation/froc.svg"),
        "overlays": [embedded(path) for path in sorted((folder / "evaluation/overlays").glob("*.png"))[:OVERLAYS]],
    }


def likeness_part(folder: Path) -> dict[str, Any]:
    """Return what t-SNE's numbers say of the synthetic slices, and of held-out real ones."""
    report = read_json(folder / "tsne.json", MapReport)
    return {
        "likeness": numbers_table(report), "tsne": embedded(folder / "tsne.png"),
        "asked": report.sets[0].fidelity, "held_out": report.reference and report.reference.fidelity,
    }  # fmt: skip


def headline(metrics: TaskMetrics) -> dict[str, Any]:
    """Return the first table of an evaluation, and its main number with and without its interval."""
    task = task_named(metrics.task)
    value = metrics.rows[0].values[task.headline]
    cell = fixed(value.value, 2, value.interval)
    return {"table": task_tables(metrics, task.measures, task.main)[0], "value": cell.value, "words": str(cell)}


def classes_part(folder: Path) -> dict[str, Any]:
    """Return the numbers of the classifier, and its confusion matrix."""
    metrics = read_json(folder / "metrics.json", TaskMetrics)
    kinds = list(metrics.counts)
    with (folder / "truth.csv").open(encoding="utf-8", newline="") as file:
        truth = {row["image"]: kinds.index(row["class"]) for row in csv.DictReader(file)}
    matrix = np.zeros((len(kinds), len(kinds)), int)
    with (folder / "predictions/classifier.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            matrix[truth[row["image"]], int(np.argmax([float(row[kind]) for kind in kinds]))] += 1
    confusion = embedded(confusion_svg({"classifier": matrix}, kinds))
    return {"classes": headline(metrics), "kinds": kinds, "confusion": confusion}


def masks_part(folder: Path, real: Store) -> dict[str, Any]:
    """Return the numbers of the segmenter, and outlines on a slice of each of some test patients."""
    task, test = task_named("segmentation"), real.indices("test")
    patients = list(dict.fromkeys(real.patients[i] for i in test))[:PATIENTS]
    chosen = np.array([by_seed([i for i in test if real.patients[i] == one], 1)[0] for one in patients])
    network, _ = load_for(
        task, "segmenter", folder=folder / "segmenter", store=real, indices=chosen, split="test", device="cpu"
    )
    answers, cases = predicted(task, "segmenter", network, real, chosen), mask_cases(real, chosen)
    pictures = [outlined(cases.picture(k), [cases.truth[k], answer]) for k, answer in enumerate(answers)]
    return {
        "masks": headline(read_json(folder / "masks/metrics.json", TaskMetrics)),
        "outlines": embedded(png(captioned(pictures, [[]] * len(pictures), columns=3))),
    }


def volumes_part(folder: Path) -> dict[str, Any]:
    """Return pictures of real nodules, each beside those that were drawn for its mask."""
    real, drawn = open_store(folder / "real.h5"), open_store(folder / "synthetic.h5")
    like = [str(detail["condition"]) for detail in drawn.details]
    names = sorted(set(like))
    trios = []
    for name in names[:NODULES]:
        places = [(real, real.ids.index(name)), *((drawn, k) for k, own in enumerate(like) if own == name)]
        cuts = [cut for store, k in places for cut in planes(np.asarray(store.images[k]), store.boxes[k])]
        captions = [word for store, _ in places for word in ("real" if store is real else "drawn", "", "")]
        images, boxes = zip(*cuts, strict=True)
        trios.append(embedded(png(draw_grid(images, boxes, columns=len(AXES), cell=128, captions=captions))))
    return {"trios": trios, "nodules": len(names), "seen": len(drawn.info.generators[0].training_patients)}


def main(folder: Path) -> None:
    """Write `index.html` and `real-and-synthetic.png` into the demo's folder."""
    real = open_store(folder / "real.h5")
    content = stores_part(folder, real) | boxes_part(folder) | likeness_part(folder)
    content |= classes_part(folder / "classes") | masks_part(folder, real) | volumes_part(folder / "nodules")
    templates = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, loader=FileSystemLoader(HERE))
    publish_text(folder / "index.html", templates.get_template("page.html").render(version=__version__, **content))
    print(f"{folder / 'index.html'}: all pictures on one page")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
