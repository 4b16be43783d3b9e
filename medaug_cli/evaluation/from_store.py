"""Evaluate trained detectors on a split of a store."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli.answers import answered
from medaug_cli.errors import BadInput
from medaug_cli.evaluation.arguments import seed_names, seeds_of
from medaug_cli.evaluation.folder import Evidence, Request, publish_evaluation
from medaug_cli.files import name_of
from medaug_cli.metrics.annotations import FoundBoxes, found_boxes
from medaug_cli.metrics.coco_files import as_truth
from medaug_cli.metrics.report import Metrics
from medaug_cli.plugin import Detections
from medaug_cli.runs import check_detector
from medaug_cli.store import Store, open_store, unannotated_words
from medaug_cli.store.folds import Fold, split_words
from medaug_cli.store.model import source_kind
from medaug_cli.tasks.detection import annotated

Progress = Callable[[str, int, int], None]  # detector, images done, images


def evaluate_store(
    store_path: Path,
    detectors: Mapping[str, Sequence[Path]],
    request: Request,
    split: str = "test",
    fold: Fold | None = None,
    device: str = "auto",
    progress: Progress = lambda name, done, total: None,
) -> Metrics:
    """Predict with each detector on a split, measure, and publish the evaluation folder.

    Raises BadInput where the split is empty, holds no box or holds synthetic images, or where a detector knows other
    classes, was fitted for other images, or was fitted on a patient of the split.
    """
    from medaug_cli.devices import resolve_device
    from medaug_cli.runs import load_detector

    request.check([store_path, *(path for paths in detectors.values() for path in paths)])
    own = open_store(store_path)
    store = own if fold is None else fold.of(own)
    indices = split_indices(store, split)
    data = annotated(store, indices)
    for words in unannotated_words(store, split):
        request.say(words)
    if not len(data.truth.boxes):
        raise BadInput(f"{store_path} has no box in the {split} split, so there is nothing to find")
    device = resolve_device(device)
    loaded = {name: load_detector(path, device) for name, path in seeds_of(detectors).items()}
    for name, (_, metadata) in loaded.items():
        check_detector(name, metadata, store, indices, split)
    found = {}
    for name, (detector, _) in loaded.items():
        progress(name, 0, len(indices))
        found[name] = predict(name, detector, store, indices, progress)
    evidence = Evidence(
        data=data,
        found=found,
        image_ids=range(1, len(data) + 1),
        category_ids=dict.fromkeys(found, range(1, len(data.label_names) + 1)),
        picture=lambda i: store.images[indices[i]],
        sources={name_of(store_path): own.hash},
        weights={name: metadata.weights for name, (_, metadata) in loaded.items()},
        split=split_words(split, fold),
        truth=as_truth(data, store.spec.spatial),
        systems=seed_names(detectors),
        size=lambda i: (store.spec.spatial[-1], store.spec.spatial[-2]),
    )
    return publish_evaluation(request, evidence)


def split_indices(store: Store, split: str) -> np.ndarray:
    """Return the images of a split; raise BadInput if there are none, or synthetic or external ones among them."""
    indices = store.indices(split)
    if not len(indices):
        has = ", ".join(f"{name} {np.sum(store.splits == name)}" for name in np.unique(store.splits)) or "none"
        raise BadInput(f"{store.path} has no image in the {split} split (images: {has})")
    refuse_unjudged(store, indices, split)
    return indices


def refuse_unjudged(store: Store, indices: np.ndarray, split: str) -> None:
    """Raise BadInput where images of a split are synthetic or external: nothing is judged on these."""
    advice = {
        "synthetic": "networks are evaluated on real images only",
        "external": "they are for training alone; to be judged on, preprocess them without --external",
    }
    for i in indices:
        if (kind := source_kind(str(store.sources[i]))) in advice:
            raise BadInput(f"{store.path} holds {kind} images in the {split} split ({store.ids[i]}); {advice[kind]}")


def predict(name: str, detector: Any, store: Store, indices: np.ndarray, progress: Progress) -> FoundBoxes:
    """Return what a detector finds on some images; raise BrokenContract where it does not keep to its contract."""
    found: list[Detections] = []
    for answer in answered("detector", name, detector.predict(_pixels(store, indices)), len(indices), store.spec):
        found.append(answer)
        progress(name, len(found), len(indices))
    return found_boxes(found, store.spec.dims, [store.ids[i] for i in indices])


def _pixels(store: Store, indices: np.ndarray) -> Iterator[np.ndarray]:
    for index in indices:
        yield store.read([index])[0]
