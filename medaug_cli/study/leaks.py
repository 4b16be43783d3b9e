"""What would make a study's answer worthless: the same slice on both sides of the split."""

import numpy as np

from medaug_cli.errors import BadInput
from medaug_cli.store import Store
from medaug_cli.store.model import REAL

SIDE = 32  # pixels of the thumbnails that are compared
SAME = 0.995  # correlation from which two slices are one, whatever their brightness
ROWS = 256


def refuse_leaks(store: Store) -> None:
    """Raise BadInput where a real training slice nearly equals one that is held out.

    Patients, generators and detectors are checked where they are used; this finds one patient under two names.
    """
    train = store.indices("train", REAL, unannotated=True)
    held_out = np.concatenate([store.indices(split, unannotated=True) for split in ("val", "test")])
    if not len(train) or not len(held_out):
        return
    ours, theirs = thumbnails(store, train), thumbnails(store, held_out)
    for at in range(0, len(ours), ROWS):
        alike = ours[at : at + ROWS] @ theirs.T
        row, column = np.unravel_index(int(alike.argmax()), alike.shape)
        if alike[row, column] >= SAME:
            first, second = int(train[at + row]), int(held_out[column])
            raise BadInput(
                f"{store.path}: the training slice {store.ids[first]} (patient {store.patients[first]}) and the "
                f"{store.splits[second]} slice {store.ids[second]} (patient {store.patients[second]}) are nearly the "
                f"same (correlation {alike[row, column]:.4f}); give both to one patient, and split again"
            )


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
