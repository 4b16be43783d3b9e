"""What each trained network of a study says of held-out images, kept beside it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli.devices import resolve_device
from medaug_cli.evaluation.predicting import load_for, predicted
from medaug_cli.files import new_file
from medaug_cli.metrics.resampling import Answers
from medaug_cli.store import Store
from medaug_cli.study.measurable import judged_images
from medaug_cli.study.running import StudyOptions, Trial, trained_folder


class Split:
    """The images of one split that are judged, and what each network says of them."""

    def __init__(self, options: StudyOptions, store: Store, split: str):
        self.options, self.store, self.split = options, store, split
        self.indices = judged_images(store, options.task, split)
        self.patients = len({store.patients[i] for i in self.indices})
        self._answers: dict[Trial, Answers] = {}

    def found(self, trial: Trial) -> list[Any]:
        """Return a trial's answer on each image; raise BadInput where its network has seen one of the patients."""
        folder, task = trained_folder(self.options, trial), self.options.task
        device = resolve_device(self.options.device)
        name = trial.arm.name
        network, metadata = load_for(
            task, name, folder=folder, store=self.store, indices=self.indices, split=self.split, device=device
        )
        path = folder / f"found-{self.split}-{metadata.weights[:12]}-{self.store.hash[:12]}.npz"
        if not path.exists():
            _keep(path, predicted(task, name, network, self.store, self.indices))
        with np.load(path, allow_pickle=False) as kept:
            return unpacked(dict(kept), len(self.indices))

    def answers(self, trial: Trial) -> Any:
        """Return a trial's answers, measured once."""
        if trial not in self._answers:
            self._answers[trial] = self.options.task.answers(self.store, self.indices, self.found(trial))
        return self._answers[trial]


def _keep(path: Path, found: Sequence[Any]) -> None:
    with new_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **packed(found))


def packed(found: Sequence[Any]) -> dict[str, Any]:
    """Return answers, an array or a tuple of arrays an image, as few arrays by name."""
    tuples = [each if isinstance(each, tuple) else (each,) for each in found]
    kept: dict[str, Any] = {"single": np.array(not isinstance(found[0], tuple))}
    for place, parts in enumerate(zip(*tuples, strict=True)):
        arrays = [np.asarray(part) for part in parts]
        if len({array.shape for array in arrays}) == 1:
            kept[f"stacked{place}"] = np.stack(arrays)
        else:  # as many rows as each has
            kept[f"rows{place}"] = np.concatenate(arrays)
            kept[f"lengths{place}"] = np.array([len(array) for array in arrays])
    return kept


def unpacked(kept: Mapping[str, np.ndarray], images: int) -> list[Any]:
    """Return what `packed` was given, or the detections that an older version kept."""
    if "scores" in kept:
        owned = [kept["images"] == i for i in range(images)]
        return [tuple(kept[name][own] for name in ("boxes", "scores", "labels")) for own in owned]
    parts: list[Sequence[np.ndarray]] = []
    for name, values in kept.items():
        if name.startswith("stacked"):
            parts.append(list(values))
        elif name.startswith("rows"):
            parts.append(np.split(values, np.cumsum(kept[name.replace("rows", "lengths")])[:-1]))
    return list(parts[0]) if kept["single"] else list(zip(*parts, strict=True))
