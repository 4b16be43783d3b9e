"""Other annotations to learn from than those that a study judges by: rough boxes, or another reader's."""

from pathlib import Path

import numpy as np

from medaug_cli.errors import BadInput
from medaug_cli.store import Store, open_store

BATCH = 64  # images compared at once
SAME = "preprocess the same scans with the same settings, and only other annotations"


def teaching_store(path: Path, store: Store) -> Store:
    """Return the store at `path`, of whose annotations a study of `store` learns.

    Raises BadInput where it is not of the same images, or names other labels or classes.
    """
    taught = open_store(path)
    own, other = set(store.ids), set(taught.ids)
    for ids, here, there in ((own - other, path, store.path), (other - own, store.path, path)):
        if ids:
            raise BadInput(f"{here} lacks {min(ids)}, which is in {there}: {SAME}")
    for what, mine, its in (
        ("images in another order", store.ids, taught.ids),
        ("other patients", store.patients, taught.patients),
        ("images of another form", store.images.shape, taught.images.shape),
        ("another depth of grey", store.images.dtype, taught.images.dtype),
        ("other labels", store.info.label_names, taught.info.label_names),
        ("other classes", store.class_names, taught.class_names),
        ("other labels of masks", store.info.mask_names, taught.info.mask_names),
        ("masks, or none,", store.masks is None, taught.masks is None),
    ):
        if mine != its:
            raise BadInput(f"{path} has {what} than {store.path}: {SAME}")
    return taught


def refuse_other_images(store: Store, taught: Store) -> None:
    """Raise BadInput where an image is another one in the store that is learnt from."""
    for start in range(0, len(store), BATCH):
        part = slice(start, start + BATCH)
        differ = (store.images[part] != taught.images[part]).reshape(len(store.ids[part]), -1).any(1)
        if differ.any():
            name = store.ids[start + int(np.argmax(differ))]
            raise BadInput(f"{name} is another image in {taught.path} than in {store.path}: {SAME}")
