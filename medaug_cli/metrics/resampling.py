"""Intervals and paired tests that resample patients: slices of one patient resemble each other.

Every number is a function of how often each patient counts, so a resample is a row of weights; the
detections are matched and sorted once. Legend: u patients, r resamples.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal
from zlib import crc32

import numpy as np

from medaug_cli.metrics.operating import (
    Cohort,
    Scored,
    average_precisions,
    curve_numbers,
    mean_over_classes,
    weigh,
)

RESAMPLES = 2000
LEVEL = 0.95
SIGNIFICANT = 0.05
Verdict = Literal["better", "worse", "inconclusive"]
Numbers = dict[str, np.ndarray]  # name -> (r,)
Measure = Callable[[Scored, np.ndarray, np.ndarray], Numbers]  # detections, weights, totals -> numbers


@dataclass(frozen=True)
class Difference:
    """How far a detector is from the first one on the same patients."""

    difference: float
    interval: tuple[float, float]  # 95 % percentile interval of the paired patient bootstrap
    p: float  # two-sided, swapping the two detectors patient by patient
    p_bootstrap: float  # two-sided, the share of resamples on the other side of 0


def bootstrap_weights(patients: int, resamples: int, seed: int) -> np.ndarray:
    """Return how often each patient is drawn in each resample, (r, u) float64."""
    random = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    return random.multinomial(patients, np.full(patients, 1 / patients), size=resamples).astype(np.float64)


def swaps(patients: int, resamples: int, seed: int) -> np.ndarray:
    """Return for which patients the two detectors are swapped, (r, u) of 0 and 1."""
    random = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    return random.integers(0, 2, (resamples, patients)).astype(np.float64)


def interval(values: np.ndarray) -> tuple[float, float] | None:
    """Return the 95 % percentile interval of the values that are defined; None where none is."""
    defined = values[np.isfinite(values)]
    if not len(defined):
        return None
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def at_iou(cohort: Cohort, iou: float, threshold: float) -> Measure:
    """Return the function that measures everything at one IoU."""
    return lambda scored, weights, totals: curve_numbers(scored, cohort, iou, threshold, weights, totals)


def mean_ap(cohort: Cohort, iou: float) -> Measure:
    """Return the function that measures mAP at one IoU."""
    return lambda scored, weights, totals: {
        "mAP": mean_over_classes(average_precisions(scored, cohort, iou, weights, totals))
    }


def point(measure: Measure, scored: Scored, cohort: Cohort) -> dict[str, float]:
    """Measure the patients as they are."""
    ones = np.ones((1, len(cohort.patients)))
    return {name: float(value[0]) for name, value in measure(scored, ones, weigh(cohort, ones)).items()}


def bootstrap(measure: Measure, scored: Scored, cohort: Cohort, weights: np.ndarray) -> Numbers:
    """Measure each resample of the patients."""
    return measure(scored, weights, weigh(cohort, weights))


def resampled_over(measure: Measure, scored: Scored, cohort: Cohort) -> dict[str, int]:
    """Return how many patients define each number by themselves: resampling fewer than two says nothing."""
    alone = np.eye(len(cohort.patients))
    return {name: int(np.isfinite(value).sum()) for name, value in bootstrap(measure, scored, cohort, alone).items()}


def blanked(numbers: Numbers, over: dict[str, int]) -> Numbers:
    """Return resamples without those of numbers that fewer than two patients define."""
    return {name: value if over[name] > 1 else np.full_like(value, np.nan) for name, value in numbers.items()}


def permuted(measure: Measure, first: Scored, second: Scored, cohort: Cohort, swap: np.ndarray) -> Numbers:
    """Return second - first for each random exchange of the two detectors patient by patient.

    The two are one sorted list with a unit for each patient and detector; an exchange is a weighting.
    """
    both = merged(first, second, len(cohort.patients))
    totals = weigh(cohort, np.ones_like(swap))
    one = measure(both, np.hstack([1 - swap, swap]), totals)
    other = measure(both, np.hstack([swap, 1 - swap]), totals)
    return {name: other[name] - one[name] for name in one}


def merged(first: Scored, second: Scored, patients: int) -> Scored:
    """Join the detections of two detectors, best score first; the second's units follow the first's."""
    scores = np.concatenate([first.scores, second.scores])
    order = np.argsort(-scores, kind="stable")
    ignored = None
    if first.ignored is not None or second.ignored is not None:
        each = [np.zeros_like(s.hit) if s.ignored is None else s.ignored for s in (first, second)]
        ignored = np.concatenate(each)
    return Scored(
        scores[order],
        np.concatenate([first.labels, second.labels])[order],
        np.concatenate([first.units, second.units + patients])[order],
        np.concatenate([first.hit, second.hit])[order],
        first.ious,
        None if ignored is None else ignored[order],
    )


def everything(cohort: Cohort, iou: float, threshold: float) -> Measure:
    """Return the function that measures all numbers of one IoU, mAP included."""
    curve, precision = at_iou(cohort, iou, threshold), mean_ap(cohort, iou)
    return lambda scored, weights, totals: curve(scored, weights, totals) | precision(scored, weights, totals)


def over_seeds(spread: Sequence[Numbers], name: str, seed: int, system: str) -> np.ndarray:
    """Return the mean over resampled seeds in each resample of the patients, (r,); `spread` is one of each seed."""
    values = np.stack([numbers[name] for numbers in spread])  # (seeds, r)
    if len(values) == 1:
        return values[0]
    random = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2, crc32(system.encode()))))
    drawn = random.integers(0, len(values), (len(values), values.shape[1]))
    return np.take_along_axis(values, drawn, 0).mean(0)


def exchanged_seeds(
    measure: Measure, first: Sequence[Scored], second: Sequence[Scored], cohort: Cohort, swap: np.ndarray
) -> Numbers:
    """Return the mean over seeds of second - first where both are exchanged for the same random patients.

    Seeds are taken in pairs; where the two have not as many, each with each.
    """
    pairs = list(zip(first, second, strict=True)) if len(first) == len(second) else list(product(first, second))
    each = [permuted(measure, one, other, cohort, swap) for one, other in pairs]
    return {name: np.mean([numbers[name] for numbers in each], 0) for name in each[0]}


def compare(
    measure: Measure, first: Sequence[Scored], second: Sequence[Scored], cohort: Cohort,
    first_spread: Sequence[Numbers], second_spread: Sequence[Numbers], swap: np.ndarray,
    seed: int = 0, names: tuple[str, str] = ("first", "second"),
) -> dict[str, Difference | None]:  # fmt: skip
    """Return second - first for every number, means over the seeds of each; None where it is not defined.

    The spreads are the resamples of each seed, of the same patients.
    """
    before, after = (
        {name: float(np.mean(values)) for name, values in _columns([point(measure, s, cohort) for s in each])}
        for each in (first, second)
    )
    exchanged = exchanged_seeds(measure, first, second, cohort, swap)
    found: dict[str, Difference | None] = {}
    for name in before:
        resampled = over_seeds(second_spread, name, seed, names[1]) - over_seeds(first_spread, name, seed, names[0])
        found[name] = difference_of(after[name] - before[name], resampled, exchanged[name])
    return found


def _columns(rows: Sequence[dict[str, float]]) -> Iterator[tuple[str, list[float]]]:
    return ((name, [row[name] for row in rows]) for name in rows[0])


def difference_of(observed: float, resampled: np.ndarray, exchanged: np.ndarray) -> Difference | None:
    """Return a difference with its interval and both p; None where it is not defined."""
    limits = interval(resampled)
    if not np.isfinite(observed) or limits is None:
        return None
    as_far = np.abs(exchanged[np.isfinite(exchanged)]) >= abs(observed) - 1e-12
    defined = resampled[np.isfinite(resampled)]
    tail = min(np.sum(defined <= 0), np.sum(defined >= 0))
    return Difference(
        observed,
        limits,
        (1 + int(as_far.sum())) / (1 + len(as_far)),
        min(1.0, 2 * (1 + int(tail)) / (1 + len(defined))),
    )


def verdict(limits: tuple[float, float], p_holm: float) -> Verdict:
    """Return what may be said: a direction needs both a corrected p below 0.05 and an interval without 0."""
    if p_holm >= SIGNIFICANT or limits[0] <= 0 <= limits[1]:
        return "inconclusive"
    return "better" if limits[0] > 0 else "worse"


def holm(differences: list[Difference | None]) -> list[float]:
    """Return the p of each comparison corrected by Holm's step-down method (1 where undefined)."""
    ps = np.array([1.0 if each is None else each.p for each in differences])
    order = np.argsort(ps, kind="stable")
    stepped = np.maximum.accumulate(ps[order] * np.arange(len(ps), 0, -1))
    corrected = np.empty_like(ps)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected.tolist()
