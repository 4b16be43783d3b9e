"""What each trained network of a study says of held-out images, kept beside it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli.devices import resolve_device
from medaug_cli.evaluation.predicting import load_for, predicted
from medaug_cli.files import new_file
from medaug_cli.metrics.resampling import Answers, point
from medaug_cli.study.measurable import judged_images
from medaug_cli.study.rounds import Round
from medaug_cli.study.trials import StudyOptions, Trial, trained_folder


class Split:
    """The images of one split that are judged, and what networks say of them; in folds each of the images of its own.

    `rounds` are those of one deal; `chosen` is a trial for each of them.
    """

    def __init__(self, options: StudyOptions, rounds: Sequence[Round], split: str):
        self.options, self.rounds, self.split = options, rounds, split
        self.store = rounds[0].store  # but for its splits the same in all rounds
        self.parts = [judged_images(each.store, options.task, split) for each in rounds]
        self.indices = np.sort(np.concatenate(self.parts))
        self.names = sorted({self.store.patients[i] for i in self.indices})
        self.patients = len(self.names)
        self._answers: dict[tuple[Trial, ...], Answers] = {}

    def each(self, trial: Trial) -> tuple[Trial, ...]:
        """Return a trial in every round."""
        return tuple(trial.at(each) for each in self.rounds)

    def found(self, chosen: Sequence[Trial]) -> list[Any]:
        """Return the answer on each image; raise BadInput where its network has seen one of the patients."""
        by_image: dict[int, Any] = {}
        for trial, part in zip(chosen, self.parts, strict=True):
            by_image |= dict(zip(part.tolist(), self._found(trial, part), strict=True))
        return [by_image[int(i)] for i in self.indices]

    def answers(self, chosen: Sequence[Trial]) -> Any:
        """Return the answers of the networks of all rounds, measured once."""
        key = tuple(chosen)
        if key not in self._answers:
            self._answers[key] = self.options.task.answers(self.store, self.indices, self.found(key))
        return self._answers[key]

    def of_each(self, chosen: Sequence[Trial]) -> dict[str, dict[str, float]]:
        """Return the numbers that can be had of each fold by itself; nothing without folds."""
        found: dict[str, dict[str, float]] = {}
        for trial, part in zip(chosen, self.parts, strict=True):
            if not trial.round.fold or self.options.task.measurable(self.store, part):
                continue
            answers = self.options.task.answers(self.store, part, self._found(trial, part))
            numbers = point(answers, len({self.store.patients[i] for i in part}))
            found[trial.round.name] = {name: value for name, value in numbers.items() if np.isfinite(value)}
        return found

    def _found(self, trial: Trial, part: np.ndarray) -> list[Any]:
        folder, task, store = trained_folder(self.options, trial), self.options.task, trial.round.store
        device = resolve_device(self.options.device)
        name = trial.arm.name
        network, metadata = load_for(
            task, name, folder=folder, store=store, indices=part, split=self.split, device=device
        )
        path = folder / f"found-{self.split}-{metadata.weights[:12]}-{store.hash[:12]}.npz"
        if not path.exists():
            _keep(path, predicted(task, name, network, store, part))
        with np.load(path, allow_pickle=False) as kept:
            return unpacked(dict(kept), len(part))


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
