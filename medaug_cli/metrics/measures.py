"""The measures of a task, each described once: reports, tables, pages and studies take its words, digits and direction.

Legend: u patients, r weightings of the patients.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Numbers = dict[str, np.ndarray]  # measure -> (r,)
AT_ONCE = 20_000_000  # weights: 160 MB, and measures make some copies of them
Measuring = Callable[[Any, np.ndarray], Numbers]  # answers, weights (r, u) -> numbers; NaN where one cannot be had


def in_blocks(measure: Callable[[np.ndarray], Numbers], weights: np.ndarray, width: int) -> Numbers:
    """Measure some of the weightings (r, u) at a time, so that memory does not grow with r times `width`.

    That is how many numbers become of a weighting, as one an image.
    """
    rows = max(1, AT_ONCE // max(1, width))
    parts = [measure(weights[at : at + rows]) for at in range(0, max(1, len(weights)), rows)]
    return parts[0] if len(parts) == 1 else {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@dataclass(frozen=True)
class Measure:
    """What a number is called, how it is written, and which way it is better."""

    name: str  # its key in JSON
    words: str
    digits: int = 3
    larger_is_better: bool = True
    bounds: tuple[float, float] = (0.0, 1.0)
    operating: bool = False  # of one operating point, as in the paper's Table 1: not to be compared alone
    compared: bool = False  # among those that systems are compared by


class Measures:
    """The measures of one task, in the order in which they were added."""

    def __init__(self) -> None:
        self._measures: dict[str, Measure] = {}
        self.functions: tuple[Measuring, ...] = ()

    def add(self, *described: Measure) -> Callable[[Measuring], Measuring]:
        """Register the decorated function, which returns the described numbers."""

        def register(function: Measuring) -> Measuring:
            self._measures |= {measure.name: measure for measure in described}
            self.functions = (*self.functions, function)
            return function

        return register

    def __getitem__(self, name: str) -> Measure:
        return self._measures[name]

    def __iter__(self) -> Iterator[Measure]:
        return iter(self._measures.values())

    def numbers(self, answers: Any, weights: np.ndarray, functions: Sequence[Measuring] = ()) -> Numbers:
        """Return every number (r,), or those of some of the functions."""
        found: Numbers = {}
        for function in functions or self.functions:
            found |= function(answers, weights)
        return found
