"""COCO's twelve numbers: CPU time and peak memory of medaug and of every other evaluator that can be imported.

    python benchmarks/evaluators.py [--sizes 947x10 10000x100] [--only medaug hotcoco] [--limit 600]

A size is IMAGESxDETECTIONS an image; 50000x100 is the largest that is worth while (5 million detections).
Sets are random but seeded: 10 classes, 0 to 14 true boxes an image of COCO's sizes, half of the detections
near a true box, one box in fifty a crowd. Each evaluator runs in a process of its own (on Linux), on one thread:
  start    CPU seconds of imports, and of loading compiled code where there is any
  read     CPU seconds from the files to what the evaluator takes ("input" names the files)
  measure  CPU seconds from there to the twelve numbers
  whole    CPU seconds of the whole process, the interpreter's start included
  peak     the most memory that the process held, in MB
  apart    the largest difference of any of the twelve numbers from those of pycocotools
The rows that end in "command" are the tools' command lines, from files to printed numbers.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SEED, CLASSES, SIDE = 0, 10, 640
ONE_THREAD = ("OMP", "MKL", "OPENBLAS", "NUMBA", "RAYON")
INPUTS = {
    "pycocotools": "COCO JSON files",
    "faster-coco-eval": "COCO JSON files",
    "hotcoco": "COCO JSON files",
    "hotcoco-command": "COCO JSON files",
    "torchmetrics": "arrays (npz) as tensors",
    "medaug": "arrays (npz)",
    "medaug-files": "COCO JSON files",
    "medaug-command": "COCO JSON files",
}
MODULES = {
    "pycocotools": "pycocotools",
    "faster-coco-eval": "faster_coco_eval",
    "hotcoco": "hotcoco",
    "hotcoco-command": "hotcoco",
    "torchmetrics": "torchmetrics",
    "medaug": "medaug_cli",
    "medaug-files": "medaug_cli",
    "medaug-command": "medaug_cli",
}
COMMANDS = {  # as `python -c`, so that the same interpreter runs them
    "hotcoco-command": ("import sys; from hotcoco.cli import main; sys.exit(main())", "eval", "--gt", "--dt"),
    "medaug-command": (
        "from medaug_cli.cli import main; main()", "evaluate", "--truth", "--detections", "--coco-only",
    ),
}  # fmt: skip


def write_set(folder: Path, images: int, detections: int) -> None:
    """Write the same random set as arrays (set.npz) and as COCO files (truth.json, found.json)."""
    rng = np.random.default_rng(SEED)
    true_images = np.repeat(np.arange(images), rng.integers(0, 15, images))
    m = len(true_images)
    corner, sides = rng.uniform(0, SIDE - 40, (m, 2)), np.exp(rng.normal(3.8, 0.9, (m, 2)))
    truth = np.hstack([corner, np.minimum(sides, SIDE - corner)]).round(2)
    labels, crowd = rng.integers(0, CLASSES, m), rng.random(m) < 0.02
    n = images * detections
    found = np.hstack([rng.uniform(0, SIDE - 40, (n, 2)), np.exp(rng.normal(3.8, 0.9, (n, 2)))])
    found_labels = rng.integers(0, CLASSES, n)
    near = np.flatnonzero(rng.random(n) < 0.5)
    partner = rng.integers(0, len(truth), len(near))
    found[near] = truth[partner] + rng.normal(0, 0.15, (len(near), 4)) * np.tile(truth[partner, 2:], 2)
    found_labels[near] = labels[partner]
    found_images = np.repeat(np.arange(images), detections)
    found_images[near] = true_images[partner]
    found = np.clip(found, 0, SIDE).round(2)
    scores = np.where(np.isin(np.arange(n), near), rng.beta(3, 2, n), rng.beta(1, 4, n)).round(4)
    arrays = {
        "true_images": true_images, "truth": truth, "labels": labels, "crowd": crowd, "found_images": found_images,
        "found": found, "found_labels": found_labels, "scores": scores, "images": np.array(images),
    }  # fmt: skip
    np.savez(folder / "set.npz", **arrays)
    rows = zip((true_images + 1).tolist(), (labels + 1).tolist(), truth.tolist(), crowd.tolist(), strict=True)
    annotations = [
        {"id": i, "image_id": image, "category_id": label, "bbox": box, "area": box[2] * box[3], "iscrowd": int(many)}
        for i, (image, label, box, many) in enumerate(rows, 1)
    ]
    content = {
        "images": [{"id": i + 1, "width": SIDE, "height": SIDE} for i in range(images)],
        "categories": [{"id": i + 1, "name": str(i)} for i in range(CLASSES)],
        "annotations": annotations,
    }
    (folder / "truth.json").write_text(json.dumps(content), encoding="utf-8")
    said = zip((found_images + 1).tolist(), (found_labels + 1).tolist(), found.tolist(), scores.tolist(), strict=True)
    keys = ("image_id", "category_id", "bbox", "score")
    (folder / "found.json").write_text(
        json.dumps([dict(zip(keys, row, strict=True)) for row in said]), encoding="utf-8"
    )


Read = Callable[[Path], Any]
Numbers = Callable[[Any], Any]


def of_cocos_interface(coco: Any, evaluation: Any, **options: Any) -> tuple[Read, Numbers]:
    """Return how to read and measure with a module that has pycocotools' interface."""

    def read(folder: Path) -> Any:
        truth = coco(str(folder / "truth.json"))
        return truth, truth.loadRes(str(folder / "found.json"))

    def numbers(pair: Any) -> Any:
        run = evaluation(*pair, "bbox", **options)
        run.evaluate()
        run.accumulate()
        run.summarize()
        return run.stats[:12]

    return read, numbers


def pycocotools() -> tuple[Read, Numbers]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    return of_cocos_interface(COCO, COCOeval)


def faster_coco_eval() -> tuple[Read, Numbers]:
    from faster_coco_eval import COCO, COCOeval_faster

    return of_cocos_interface(COCO, COCOeval_faster)


def hotcoco() -> tuple[Read, Numbers]:
    from hotcoco import COCO, COCOeval

    return of_cocos_interface(COCO, COCOeval)


def torchmetrics() -> tuple[Read, Numbers]:
    import torch
    from torchmetrics.detection import MeanAveragePrecision

    torch.set_num_threads(1)
    names = (
        "map", "map_50", "map_75", "map_small", "map_medium", "map_large",
        "mar_1", "mar_10", "mar_100", "mar_small", "mar_medium", "mar_large",
    )  # fmt: skip

    def read(folder: Path) -> Any:
        said, truth = [], []
        with np.load(folder / "set.npz") as file:
            part = dict(file)
        order = np.argsort(part["found_images"], kind="stable")
        images = np.arange(1, part["images"])
        for rows in np.split(order, np.searchsorted(part["found_images"][order], images)):
            said.append(
                {
                    "boxes": torch.from_numpy(part["found"][rows]),
                    "scores": torch.from_numpy(part["scores"][rows]),
                    "labels": torch.from_numpy(part["found_labels"][rows]),
                }
            )
        for rows in np.split(np.arange(len(part["truth"])), np.searchsorted(part["true_images"], images)):
            truth.append(
                {
                    "boxes": torch.from_numpy(part["truth"][rows]),
                    "labels": torch.from_numpy(part["labels"][rows]),
                    "iscrowd": torch.from_numpy(part["crowd"][rows].astype(np.int64)),
                    "area": torch.from_numpy(part["truth"][rows, 2:].prod(1)),
                }
            )
        return said, truth

    def numbers(pair: Any) -> Any:
        metric = MeanAveragePrecision(box_format="xywh", iou_type="bbox")
        metric.warn_on_many_detections = False
        metric.update(*pair)
        result = metric.compute()
        return [float(result[name]) for name in names]

    return read, numbers


def medaug() -> tuple[Read, Numbers]:
    from medaug_cli.metrics import Annotated, FoundBoxes, TrueBoxes, twelve_numbers

    def corners(sides: np.ndarray) -> np.ndarray:
        return np.hstack([sides[:, :2], sides[:, :2] + sides[:, 2:]])

    def read(folder: Path) -> Any:
        with np.load(folder / "set.npz") as file:
            a = dict(file)
        names = tuple(map(str, range(int(a["images"]))))
        areas, volumes = a["truth"][:, 2:].prod(1), a["found"][:, 2:].prod(1)
        truth = TrueBoxes(a["true_images"], a["labels"], corners(a["truth"]), areas, areas, a["crowd"])
        found = FoundBoxes(a["found_images"], a["found_labels"], corners(a["found"]), volumes, a["scores"])
        return Annotated(names, names, tuple(map(str, range(CLASSES))), truth), found

    warm = np.array([[0.0, 0.0, 1.0, 1.0]])
    one, none = np.zeros(1, np.int64), np.zeros(1, bool)
    data = Annotated(("",), ("",), ("",), TrueBoxes(one, one, warm, np.ones(1), np.ones(1), none))
    twelve_numbers(data, FoundBoxes(one, one, warm, np.ones(1), np.ones(1)))  # loads or compiles the kernels
    return read, lambda pair: twelve_numbers(*pair)


def medaug_files() -> tuple[Read, Numbers]:
    from medaug_cli.metrics import arrays, twelve_numbers
    from medaug_cli.metrics.coco_files import read_detections, read_truth

    def read(folder: Path) -> Any:
        data = read_truth(folder / "truth.json")
        return data, read_detections(folder / "found.json", data)[0]

    return read, lambda pair: twelve_numbers(*pair, arrays if arrays.suit(*pair) else None)


def megabytes() -> float:
    """Return the most memory held since this program began (getrusage also counts its parent's, before exec)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measure(name: str, folder: Path) -> None:
    """Print what one evaluator needs, as JSON; this is the whole of a child process."""
    with contextlib.redirect_stdout(io.StringIO()):
        read, numbers = globals()[name.replace("-", "_")]()
        started = time.process_time()
        given = read(folder)
        ready = time.process_time()
        result = [float(value) for value in numbers(given)]
        done = time.process_time()
    figures = {"start": started, "read": ready - started, "measure": done - ready}
    print(json.dumps(figures | {"peak": megabytes(), "numbers": result}))


def child(name: str, folder: Path, limit: float) -> dict[str, Any] | str:
    """Run one evaluator in a process of its own; return its figures, or why there are none."""
    environment = os.environ | {f"{each}_NUM_THREADS": "1" for each in ONE_THREAD}
    command = [sys.executable, __file__, "--measure", name, "--folder", str(folder)]
    if name in COMMANDS:
        code, verb, truth, found, *more = COMMANDS[name]
        command = [
            sys.executable,
            "-c",
            code,
            verb,
            truth,
            f"{folder}/truth.json",
            found,
            f"{folder}/found.json",
            *more,
        ]
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as said,
        tempfile.TemporaryFile("w+", encoding="utf-8") as wrong,
    ):
        started = subprocess.Popen(command, env=environment, stdout=said, stderr=wrong)
        clock = threading.Timer(limit, started.kill)
        clock.start()
        _, status, used = os.wait4(started.pid, 0)
        clock.cancel()
        started.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        wrong.seek(0)
        if started.returncode == -9:
            return f"not finished in {limit:g} s, or out of memory"
        if started.returncode:
            return f"ended with {started.returncode}: {(wrong.read().strip().splitlines() or ['nothing said'])[-1]}"
        figures = {} if name in COMMANDS else json.loads(said.read())
    return {"whole": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss / 1024} | figures


def importable(name: str) -> bool:
    """Tell whether an evaluator is installed."""
    return importlib.util.find_spec(MODULES[name]) is not None


def compare(size: str, names: list[str], limit: float) -> None:
    """Print one table: a row an evaluator."""
    images, detections = map(int, size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, __file__, "--write", size, "--folder", folder], check=True)
        print(f"\n{images} images, {images * detections} detections, {CLASSES} classes; CPU seconds, MB")
        heads = f"{'start':>6} {'read':>7} {'measure':>8} {'whole':>7} {'peak':>6}  apart"
        print(f"{'evaluator':17} {'input':24} {heads}")
        reference = None
        for name in names:
            figures = child(name, Path(folder), limit)
            if isinstance(figures, str):
                print(f"{name:17} {INPUTS[name]:24} {figures}", flush=True)
                continue
            reference = np.array(figures["numbers"]) if name == "pycocotools" else reference
            numbers = figures.get("numbers")
            apart = "–" if reference is None or numbers is None else f"{np.abs(reference - numbers).max():.1e}"
            parts = [f"{figures[key]:{width}.3f}" if key in figures else "–".rjust(width)
                     for key, width in (("start", 6), ("read", 7), ("measure", 8))]  # fmt: skip
            parts += [f"{figures['whole']:7.2f}", f"{figures['peak']:6.0f}", f" {apart}"]
            print(f"{name:17} {INPUTS[name]:24} {' '.join(parts)}", flush=True)


def main() -> None:
    """Compare the evaluators on each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["947x10", "10000x100"])
    parser.add_argument("--only", nargs="+", choices=list(INPUTS), default=list(INPUTS))
    parser.add_argument("--limit", type=float, default=600, help="wall seconds after which an evaluator is given up")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--write", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        measure(asked.measure, asked.folder)
        return
    if asked.write:
        write_set(asked.folder, *map(int, asked.write.split("x")))
        return
    missing = [name for name in asked.only if not importable(name)]
    if missing:
        print(f"not installed, left out: {', '.join(missing)}")
    for size in asked.sizes:
        compare(size, [name for name in asked.only if name not in missing], asked.limit)


if __name__ == "__main__":
    main()
