"""Images whose truth is known, whether a store holds them or files: what networks and predictions are judged on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np


class Each(Sequence):
    """A sequence whose items are read when they are asked for: no more than one need be in memory."""

    def __init__(self, count: int, read: Callable[[int], Any]):
        self._count, self._read = count, read

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < self._count:
            raise IndexError(index)
        return self._read(int(index))

    def __iter__(self) -> Iterator[Any]:
        return map(self._read, range(self._count))


@dataclass(frozen=True)
class Cases:
    """Some images, the truth of each, and how to see them."""

    ids: Sequence[str]
    patients: Sequence[str]
    names: tuple[str, ...]  # of classes, or of the labels 1, 2, ... of masks
    truth: Sequence[Any] | np.ndarray  # an index into `names` each, or a label map (*s)
    picture: Callable[[int], np.ndarray | None] = lambda index: None  # -> (c, *s)
    spacing: Sequence[Sequence[float] | None] = ()  # mm in numpy axis order, where it is known

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def units(self) -> np.ndarray:
        """Return the number of each image's patient, (n,) int64, from 0."""
        number = {patient: k for k, patient in enumerate(sorted(set(self.patients)))}
        return np.array([number[patient] for patient in self.patients], np.int64)

    @property
    def patient_count(self) -> int:
        """Return how many patients there are."""
        return len(set(self.patients))

    @property
    def names_patients(self) -> bool:
        """Tell whether a patient has several images; else images are resampled, whatever they are called."""
        return self.patient_count < len(self)
