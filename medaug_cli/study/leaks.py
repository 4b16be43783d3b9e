"""What would make a study's answer worthless: the same slice on both sides of the split, or in two folds."""

from collections.abc import Iterator, Sequence

import numpy as np

from medaug_cli.errors import BadInput
from medaug_cli.store import Store
from medaug_cli.store.model import REAL
from medaug_cli.study.rounds import Round, of_deals

SIDE = 32  # pixels of the thumbnails that are compared
SAME = 0.995  # correlation from which two slices are one, whatever their brightness
ROWS = 256


def refuse_leaks(rounds: Sequence[Round]) -> None:
    """Raise BadInput where a real slice that is trained on nearly equals one that is held out.

    Patients, generators and detectors are checked where they are used; this finds one patient under two names.
    """
    store = rounds[0].store
    small = thumbnails(store, np.arange(len(store))) if len(store) else np.zeros((0, 1), np.float32)
    for ours, theirs in _sides(rounds):
        pair = _alike(small, ours, theirs)
        if pair is None:
            continue
        first, second, correlation = pair
        one, other = _words(rounds, first), _words(rounds, second)
        raise BadInput(
            f"{store.path}: {one} and {other} are nearly the same (correlation {correlation:.4f}); give both to one "
            f"patient, and {'deal the folds' if rounds[0].fold else 'split'} again"
        )


def _sides(rounds: Sequence[Round]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield images of which none may be among the other images: what is trained on, or a fold and later folds."""
    if not rounds[0].fold:
        store = rounds[0].store
        held_out = [store.indices(split, unannotated=True) for split in ("val", "test")]
        yield store.indices("train", REAL, unannotated=True), np.concatenate(held_out)
    for deal in of_deals(rounds):
        tested = [np.flatnonzero(each.store.splits == "test") for each in deal if each.fold]
        for number, own in enumerate(tested[:-1], 1):
            yield own, np.concatenate(tested[number:])


def _alike(small: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> tuple[int, int, float] | None:
    """Return two images that are nearly the same, with their correlation; None where there are none."""
    for at in range(0, len(ours) if len(theirs) else 0, ROWS):
        alike = small[ours[at : at + ROWS]] @ small[theirs].T
        row, column = np.unravel_index(int(alike.argmax()), alike.shape)
        if alike[row, column] >= SAME:
            return int(ours[at + row]), int(theirs[column]), float(alike[row, column])
    return None


def _words(rounds: Sequence[Round], index: int) -> str:
    store = rounds[0].store
    fold = next((each.fold for each in rounds if each.fold and each.store.splits[index] == "test"), None)
    split = "training" if store.splits[index] == "train" else store.splits[index]
    where = f"(patient {store.patients[index]}{f', fold {fold}' if fold else ''})"
    return f"the slice {store.ids[index]} {where}" if fold else f"the {split} slice {store.ids[index]} {where}"


def thumbnails(store: Store, indices: np.ndarray) -> np.ndarray:
    """Return small pictures of images as vectors of mean 0 and length 1, (n, k); zero where an image is flat."""
    vectors = []
    for at in range(0, len(indices), ROWS):
        small = store.read(indices[at : at + ROWS])
        for axis in range(2, small.ndim):
            blocks = np.array_split(np.arange(small.shape[axis]), min(SIDE, small.shape[axis]))
            small = np.stack([small.take(block, axis).mean(axis) for block in blocks], axis)
        vectors.append(small.reshape(len(small), -1))
    flat = np.concatenate(vectors).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.where(length > 1e-3, flat / np.maximum(length, 1e-3), 0)
