"""What a generator or network learns from besides the annotated images of its store, and what is recorded of it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli.errors import BadInput, UsageError
from medaug_cli.plugin import GeneratorCapabilities, Known
from medaug_cli.store import Store, StoreExamples, open_store
from medaug_cli.store.external import Beside, check_external
from medaug_cli.store.model import EXTERNAL
from medaug_cli.store.reading import is_real
from medaug_cli.words import counted, percent


@dataclass(frozen=True)
class External:
    """The external stores that a training command is given, and how they are used."""

    stores: Sequence[Path] = ()
    labelled: bool = False  # by their own annotations, noisy as they may be
    share: float | None = None
    anneal: float = 0.0

    def opened(self, store: Store) -> Beside:
        """Open the stores; raise BadInput for one that may not be learnt from beside `store`."""
        if any(path.resolve() == store.path.resolve() for path in self.stores):
            raise UsageError(f"--external {store.path}: that is the store itself, whose images are already used")
        opened = [open_store(path) for path in self.stores]
        for each in opened:
            check_external(store, each)
        if len({each.hash for each in opened}) < len(opened):
            raise UsageError("--external: a store is given twice")
        if self.stores and self.share == 0:
            raise UsageError("--external-share 0 leaves external and unannotated images out; leave --external out too")
        return Beside(opened, labelled=self.labelled, share=self.share, anneal=self.anneal)

    def plan(self, beside: Beside) -> dict[str, Any]:
        """Return what of it must be the same for a run to continue; options at their defaults are left out."""
        asked = {
            "external": [each.hash for each in beside.external],
            "external_labels": "noisy" if self.labelled else None,
            "external_share": self.share,
            "external_anneal": self.anneal,
        }
        return {name: value for name, value in asked.items() if value or (name == "external_share" and value == 0)}


NOTHING_EXTERNAL = External()


def check_beside(
    name: str, able: GeneratorCapabilities, known: Collection[Known], store: Store, beside: Beside
) -> None:
    """Raise UsageError where a generator cannot learn from what is put beside its images, BadInput for lack of masks.

    One that pastes into real images takes its masks from these: a single one without would cost all of them theirs.
    """
    if beside.external and not beside.labelled and not able.unannotated:
        raise UsageError(
            f"--external: {name} learns from annotated images only; choose a generator that also learns from others "
            f"(boxgan, pggan), or use the external boxes, masks and classes (--external-labels noisy)"
        )
    bare = [each for each in beside.external if each.masks is None]
    if able.keeps_images and "mask" in known and store.masks is not None and bare:
        raise BadInput(
            f"{bare[0].path} holds no masks, {store.path} does, and {name} takes masks from the images that it pastes "
            "into; preprocess both with masks, or neither"
        )


def check_share(name: str, able: GeneratorCapabilities, data: StoreExamples, beside: Beside) -> None:
    """Raise UsageError where a share of a batch is asked for, and there is nothing to have it."""
    if not (beside.share or beside.anneal) or (able.learns and len(data.parts) > 1):
        return
    why = "it is given no external or unannotated images to learn from" if able.learns else "it is not trained"
    raise UsageError(f"--external-share and --external-anneal do nothing for {name}: {why}; leave them out")


def beside_words(data: StoreExamples) -> str:
    """Say what a run learns from besides the annotated images of its store, with a comma at the end."""
    parts = list(zip(data.parts, data.told, data.shares, strict=True))[1:]
    if not parts:
        return ""
    unannotated = sum(len(indices) for (_, indices), told, _ in parts if not told)
    external = sum(len(indices) for (store, indices), _, _ in parts if store is not data.parts[0][0])
    count = sum(len(indices) for (_, indices), *_ in parts)
    said = [f"{external} external"] if external else []
    said += [f"{unannotated} without annotation"] if unannotated else []
    share = sum(share for *_, share in parts)
    return f"beside {counted(count, 'image')} ({', '.join(said)}; {percent(share)} of a batch), "


def left_out_words(data: StoreExamples, external: Sequence[Store]) -> list[str]:
    """Say of each external store how many images are left out because they are not annotated."""
    said = []
    for store in external:
        used = sum(len(indices) for own, indices in data.parts if own is store)
        count = int((store.splits == "train").sum()) - used
        said += (
            [f"{store.path}: {count} of its images have no annotation to learn from and are left out"] if count else []
        )
    return said


def beside_metadata(data: StoreExamples) -> dict[str, Any]:
    """Return what generator.json or a network's JSON says of external and unannotated images."""
    own = data.parts[0][0]
    external: dict[str, dict[str, Any]] = {}
    for (store, indices), told, share in zip(data.parts, data.told, data.shares, strict=True):
        if store is own or not is_real(store).all():
            continue
        part = external.setdefault(
            store.hash,
            {"hash": store.hash, "names": _names(store), "images": 0, "annotated": 0, "share": 0.0},
        )
        part["images"] += len(indices)
        part["annotated"] += len(indices) * told
        part["share"] = round(part["share"] + float(share), 4)
    return {"external": list(external.values()), "unannotated_images": _unannotated_images(data)}


def _unannotated_images(data: StoreExamples) -> int:
    """Return how many images have no annotation, or none that was used; the class of a whole image counts as one."""
    parts = zip(data.parts, data.told, strict=True)
    return sum(
        int(((~store.annotated & (store.classes < 0))[indices] if told else np.ones(len(indices), bool)).sum())
        for (store, indices), told in parts
    )


def real_patients(data: StoreExamples) -> set[str]:
    """Return the patients of the scans that something is fitted on, external ones among them."""
    return {data.patients[i] for i in np.flatnonzero(~data.synthetic)}


def _names(store: Store) -> list[str]:
    """Return the names of where a store's images come from, or the store's own where they do not say."""
    sources = {str(source).removeprefix(EXTERNAL) for source in store.sources if str(source).startswith(EXTERNAL)}
    return sorted(sources) or [store.path.stem]
