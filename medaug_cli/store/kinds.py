"""Kinds of images that may be asked for by name: classes, or labels of boxes without any, and normal images."""

from collections.abc import Sequence

import numpy as np

from medaug_cli.errors import UsageError
from medaug_cli.store.reading import Store

NORMAL = "normal"  # an image without a box, where no class is called so


def kinds(store: Store) -> list[str]:
    """Return the names of the kinds of images that a store may hold."""
    names = list(store.class_names or store.spec.label_names)
    return names if NORMAL in names else [*names, NORMAL]


def of_kind(store: Store, chosen: Sequence[int] | np.ndarray, name: str) -> list[int]:
    """Return the images among `chosen` that are of a class or, without classes, have a box of that label.

    Raises UsageError for a kind that the store does not have.
    """
    if name in store.class_names:
        return [int(i) for i in chosen if store.classes[i] == store.class_names.index(name)]
    if name in store.spec.label_names and not store.class_names:
        label = store.spec.label_names.index(name)
        return [int(i) for i in chosen if (store.labels[i] == label).any()]
    if name != NORMAL:
        choices = ", ".join(kinds(store))
        raise UsageError(f"--class {name}: {store.path} has no such class; choose one of {choices}")
    return [int(i) for i in chosen if store.annotated[i] and not len(store.boxes[i])]


def kinds_apart(store: Store, chosen: np.ndarray) -> list[str]:
    """Return the kinds of some images that a generator each is fitted on.

    An image without a lesion that has a class is of that class: normal ones are a kind if some of them have none.
    """
    found = [name for name in kinds(store) if of_kind(store, chosen, name)]
    if store.class_names and NORMAL in found and not of_kind(store, chosen[store.classes[chosen] < 0], NORMAL):
        return [name for name in found if name in store.class_names]
    return found
