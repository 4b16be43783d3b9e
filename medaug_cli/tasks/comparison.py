"""Compare the answers of systems on the same patients: intervals, paired differences, verdicts.

Every measure is a function of how often each patient counts, so a resample is a row of weights and an exchange of two
systems is one too. Legend: n answers, u patients, r resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Protocol, Self

import numpy as np

from medaug_cli.metrics.resampling import (
    Difference,
    bootstrap_weights,
    difference_of,
    holm,
    interval,
    over_seeds,
    swaps,
    verdict,
)

Numbers = dict[str, np.ndarray]  # measure -> (r,)


class Answers(Protocol):
    """What one trained network says of the patients of a split."""

    def measure(self, weights: np.ndarray) -> Numbers:
        """Return every number (r,) where patients count `weights` (r, u) times; NaN where it cannot be had."""
        ...

    def joined(self, other: Self, patients: int) -> Self:
        """Return the answers of both, those of the other's patients as patients u, u + 1, ..."""
        ...


@dataclass(frozen=True)
class Value:
    """A number of a system: the mean over its seeds, and its interval over patients and seeds."""

    value: float | None
    interval: tuple[float, float] | None
    seeds: tuple[float | None, ...]


@dataclass(frozen=True)
class Compared:
    """A difference to the first system, its p corrected for all that is compared by this measure."""

    difference: Difference
    p_holm: float
    verdict: str


@dataclass(frozen=True)
class SystemResult:
    """All numbers of one system."""

    name: str
    values: Mapping[str, Value]
    against_first: Mapping[str, Compared | None]  # empty for the first


def compare_systems(
    systems: Mapping[str, Sequence[Answers]], patients: int, resamples: int, seed: int
) -> list[SystemResult]:
    """Return the numbers of each system, of one network a seed, and its difference to the first one.

    Measures of one patient have no interval: there is nothing to resample.
    """
    weights = bootstrap_weights(patients, resamples, seed)
    swap = swaps(patients, resamples, seed)
    ones = np.ones((1, patients))
    points = {
        name: [{key: float(value[0]) for key, value in one.measure(ones).items()} for one in seeds]
        for name, seeds in systems.items()
    }
    spreads = {name: [one.measure(weights) for one in seeds] for name, seeds in systems.items()}
    first = next(iter(systems))
    measures = list(points[first][0])
    differences = {
        name: _differences(systems, points, spreads, (first, name), patients, swap, seed)
        for name in systems
        if name != first and patients > 1
    }
    corrected = {
        key: dict(zip(differences, holm([each[key] for each in differences.values()]), strict=True))
        for key in measures
        if differences
    }
    results = []
    for name, seeds in points.items():
        spread = {key: over_seeds(spreads[name], key, seed, name) for key in measures}
        limits = {key: interval(values) if patients > 1 else None for key, values in spread.items()}
        values = {key: _value([one[key] for one in seeds], limits[key]) for key in measures}
        against = {key: _compared(each, corrected[key][name]) for key, each in differences.get(name, {}).items()}
        results.append(SystemResult(name, values, against))
    return results


def _value(seeds: Sequence[float], limits: tuple[float, float] | None) -> Value:
    known = tuple(value if np.isfinite(value) else None for value in seeds)
    whole = None if None in known else float(np.mean(seeds))
    return Value(whole, limits if whole is not None else None, known)


def _compared(difference: Difference | None, p_holm: float) -> Compared | None:
    if difference is None:
        return None
    return Compared(difference, p_holm, verdict(difference.interval, p_holm))


def _differences(
    systems: Mapping[str, Sequence[Answers]],
    points: Mapping[str, Sequence[Mapping[str, float]]],
    spreads: Mapping[str, Sequence[Numbers]],
    names: tuple[str, str],
    patients: int,
    swap: np.ndarray,
    seed: int,
) -> dict[str, Difference | None]:
    """Return second - first for every number; seeds are exchanged in pairs, or each with each."""
    first, second = (systems[name] for name in names)
    pairs = list(zip(first, second, strict=True)) if len(first) == len(second) else list(product(first, second))
    exchanged: list[Numbers] = []
    for one, other in pairs:
        both = one.joined(other, patients)
        here, there = (both.measure(np.hstack(parts)) for parts in ((1 - swap, swap), (swap, 1 - swap)))
        exchanged.append({key: there[key] - here[key] for key in here})
    found: dict[str, Difference | None] = {}
    for key in points[names[0]][0]:
        before, after = (float(np.mean([one[key] for one in points[name]])) for name in names)
        resampled = over_seeds(spreads[names[1]], key, seed, names[1]) - over_seeds(
            spreads[names[0]], key, seed, names[0]
        )
        found[key] = difference_of(after - before, resampled, np.mean([one[key] for one in exchanged], 0))
    return found
