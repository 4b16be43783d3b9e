"""Classify and segment real images in folds by patient: every patient is answered on once, by a network without it.

    OMP_NUM_THREADS=1 python benchmarks/folds.py real.h5 --work folds --system scratch --steps 400
    OMP_NUM_THREADS=1 python benchmarks/folds.py real.h5 --work folds --tasks segmentation --steps 400 \
        --system imagenet network=tf_efficientnet_lite0 pretrained=imagenet

Folds are dealt once and kept in folds.json of the work folder; a fold that is done is not done again. The table is of
every system whose folds are all done: answers of all folds pooled, 95 % intervals over patients. One process, one
thread; CPU seconds of training and of answers on validation and test images.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medaug_cli.files import write_json
from medaug_cli.runs import RunOptions, load_network
from medaug_cli.runs.networks import train_network
from medaug_cli.store import Store, open_store
from medaug_cli.store.folds import Fold, Folds, kept_folds
from medaug_cli.tasks.classification import Classification
from medaug_cli.tasks.report import TaskRow, rows_of
from medaug_cli.tasks.segmentation import Segmentation
from medaug_cli.tasks.task import measure_of

TASKS: dict[str, Any] = {"classification": Classification(), "segmentation": Segmentation()}
RESAMPLES = 2000
PICTURES = 12
FORMATS = {"image/svg+xml": "svg", "image/png": "png"}


def run_fold(task: Any, store: Store, folds: Folds, fold: int, place: Path, options: dict[str, Any]) -> None:
    """Train on a fold and keep its answers on the patients that it holds out, unless that is done."""
    if (place / "answers.npz").is_file():
        return
    dealt = Fold(folds, fold)
    part = dealt.of(store)
    begun = time.process_time()
    run = RunOptions(place / "network", options["settings"], seed=fold, device="cpu", resume=True, fold=dealt)
    train_network(task, store.path, task.kind, run, steps=options["steps"])
    network, metadata = load_network(place / "network", task.kind)
    test = np.flatnonzero(task.usable(part) & (part.splits == "test"))
    answers = np.stack([np.asarray(each) for each in network.predict(part.read([int(i)])[0] for i in test)])
    seconds = time.process_time() - begun
    score = task.score(part, test, list(answers))
    said = {"fold": fold, "cpu_seconds": seconds, "validation": metadata.validation, "test": score, **options}
    write_json(place / "fold.json", said)
    np.savez_compressed(place / "answers.npz", ids=np.array(part.ids)[test], answers=answers)
    print(place, f"{seconds:.0f} CPU s, validation {metadata.validation}, test {score}", flush=True)


def pooled(task: Any, store: Store, places: Sequence[Path]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the usable images of the store and what the networks of all folds say of them."""
    by_id: dict[str, np.ndarray] = {}
    for place in places:
        with np.load(place / "answers.npz") as kept:
            by_id |= dict(zip(kept["ids"].tolist(), kept["answers"], strict=True))
    indices = np.array([i for i in np.flatnonzero(task.usable(store)) if store.ids[i] in by_id])
    return indices, [by_id[store.ids[i]] for i in indices]


def measured(task: Any, store: Store, places: Sequence[Path]) -> Any:
    """Return the pooled answers as answers that can be measured and resampled."""
    return task.answers(store, *pooled(task, store, places))


def save_figures(task: Any, store: Store, done: dict[str, list[Path]], folder: Path) -> None:
    """Write the pictures that an evaluation of the pooled answers shows: confusion, outlines and others."""
    found = {name: pooled(task, store, places) for name, places in done.items()}
    indices = next(iter(found.values()))[0]
    answers = {name: task.answers(store, *each) for name, each in found.items()}
    said = {name: each for name, (_, each) in found.items()}
    folder.mkdir(parents=True, exist_ok=True)
    for figure in task.figures(store, indices, answers, said, PICTURES):
        name = f"{store.path.stem}-{figure.title.lower().replace(' ', '-')}"
        (folder / f"{name}.{FORMATS[figure.type]}").write_bytes(figure.content)


def finished(work: Path, task: Any, count: int) -> dict[str, list[Path]]:
    """Return the folders of the folds of every system all of whose folds are done."""
    systems = sorted((work / task.name).iterdir()) if (work / task.name).is_dir() else []
    places = {system.name: [system / f"fold-{fold}" for fold in range(1, count + 1)] for system in systems}
    return {name: each for name, each in places.items() if all((place / "answers.npz").is_file() for place in each)}


def table(task: Any, store: Store, done: dict[str, list[Path]]) -> list[str]:
    """Return the lines of a task's table, a column a system."""
    answers = {name: [measured(task, store, places)] for name, places in done.items()}
    rows = rows_of(answers, len(set(store.patients)), RESAMPLES, 0, task.measures)
    keys = [key for key in rows[0].values if key in task.main or key.startswith("sensitivity[")]
    words = {key: measure_of(task.measures, key).words for key in keys}
    lines = [
        f"| {store.path.stem}, {task.name} | {' | '.join(done)} |",
        f"| --- |{' ---: |' * len(done)}",
        *(f"| {words[key]} | {' | '.join(_value(row, key) for row in rows)} |" for key in keys),
    ]
    kept = [[json.loads((place / "fold.json").read_text(encoding="utf-8")) for place in each] for each in done.values()]
    headline = [" ".join(f"{fold['test'][task.headline]:.2f}" for fold in each) for each in kept]
    times = [[fold["cpu_seconds"] for fold in each] for each in kept]
    seconds = [f"{min(each):.0f} to {max(each):.0f}" for each in times]
    lines.append(f"| {task.measures[task.headline].words}, fold by fold | {' | '.join(headline)} |")
    lines.append(f"| CPU seconds per fold | {' | '.join(seconds)} |")
    for row in rows[1:]:
        found = row.against_first[task.headline]
        if found is not None:
            low, high = found.interval
            lines.append(
                f"\n{row.name} against {rows[0].name}, {task.headline}: {found.difference:+.3f} "
                f"({low:+.3f} to {high:+.3f}), p {found.p:.3f}: {found.verdict}"
            )
    return [*lines, ""]


def _value(row: TaskRow, key: str) -> str:
    found = row.values[key]
    limits = f" ({found.interval[0]:.3f} to {found.interval[1]:.3f})" if found.interval else ""
    return "—" if found.value is None else f"{found.value:.3f}{limits}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--system", nargs="+", metavar=("NAME", "KEY=VALUE"), help="a system to train; else the table")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only", type=int, nargs="+", metavar="FOLD", help="folds to train; default: all")
    parser.add_argument("--pictures", type=Path, help="a folder for the figures of what is done")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    store = open_store(asked.store)
    asked.work.mkdir(parents=True, exist_ok=True)
    folds = kept_folds(asked.work / "folds.json", store, asked.folds)
    for name in asked.tasks:
        if asked.system:
            system, *said = asked.system
            options = {"settings": dict(each.split("=", 1) for each in said), "steps": asked.steps}
            for fold in asked.only or range(1, asked.folds + 1):
                place = asked.work / name / system / f"fold-{fold}"
                run_fold(TASKS[name], store, folds, fold, place, options)
        done = finished(asked.work, TASKS[name], asked.folds)
        if done:
            print("\n".join(table(TASKS[name], store, done)), flush=True)
        if done and asked.pictures:
            save_figures(TASKS[name], store, done, asked.pictures)


if __name__ == "__main__":
    main()
