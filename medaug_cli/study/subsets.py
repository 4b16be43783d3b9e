"""Nested parts of the training patients, as stores of their own."""

import math
from pathlib import Path

import numpy as np

from medaug_cli import __version__
from medaug_cli.boxes import write_boxes
from medaug_cli.errors import UsageError
from medaug_cli.preprocess.results import training_boxes
from medaug_cli.store import Store, StoreInfo, StoreWriter, already_made

UNIT = 64  # images


def chosen_patients(store: Store, fraction: float, seed: int) -> set[str]:
    """Return that share of the training patients; a smaller share lies in every larger one."""
    patients = sorted({store.patients[i] for i in store.indices("train")})
    order = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(4,))).permutation(len(patients))
    return {patients[i] for i in order[: max(1, math.ceil(fraction * len(patients) - 1e-9))]}


def subset(store: Store, fraction: float, seed: int, out: Path) -> Store:
    """Publish a store of a share of the training patients and all others, with its boxes.json; keep what is there.

    Raises UsageError where no box is left to train on.
    """
    kept = chosen_patients(store, fraction, seed)
    chosen = [i for i in range(len(store)) if store.splits[i] != "train" or store.patients[i] in kept]
    if not any(len(store.boxes[i]) for i in chosen if store.splits[i] == "train"):
        raise UsageError(f"--fraction {fraction:g} leaves no box to train on")
    info = StoreInfo(
        tool_version=__version__, command="study", settings={"fraction": fraction}, seed=seed,
        label_names=store.info.label_names, inputs={store.path.name: store.hash}, generators=store.info.generators,
        class_names=store.class_names, mask_names=store.info.mask_names,
    )  # fmt: skip
    made = already_made(out, info, resume=out.exists(), overwrite=False)
    if made is None:
        writer = StoreWriter(out, info, {"fraction": fraction, "of": store.hash, "seed": seed}, resume=True)
        for unit, at in enumerate(range(0, len(chosen), UNIT)):
            if not writer.has(unit):
                writer.add(unit, [store.record(i) for i in chosen[at : at + UNIT]])
        made = writer.publish()
    write_boxes(out.with_name("boxes.json"), training_boxes(made))
    return made
