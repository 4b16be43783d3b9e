"""Other annotations to learn from than those that a study judges by: rough boxes, or another reader's."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medaug_cli.errors import BadInput, UsageError
from medaug_cli.store import Store, open_store
from medaug_cli.store.folds import split_as
from medaug_cli.store.reading import is_real
from medaug_cli.words import counted

if TYPE_CHECKING:
    from medaug_cli.study.rounds import Round
    from medaug_cli.tasks.task import Task

UNUSED = ""  # the split of what only the store of other annotations holds
SAME = "preprocess the same scans with the same settings, regions of the same --boxes, and change annotations alone"


def teaching_store(path: Path, store: Store) -> Store:
    """Return the store at `path`, of whose annotations a study of `store` learns; each may lack images of the other.

    Raises UsageError where they are the same annotations, BadInput where the two have no image in common, or differ in
    more than annotations.
    """
    taught = open_store(path)
    if taught.hash == store.hash:
        raise UsageError(f"--train-annotations {path}: these are the annotations of {store.path}; leave it out")
    if not set(store.ids) & set(taught.ids):
        raise BadInput(f"{path} and {store.path} have no image in common: {SAME}")
    if (store.masks is None) != (taught.masks is None):
        without, other = (path, store.path) if taught.masks is None else (store.path, path)
        raise BadInput(f"{without} has no masks, {other} has: {SAME}")
    for what, mine, its in (
        ("images of another form", store.images.shape[1:], taught.images.shape[1:]),
        ("another depth of grey", store.images.dtype, taught.images.dtype),
        ("other labels", store.info.label_names, taught.info.label_names),
        ("other classes", store.class_names, taught.class_names),
        ("other labels of masks", store.info.mask_names, taught.info.mask_names),
    ):
        if mine != its:
            raise BadInput(f"{path} has {what} than {store.path}: {SAME}")
    return taught


def split_alike(taught: Store, store: Store) -> Store:
    """Return the store to learn from with the split that each image has in the other."""
    splits = dict(zip(store.ids, store.columns.split, strict=True))
    return split_as(taught, [splits.get(name, UNUSED) for name in taught.ids])


def refuse_other_images(store: Store, taught: Store) -> None:
    """Raise BadInput where an image, or its patient, is another one in the store that is learnt from."""
    place = {name: i for i, name in enumerate(taught.ids)}
    for i, name in enumerate(store.ids):
        if name not in place:
            continue
        if store.patients[i] != taught.patients[place[name]]:
            raise BadInput(f"{name} is of another patient in {taught.path} than in {store.path}: {SAME}")
        if not np.array_equal(store.images[i], taught.images[place[name]]):
            raise BadInput(f"{name} is another image in {taught.path} than in {store.path}: {SAME}")


def left_out(task: "Task", rounds: "Sequence[Round]") -> str:
    """Say how many images are never trained on since what the task learns from is not known of them; else nothing."""
    store, taught = rounds[0].store, rounds[0].taught
    usable = {name for name, able in zip(taught.ids, task.usable(taught), strict=True) if able}
    real = is_real(store) if rounds[0].fold else is_real(store) & (store.splits == "train")
    lacking = [store.ids[i] for i in np.flatnonzero(real) if store.ids[i] not in usable]
    if not lacking:
        return ""
    where = "" if rounds[0].fold else " of the training split"
    return (
        f"{len(lacking)} of {counted(int(real.sum()), 'image')}{where} are not annotated for {task.name} in "
        f"{named(taught.path)} and are left out of training"
    )


def named(path: Path) -> str:
    """Return the name of a store and of its folder, which tells apart rough/real.h5 and real.h5."""
    return "/".join(path.parts[-2:])


def inputs_of(taught: Store, judged: Store) -> dict[str, str]:
    """Return the hashes of what a store of a study is made of, by name."""
    if taught.hash == judged.hash:
        return {taught.path.name: taught.hash}
    return {f"{named(taught.path)} (learnt from)": taught.hash, f"{named(judged.path)} (judged by)": judged.hash}
