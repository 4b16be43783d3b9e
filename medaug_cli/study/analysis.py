"""What a study found: every seed, its mean, and the difference to real-only over patients and seeds.

Legend: r resamples, u patients.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from medaug_cli.boxes import Strict
from medaug_cli.metrics.operating import Cohort, Scored
from medaug_cli.metrics.resampling import (
    Difference,
    Measure,
    Numbers,
    at_iou,
    bootstrap,
    bootstrap_weights,
    holm,
    interval,
    mean_ap,
    permuted,
    point,
    swaps,
)

SHOWN = ("sensitivity_at_1", "sensitivity_at_4", "cpm")
LEVEL = 0.05
Verdict = Literal["better", "worse", "inconclusive"]


class StudyDifference(Strict):
    """An arm less real-only: means over seeds, on the same patients."""

    difference: float
    interval: tuple[float, float]  # 95 %, resampling patients and, in each arm, seeds
    p: float  # two-sided, exchanging the arms patient by patient
    p_holm: float  # corrected for the number of arms
    verdict: Verdict

    def words(self) -> str:
        """Write the difference with its interval."""
        return f"{self.difference:+.3f} [{self.interval[0]:+.3f}, {self.interval[1]:+.3f}]"


class ArmResult(Strict):
    """One arm at one share of the training patients."""

    arm: str
    seeds: dict[str, dict[str, float]]  # seed -> number -> value
    mean: dict[str, float]
    against_real_only: dict[str, StudyDifference | None]  # empty for real-only itself


class FractionResult(Strict):
    """All arms at one share of the training patients."""

    fraction: float
    patients: int
    images: int
    arms: list[ArmResult]


class StudyReport(Strict):
    """study.json."""

    version: Literal[1] = 1
    tool_version: str
    settings: dict[str, str | int | float | list[str] | list[float] | dict[str, str] | None]
    data: dict[str, str]  # file -> hash
    split: str
    slices: int
    boxes: int
    patients: int
    fractions: list[FractionResult]


def measures(cohort: Cohort, ious: Sequence[float], threshold: float) -> dict[str, Measure]:
    """Return what is measured, by the ending of its numbers' names."""
    return {f"iou{iou:g}": at_iou(cohort, iou, threshold) for iou in ious} | {"": mean_ap(cohort, 0.5)}


def numbers(measure: Measure, ending: str, scored: Scored, cohort: Cohort) -> dict[str, float]:
    """Return the numbers of one detector that a study shows."""
    every = point(measure, scored, cohort)
    return {_name(name, ending): value for name, value in every.items() if _shown(name, ending)}


def compare_arms(
    arms: Mapping[str, Sequence[Scored]], cohort: Cohort, ious: Sequence[float], threshold: float, resamples: int,
    seed: int,
) -> list[ArmResult]:  # fmt: skip
    """Compare arms, each the detectors of its seeds, with the first."""
    weights = bootstrap_weights(len(cohort.patients), resamples, seed)
    swap = swaps(len(cohort.patients), resamples, seed)
    values: dict[str, list[dict[str, float]]] = {name: [{} for _ in each] for name, each in arms.items()}
    found: dict[str, dict[str, Difference | None]] = {name: {} for name in arms}
    first, *others = arms
    for ending, measure in measures(cohort, ious, threshold).items():
        spread = {name: [bootstrap(measure, one, cohort, weights) for one in each] for name, each in arms.items()}
        for name, each in arms.items():
            for value, one in zip(values[name], each, strict=True):
                value.update(numbers(measure, ending, one, cohort))
        for name in others:
            exchanged = _exchanged(measure, arms[first], arms[name], cohort, swap)
            for number in exchanged:
                if _shown(number, ending):
                    key = _name(number, ending)
                    observed = _mean(values[name], key) - _mean(values[first], key)
                    resampled = _over_seeds(spread[name], number, seed, 1) - _over_seeds(spread[first], number, seed, 0)
                    found[name][key] = _difference(observed, resampled, exchanged[number])
    return [_result(name, values[name], _judged(found, others, name) if name != first else {}) for name in arms]


def _exchanged(
    measure: Measure, first: Sequence[Scored], second: Sequence[Scored], cohort: Cohort, swap: np.ndarray
) -> Numbers:
    """Return the mean over seeds of second - first where both are exchanged for the same random patients."""
    each = [permuted(measure, one, other, cohort, swap) for one, other in zip(first, second, strict=True)]
    return {name: np.mean([numbers[name] for numbers in each], 0) for name in each[0]}


def _over_seeds(spread: Sequence[Numbers], name: str, seed: int, arm: int) -> np.ndarray:
    """Return the mean over resampled seeds in each resample of the patients, (r,)."""
    values = np.stack([numbers[name] for numbers in spread])  # (seeds, r)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2, arm)))
    drawn = rng.integers(0, len(values), (len(values), values.shape[1]))
    return np.take_along_axis(values, drawn, 0).mean(0)


def _difference(observed: float, resampled: np.ndarray, exchanged: np.ndarray) -> Difference | None:
    limits = interval(resampled)
    if limits is None or not np.isfinite(observed):
        return None
    as_far = np.abs(exchanged[np.isfinite(exchanged)]) >= abs(observed) - 1e-12
    p = (1 + int(as_far.sum())) / (1 + len(as_far))
    defined = resampled[np.isfinite(resampled)]
    tail = min(np.sum(defined <= 0), np.sum(defined >= 0))
    return Difference(observed, limits, p, min(1.0, 2 * (1 + int(tail)) / (1 + len(defined))))


def _judged(
    found: Mapping[str, Mapping[str, Difference | None]], others: Sequence[str], name: str
) -> dict[str, StudyDifference | None]:
    judged: dict[str, StudyDifference | None] = {}
    for key, own in found[name].items():
        corrected = holm([found[other].get(key) for other in others])[others.index(name)]
        judged[key] = None if own is None else StudyDifference(
            difference=own.difference, interval=own.interval, p=own.p, p_holm=corrected,
            verdict=verdict(own.interval, corrected),
        )  # fmt: skip
    return judged


def verdict(limits: tuple[float, float], p_holm: float) -> Verdict:
    """Return what may be said: a direction needs both a corrected p below 0.05 and an interval without 0."""
    if p_holm >= LEVEL or limits[0] <= 0 <= limits[1]:
        return "inconclusive"
    return "better" if limits[0] > 0 else "worse"


def _result(name: str, values: list[dict[str, float]], differences: dict[str, StudyDifference | None]) -> ArmResult:
    mean = {key: _mean(values, key) for key in values[0]}
    return ArmResult(
        arm=name, seeds={str(i): value for i, value in enumerate(values)}, mean=mean, against_real_only=differences
    )


def _mean(values: Sequence[Mapping[str, float]], key: str) -> float:
    return float(np.mean([value[key] for value in values]))


def _shown(number: str, ending: str) -> bool:
    return number in SHOWN or (not ending and number == "mAP")


def _name(number: str, ending: str) -> str:
    return f"{number}_{ending}" if ending else number
