"""What a task answers, so that training, evaluation and study are written once."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import numpy as np

from medaug_cli import registry
from medaug_cli.errors import UsageError
from medaug_cli.metrics.measures import Measure
from medaug_cli.metrics.resampling import Answers
from medaug_cli.store import Store


@dataclass(frozen=True)
class Figure:
    """A picture on the page of an evaluation or a study."""

    title: str
    note: str
    content: bytes
    type: str = "image/svg+xml"

    @property
    def uri(self) -> str:
        """Return the picture as it stands within a page."""
        return f"data:{self.type};base64,{b64encode(self.content).decode()}"


class Task(Protocol):
    """What networks of one kind are trained for; an entry point of the group `medaug.tasks` makes it known.

    A task inherits from this: what has a body here need not be written.
    """

    name: ClassVar[str]  # "classification"
    kind: ClassVar[str]  # of its plugins: "classifier", registered in the group `medaug.classifiers`
    headline: ClassVar[str]  # the number that a study asks about first
    main: ClassVar[tuple[str, ...]]  # numbers that are compared, the primary one first
    measures: ClassVar[Mapping[str, Measure]]  # of classes or labels: what stands before the bracket
    needs: ClassVar[str] = ""  # what a synthetic image must have to be learnt from: boxes, mask or class; or nothing
    names: ClassVar[str] = ""  # field of ImageSpec, as class_names, that a network and a store must share
    operating: ClassVar[str] = "At the operating point of each network"  # title of the numbers that are `operating`
    chosen_by: ClassVar[str] = ""  # number by which a study chooses an arm on validation; empty: the headline

    def usable(self, store: Store) -> np.ndarray:
        """Return which images (n,) bool a network can learn from or be judged on."""
        ...

    def wanting(self, store: Store) -> str:
        """Say what a store lacks that has no usable image."""
        ...

    def check(self, real: Store, synthetic: Sequence[Store]) -> None:
        """Raise BadInput where a network cannot be trained on these stores."""
        ...

    def measurable(self, store: Store, indices: np.ndarray) -> str | None:
        """Say what is missing where nothing can be measured on some usable images; None where it can."""
        ...

    def score(self, store: Store, indices: np.ndarray, answers: Sequence[Any]) -> dict[str, float]:
        """Return `score`, larger is better, and its parts, of what a plugin's `predict` yields for some images."""
        ...

    def answers(self, store: Store, indices: np.ndarray, found: Sequence[Any]) -> Answers:
        """Return what a plugin's `predict` yields for some images as answers that can be measured and resampled.

        Their patients are numbered from 0 in the order of their names.
        """
        ...

    def teachable(self, store: Store, indices: np.ndarray) -> str | None:
        """Say what is missing where nothing can be learnt from some usable images; None where it can."""
        return self.measurable(store, indices)

    def telling(self, store: Store, indices: np.ndarray) -> bool:
        """Tell whether some usable images of one patient count for the headline: those of every patient, mostly."""
        return True

    def counts(self, store: Store, indices: np.ndarray) -> dict[str, int]:
        """Return what a report counts of some images, as images of each class."""
        return {}

    def settings(self) -> dict[str, Any]:
        """Return the constants behind the measures, for reports."""
        return {}

    def remarks(self, answers: Mapping[str, Any]) -> list[str]:
        """Return sentences that a reader must know of the networks' answers."""
        return []

    def figures(
        self,
        store: Store,
        indices: np.ndarray,
        answers: Mapping[str, Any],
        found: Mapping[str, Sequence[Any]],
        most: int,
    ) -> list[Figure]:
        """Return the pictures of a report, at most so many images in each, of the networks' answers."""
        return []

    def files(self, store: Store, indices: np.ndarray, found: Mapping[str, Sequence[Any]]) -> dict[str, bytes]:
        """Return what an evaluation keeps of the networks' answers: the place of each file in it, and its content."""
        return {}


def measure_of(measures: Mapping[str, Measure], key: str) -> Measure:
    """Return a measure by its key; that of one class or label, as `auc[cyst]`, has the name behind its words."""
    base, bracket, rest = key.partition("[")
    if not bracket:
        return measures[key]
    label, _, by = rest.partition("]")
    plain = measures[base + by]
    return replace(plain, name=key, words=f"{plain.words}, {label}")


def patient_numbers(store: Store, indices: np.ndarray) -> np.ndarray:
    """Return the patient of each image as a number (n,) int64 from 0, in the order of their names."""
    names = sorted({store.patients[i] for i in indices})
    number = {patient: k for k, patient in enumerate(names)}
    return np.array([number[store.patients[i]] for i in indices], np.int64)


def tasks() -> dict[str, Task]:
    """Return the installed tasks by name; one that does not load is left out."""
    found: dict[str, Task] = {}
    for entry in registry.entry_points("medaug.tasks"):
        try:
            task = entry.load()()
        except Exception:  # a stranger's; asked for by name it is missed there
            continue
        found[task.name] = task
    return found


def task_named(name: str) -> Task:
    """Return a task; raise UsageError naming the installed ones where there is none of that name."""
    known = tasks()
    if name not in known:
        raise UsageError(f"unknown task {name!r}; choose one of {', '.join(sorted(known))}")
    return known[name]
