"""Train generators for equal CPU time and measure what they draw for patients that none of them has seen.

    python benchmarks/generators.py [real.h5] --minutes 40 --out build/generators-64
    python benchmarks/generators.py real.h5 --minutes 4 --split val --generator boxgan --generator boxgan:variety=2

Without a store it takes the slices that ship, at 64x64. A generator is NAME or NAME:SETTING=VALUE,SETTING=VALUE;
without one, those of `GENERATORS` are compared. `boxgan:start=FOLDER` begins with a trained generator or installed
weights; with `--fraction 0.25` all are fitted on that share of the training patients, and `boxgan:rest=yes` also sees
the images of the others, without annotation. Each trains in its own folder of --out for so many minutes of CPU time
(user and system), one after the other; run it again, and it goes on where it stopped. `--as-they-are` measures what
their last checkpoints draw, without training. Each draws --samples images for the boxes of held-out patients; the
real training images are measured in the same way, as what can be hoped for.
In the table:
  found      asked lesions that a detector finds which was trained on the real training images (IoU 0.25 or more, at 1
             false positive per slice of real validation images); in brackets with the boxes of other images
  KID ...    against the real images of those held-out patients, in four feature spaces of `medaug tsne`; precision to
             coverage in two of them, features of random weights and of ImageNet's
  AUC        of a linear classifier of those real images against drawn ones, fitted without the patients it judges
  lesions    distance of the distributions of contrast, extent and texture to those of the real training lesions
  spread     standard deviation of pixels over samples; over samples of one box
  copies     images nearer to a training image than 99 % of held-out ones are, in the space that sees most
Results are table.md, table.json and samples.png, whose conditions are chosen by their seeds. One process, one thread:
run it with OMP_NUM_THREADS=1, and `nice` where others work.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medaug_cli.devices import resolve_precision
from medaug_cli.embedding.features import BUILT_IN, extractor, scaled
from medaug_cli.embedding.fidelity import Judge, calibrated
from medaug_cli.embedding.lesions import MEASURES, lesion_numbers, lesions_of
from medaug_cli.embedding.probe import told_apart
from medaug_cli.embedding.statistics import kernel_distance, manifolds, memorisation, pixel_spread
from medaug_cli.figures.grid import draw_grid
from medaug_cli.files import publish_text
from medaug_cli.plugin import Condition, as_drawn
from medaug_cli.registry import build
from medaug_cli.runs import RunOptions, load_detector, train_detector
from medaug_cli.runs.starting import opened_start
from medaug_cli.runs.training import Budget, TrainingRun
from medaug_cli.store import Store, generator_examples, open_store
from medaug_cli.study.subsets import subset
from medaug_cli.study.unannotated import with_rest
from medaug_cli.tasks.detection import Detection

DETECTOR = {"backbone": "small", "width": 8, "head_width": 64, "assignment": "aligned", "lr": 0.003, "box_weight": 3}
SHOWN = 12  # samples of the picture
SPACES = (*BUILT_IN, "imagenet")
MANIFOLDS = ("network", "imagenet")  # spaces whose precision, recall, density and coverage are shown
PROBED = ("pixels", "texture", "imagenet")  # what the classifier sees
GENERATORS = ("cpggan:preset=small", "boxgan", "inpaint", "copy-paste", "procedural", "duplicate")


class CPURun(TrainingRun):
    """A run that counts the CPU time of the process, so that a busy machine shortens nothing."""

    def __init__(self, folder: Path, minutes: float, seed: int, precision: str):
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder, "cpu", resolve_precision(precision, "cpu"), seed, 0, Budget(minutes=minutes))
        self._begun = time.process_time()

    def seconds(self) -> float:
        """Return the CPU seconds of this run, earlier sittings included."""
        return self._before + time.process_time() - self._begun


def parse(text: str) -> tuple[str, dict[str, str]]:
    """Return the name and the settings of NAME:SETTING=VALUE,..."""
    name, _, settings = text.partition(":")
    return name, dict(re.findall(r"(\w+)=([^=]*?)(?:,(?=\w+=)|$)", settings))


def folder_of(out: Path, text: str) -> Path:
    return out / re.sub(r"[^\w.=-]+", "_", text)


def trained(
    stores: tuple[Store, Store | None], text: str, minutes: float, out: Path, seed: int, precision: str
) -> tuple[Any, dict[str, float]]:
    """Return a generator that has trained for its CPU time, and what that took.

    `stores` are of the patients that it is fitted on, and of those with the images of the others.
    """
    name, settings = parse(text)
    start, sees_rest = settings.pop("start", None), settings.pop("rest", None)
    store = stores[1] if sees_rest else stores[0]
    if store is None:
        raise SystemExit(f"{text}: there is no rest of the training patients; give --fraction")
    run = CPURun(folder_of(out, text), minutes, seed, precision)
    if start is None:
        generator = build("generator", name, settings)
    else:
        before = opened_start(start)
        before.check(store)
        _, generator = before.built(name, settings)
        print(before.begin(generator, store.spec))
    generator.fit(generator_examples(store, unannotated=sees_rest is not None), run)
    return generator, {"kimg": run.done / 1000, "cpu_seconds": run.seconds()}


def parts(store: Store, fraction: float, seed: int, out: Path) -> tuple[Store, Store | None]:
    """Return the store of a share of the training patients, and one with the images of the others too."""
    if fraction == 1:
        return store, None
    folder = out / f"patients{100 * fraction:g}"
    part = subset(store, Detection(), fraction, seed, folder / "real.h5")
    return part, with_rest(store, part, Detection(), fraction, seed, folder / "with-rest.h5")


class Split:
    """The real images of held-out patients, described, and what generators are asked for there."""

    def __init__(self, store: Store, name: str, samples: int):
        self.name = name
        self.indices = np.array([i for i in store.indices(name) if len(store.boxes[i])])
        self.images = store.read(self.indices)
        self.boxes = [store.boxes[i] for i in self.indices]
        self.labels = [store.labels[i] for i in self.indices]
        self.patients = [store.patients[i] for i in self.indices]
        self.asked: list[Condition] = [
            store.condition(int(self.indices[i % len(self.indices)])) for i in range(samples)
        ]


class Space:
    """One way to describe images, and the real ones described by it."""

    def __init__(self, name: str, store: Store, splits: list[Split]):
        self.name, self.extract = name, extractor(name)
        train = store.read(store.indices("train"))
        self.raw = self.extract(train)
        mirrored = self(np.ascontiguousarray(train[..., ::-1]))
        self.train = scaled(self.raw, self.raw)
        self.seen = np.concatenate([self.train, mirrored])
        self.held_out = self(store.read(np.concatenate([store.indices("val"), store.indices("test")])))
        self.real = {split.name: self(split.images) for split in splits}

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return scaled(self.extract(images), self.raw)

    def row(self, split: Split, drawn: np.ndarray, unseen: np.ndarray) -> dict[str, float]:
        """Return the numbers of drawn images (n, k), and of copies among `unseen` (m, k)."""
        real, found = self.real[split.name], asdict(manifolds(self.real[split.name], drawn))
        found |= {"kid": kernel_distance(real, drawn)[0]}
        found |= {"copies": memorisation(self.seen, self.held_out, unseen).suspicious}
        return {f"{key}_{self.name}": value for key, value in found.items()}


class Bench:
    """The measures, and the real images that they compare with."""

    def __init__(self, store: Store, splits: tuple[str, ...], samples: int, detector: Path):
        self.splits = [Split(store, name, samples) for name in splits]
        self.spaces = [Space(name, store, self.splits) for name in SPACES]
        train = store.indices("train")
        self.patients = [store.patients[i] for i in train]
        self.lesions = lesions_of(store.read(train), [store.boxes[i] for i in train])
        validation = Split(store, "val", 0)
        self.judge: Judge = calibrated(
            load_detector(detector)[0], validation.images, validation.boxes, validation.labels, store.spec.label_names
        )

    def real(self) -> list[dict[str, Any]]:
        """Return a row a split: the training images against held-out ones, whose lesions are judged."""
        rows = []
        for split in self.splits:
            row = self._judged(split, split.images, split.boxes, split.labels)
            for space in self.spaces:
                row |= space.row(split, space.train, space.real[split.name])
            row["auc"] = self._told_apart(split, {space.name: space.train for space in self.spaces}, self.patients)
            rows.append(row)
        return rows

    def rows(self, generator: Any) -> list[dict[str, Any]]:
        """Return a row a split of what a generator draws."""
        rows = []
        for split in self.splits:
            images = draw(generator, split.asked)
            row = self._judged(split, images, [c.boxes for c in split.asked], [c.labels for c in split.asked])
            row["spread_same_box"] = pixel_spread(draw(generator, [split.asked[0]] * 64))
            drawn = {space.name: space(images) for space in self.spaces}
            for space in self.spaces:
                row |= space.row(split, drawn[space.name], drawn[space.name])
            row["auc"] = self._told_apart(split, drawn, [f"drawn {i}" for i in range(len(images))])
            rows.append(row)
        return rows

    def _told_apart(self, split: Split, other: dict[str, np.ndarray], patients: list[str]) -> float | None:
        real = np.concatenate([space.real[split.name] for space in self.spaces if space.name in PROBED], 1)
        return told_apart(real, np.concatenate([other[name] for name in PROBED], 1), split.patients, patients)

    def _judged(self, split: Split, images: np.ndarray, boxes: list[np.ndarray], labels: list[np.ndarray]) -> dict:
        fidelity = self.judge.fidelity(images, boxes, labels)
        row = {"split": split.name, "images": len(images), "spread": pixel_spread(images)}
        lesions = lesion_numbers(lesions_of(images, boxes), self.lesions)
        row |= {"lesions": lesions.model_dump(), "fidelity": fidelity.model_dump()}
        return row | {"found": fidelity.found, "found_shuffled": fidelity.shuffled}


def draw(generator: Any, conditions: list[Condition]) -> np.ndarray:
    """Return an image (n, c, *s) a condition, of the seeds 0, 1, 2 and so on."""
    drawn = generator.sample(conditions, range(len(conditions)))
    return np.stack([as_drawn(image, c).image for image, c in zip(drawn, conditions, strict=True)])


def detector_of(store: Store, out: Path, steps: int) -> Path:
    """Return the folder of a detector that is trained on the real training images, or was by an earlier call."""
    if (out / "detector" / "detector.json").exists():
        return out / "detector"
    settings = DETECTOR | {"zoom_input": 2 if min(store.spec.spatial) < 128 else 1}
    return train_detector(store.path, "yolov3", RunOptions(out / "detector", settings, resume=True), steps=steps)


def table(results: dict[str, Any]) -> str:
    """Return the results in Markdown."""
    manifold = ("precision", "recall", "density", "coverage")
    head = ["generator", "split", "CPU s", "kimg", "found", *(f"KID {name}" for name in SPACES), *manifold]
    head += ["AUC", "lesions", "spread", "one box", "copies"]
    lines = [f"| {' | '.join(head)} |", f"| --- | --- |{' ---: |' * (len(head) - 2)}"]
    for text, result in results.items():
        for row in result["rows"]:
            copies = max(row[f"copies_{name}"] for name in SPACES)
            cells = [
                text, row["split"], f"{result['cpu_seconds']:.0f}", f"{result['kimg']:.1f}",
                f"{row['found']:.2f} ({row['found_shuffled']:.2f})",
                *(f"{row[f'kid_{name}']:.3f}" for name in SPACES),
                *(" / ".join(f"{row[f'{key}_{name}']:.2f}" for name in MANIFOLDS) for key in manifold),
                f"{row['auc']:.2f}", " / ".join(f"{row['lesions'][name]['distance']:.2f}" for name in MEASURES),
                f"{row['spread']:.3f}", f"{row.get('spread_same_box', float('nan')):.3f}", f"{copies:.1%}",
            ]  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def shipped(folder: Path) -> Path:
    """Make a store of the slices that ship with the project; return its path."""
    data = Path(__file__).parents[1] / "examples/data"
    medaug = str(Path(sys.executable).with_name("medaug"))
    settings = ("--size", "64", "--strip", "none", "--label", "tumour", "--resume")
    scans = (str(data / "images"), "--boxes", str(data / "boxes.json"), "--out", str(folder / "real.h5"))
    subprocess.run([medaug, "preprocess", *scans, *settings], check=True)
    return folder / "real.h5"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, nargs="?")
    parser.add_argument("--generator", dest="generators", action="append", help="NAME:SETTING=VALUE,...; repeatable")
    parser.add_argument("--minutes", type=float, default=4, help="CPU minutes of training for each")
    parser.add_argument("--fraction", type=float, default=1, help="share of the training patients they are fitted on")
    parser.add_argument("--as-they-are", action="store_true", help="measure the last checkpoints")
    parser.add_argument("--split", choices=("val", "test", "both"), default="both")
    parser.add_argument("--samples", type=int, default=442, help="images that each draws for a split")
    parser.add_argument("--detector", type=Path, help="the detector that judges; without it one is trained")
    parser.add_argument("--detector-steps", type=int, default=1500, help="of the detector that is trained")
    parser.add_argument("--precision", choices=("auto", "32", "bf16"), default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("build/generators"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    store = open_store(options.store or shipped(options.out))
    splits = ("val", "test") if options.split == "both" else (options.split,)
    detector = options.detector or detector_of(store, options.out, options.detector_steps)
    bench = Bench(store, splits, options.samples, detector)
    fitted_on = parts(store, options.fraction, options.seed, options.out)
    results: dict[str, Any] = {"real": {"cpu_seconds": 0.0, "kimg": 0.0, "rows": bench.real()}}
    first = bench.splits[0]
    chosen = np.random.default_rng(options.seed).permutation(len(first.indices))[:SHOWN]
    shown = [first.images[chosen]]
    for text in options.generators or GENERATORS:
        minutes = 1e-9 if options.as_they_are else options.minutes
        generator, cost = trained(fitted_on, text, minutes, options.out, options.seed, options.precision)
        results[text] = cost | {"rows": bench.rows(generator)}
        shown.append(draw(generator, [first.asked[i] for i in chosen]))
        print(table({text: results[text]}).splitlines()[-1], flush=True)
    publish_text(options.out / "table.md", table(results))
    publish_text(options.out / "table.json", json.dumps(results, indent=1) + "\n")
    boxes = [first.boxes[i] for i in chosen]
    draw_grid(np.concatenate(shown), boxes * len(shown), len(chosen), 96).save(
        options.out / "samples.png", optimize=True
    )


if __name__ == "__main__":
    main()
