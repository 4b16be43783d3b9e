"""Images that are put beside those of a data set to learn from: from elsewhere, annotated or not, never judged."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medaug_cli.boxes import folded
from medaug_cli.errors import BadInput
from medaug_cli.store.likeness import nearly_the_same, thumbnails
from medaug_cli.store.reading import Store, is_real


@dataclass(frozen=True)
class Beside:
    """External stores to learn from beside a store, and how."""

    external: Sequence[Store] = ()
    labelled: bool = False  # their boxes, masks and classes are used, where they have them
    share: float | None = None  # of a batch, of these and of the store's own unannotated images; None: by their number
    anneal: float = 0.0  # share of the run, at its end, over which that falls to zero


NOTHING = Beside()


def check_external(real: Store, external: Store) -> None:
    """Raise BadInput where a store cannot be learnt from beside another: its form, or whom it shows.

    A patient whom the other holds out for validation or test is found by name, and by pixels that are nearly the same.
    """
    if not is_real(external).all():
        name = external.ids[int(np.argmin(is_real(external)))]
        raise BadInput(f"{external.path} holds synthetic images ({name}); --external takes scans")
    forms = [(store.spec.channels, store.spec.spatial) for store in (external, real)]
    if forms[0] != forms[1]:
        raise BadInput(f"{external.path} has {form_words(external)}, but {real.path} has {form_words(real)}")
    train = np.flatnonzero(external.splits == "train")
    if not len(train):
        raise BadInput(f"{external.path} has no image in the training split, and --external uses no other")
    held_out = np.flatnonzero(real.splits != "train")
    others = {folded(real.patients[i]) for i in held_out}
    both = sorted({external.patients[i] for i in train if folded(external.patients[i]) in others})
    if both:
        raise BadInput(
            f"{external.path} holds patient {both[0]}, which {real.path} holds out for validation or test"
            + (f" (and {len(both) - 1} more)" if len(both) > 1 else "")
            + "; if these are different people, rename them"
        )
    _refuse_same_pixels(real, held_out, external, train)


def _refuse_same_pixels(real: Store, held_out: np.ndarray, external: Store, train: np.ndarray) -> None:
    if not len(held_out):
        return
    pair = nearly_the_same(thumbnails(external, train), thumbnails(real, held_out))
    if pair is not None:
        one, other = int(train[pair.first]), int(held_out[pair.second])
        raise BadInput(
            f"the image {external.ids[one]} of {external.path} and the {real.splits[other]} image {real.ids[other]} of "
            f"{real.path} are nearly the same (correlation {pair.correlation:.4f}); leave that one out"
        )


def check_annotations(real: Store, external: Store) -> None:
    """Raise BadInput where the annotations of an external store mean something that the other has no word for."""
    used = {external.spec.label_names[label] for label in external.columns.box_labels}
    unknown = sorted(used - set(real.spec.label_names))
    if unknown:
        raise BadInput(
            f"{external.path} has the label {unknown[0]!r}, and {real.path} has {', '.join(real.spec.label_names)}; "
            "give its boxes one of those by preprocess --label"
        )
    if external.spec.masks and real.spec.masks and external.spec.mask_names != real.spec.mask_names:
        raise BadInput(f"{external.path} and {real.path} have masks of different things")


def form_words(store: Store) -> str:
    """Say of what form the images of a store are."""
    spec = store.spec
    return f"{'x'.join(map(str, spec.spatial))} pixels, {spec.channels} channels, labels {', '.join(spec.label_names)}"
