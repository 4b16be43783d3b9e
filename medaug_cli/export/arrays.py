"""Images and classes as arrays in one file, as MedMNIST lays them out and its loaders read them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from medaug_cli.boxes import SPLITS
from medaug_cli.errors import BadInput
from medaug_cli.store import Store

NPZ = "npz"
CHANNELS = (1, 3)


def check_arrays(store: Store) -> None:
    """Raise BadInput where a store holds what MedMNIST's arrays do not."""
    if store.spec.channels not in CHANNELS or store.images.dtype != np.uint8:
        raise BadInput(
            f"{store.path} holds {store.images.dtype} images of {store.spec.channels} channels; {NPZ} takes uint8 "
            "images of 1 or 3"
        )


def write_arrays(store: Store, chosen: Sequence[int], path: Path, report: Callable[[int], None]) -> None:
    """Write SPLIT_images (n, *s) or (n, *s, 3), SPLIT_labels (n, 1), SPLIT_ids and SPLIT_patients (n,); class_names.

    A split without images has arrays of length 0.
    """
    arrays: dict[str, np.ndarray] = {"class_names": np.array(store.class_names)}
    form = store.spec.spatial if store.spec.channels == 1 else (*store.spec.spatial, 3)
    for split in SPLITS:
        own = [i for i in chosen if store.splits[i] == split]
        images = np.empty((len(own), *form), np.uint8)
        for place, i in enumerate(own):
            image = np.asarray(store.images[i])
            images[place] = image[0] if store.spec.channels == 1 else np.moveaxis(image, 0, -1)
            report(1)
        arrays |= {f"{split}_images": images, f"{split}_labels": np.array([[store.classes[i]] for i in own], np.uint8)}
        arrays[f"{split}_labels"] = arrays[f"{split}_labels"].reshape(-1, 1)
        arrays[f"{split}_ids"] = np.array([store.ids[i] for i in own], dtype=str)
        arrays[f"{split}_patients"] = np.array([store.patients[i] for i in own], dtype=str)
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
