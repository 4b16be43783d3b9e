"""What a task answers, so that training, evaluation and study are written once."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np

from medaug_cli.errors import UsageError
from medaug_cli.metrics.measures import Measure
from medaug_cli.store import Store


class Task(Protocol):
    """What networks of one kind are trained for; an entry point of the group `medaug.tasks` makes it known."""

    name: ClassVar[str]  # "classification"
    kind: ClassVar[str]  # of its plugins: "classifier", registered in the group `medaug.classifiers`
    headline: ClassVar[str]  # the measure that a study asks about first
    main: ClassVar[tuple[str, ...]]  # measures that are compared, the primary one first
    measures: ClassVar[Mapping[str, Measure]]  # of classes or labels: what stands before the bracket

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
        """Say why nothing can be measured on some usable images; None where it can."""
        ...

    def score(self, store: Store, indices: np.ndarray, answers: Sequence[Any]) -> dict[str, float]:
        """Return `score`, larger is better, and its parts, of what a plugin's `predict` yields for some images."""
        ...


def tasks() -> dict[str, Task]:
    """Return the installed tasks by name; one that does not load is left out."""
    from importlib.metadata import entry_points

    found: dict[str, Task] = {}
    for entry in entry_points(group="medaug.tasks"):
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
