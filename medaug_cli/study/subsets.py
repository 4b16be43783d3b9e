"""Nested parts of the training patients, as stores of their own."""

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli import __version__
from medaug_cli.boxes import write_boxes
from medaug_cli.errors import UsageError
from medaug_cli.preprocess.results import training_boxes
from medaug_cli.store import Record, Store, StoreInfo, StoreWriter, already_made, open_store
from medaug_cli.store.reading import is_real
from medaug_cli.study.teaching import inputs_of
from medaug_cli.tasks.cases import Each
from medaug_cli.tasks.task import Task

UNIT = 64  # images
OWN = frozenset({"fraction", "unannotated", "pseudo_labels", "threshold"})  # settings of stores that a study makes


def chosen_patients(store: Store, task: Task, fraction: float, seed: int) -> set[str]:
    """Return that share of the training patients; a smaller share lies in every larger one."""
    patients = sorted({store.patients[i] for i in training_images(store, task)})
    order = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(4,))).permutation(len(patients))
    return {patients[i] for i in order[: max(1, math.ceil(fraction * len(patients) - 1e-9))]}


def training_images(store: Store, task: Task, patients: Collection[str] | None = None) -> np.ndarray:
    """Return the real training images that a task can learn from, of some patients or of all."""
    chosen = np.flatnonzero(task.usable(store) & (store.splits == "train") & is_real(store))
    return chosen if patients is None else chosen[[store.patients[i] in patients for i in chosen]]


def subset(store: Store, task: Task, fraction: float, seed: int, out: Path, judged: Store | None = None) -> Store:
    """Publish a store of a share of the training patients and all others, with its boxes.json; keep what is there.

    `judged` holds the images of the other splits, where their annotations are those of another store.
    Raises UsageError where nothing is left to train on.
    """
    kept, held_out = chosen_patients(store, task, fraction, seed), judged or store
    if lacking := task.teachable(store, training_images(store, task, kept)):
        raise UsageError(f"--fraction {fraction:g} of {store.path} leaves {lacking}")
    train = [(i, store) for i in np.flatnonzero(store.splits == "train") if store.patients[i] in kept]
    others = [(i, held_out) for i in np.flatnonzero(held_out.splits != "train")]
    chosen = sorted(train + others, key=lambda pair: pair[0])
    info = info_of_part(store, {"fraction": fraction}, seed, inputs_of(store, held_out))
    made = publish_part(out, info, Each(len(chosen), lambda k: chosen[k][1].record(int(chosen[k][0]))))
    write_boxes(out.with_name("boxes.json"), training_boxes(made))
    return made


def info_of_part(store: Store, settings: dict[str, Any], seed: int, inputs: dict[str, str]) -> StoreInfo:
    """Return what makes a store of a study that is part of another one, whose settings it keeps beside its own."""
    return StoreInfo(
        tool_version=__version__, command="study", settings={**store.info.settings, **settings}, seed=seed,
        label_names=store.info.label_names, inputs=inputs, generators=store.info.generators,
        class_names=store.class_names, mask_names=store.info.mask_names,
    )  # fmt: skip


def publish_part(out: Path, info: StoreInfo, records: Sequence[Record]) -> Store:
    """Publish a store of a study, reading few of its records at once; keep what is there already, made of the same."""
    made = already_made(out, _as_there(out, info), resume=out.exists(), overwrite=False)
    if made is None:
        plan = {**info.settings, "of": " ".join(info.inputs.values()), "seed": info.seed}
        writer = StoreWriter(out, info, plan, resume=True)
        for unit, at in enumerate(range(0, len(records), UNIT)):
            if not writer.has(unit):
                writer.add(unit, [records[i] for i in range(at, min(at + UNIT, len(records)))])
        made = writer.publish()
    return made


def _as_there(out: Path, info: StoreInfo) -> StoreInfo:
    """Return what makes a store as one that is there would say it: earlier versions kept its own settings alone."""
    if out.exists() and OWN.issuperset(open_store(out).info.settings):
        return info.model_copy(update={"settings": {k: v for k, v in info.settings.items() if k in OWN}})
    return info
