"""Intervals and paired tests that resample patients: slices of one patient resemble each other.

Every number is a function of how often each patient counts, so a resample is a row of weights. Nothing here knows
what is measured. Legend: u patients, r resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, Protocol, Self, runtime_checkable
from zlib import crc32

import numpy as np

from medaug_cli.metrics.measures import Numbers, in_blocks

RESAMPLES = 2000
LEVEL = 0.95
SIGNIFICANT = 0.05
LEAST_OF_STRATUM = 10  # patients: of m drawn by themselves, the mean of a resample varies by (m - 1) / m alone
FEW = 256  # patients that are left out one by one; of more, groups
Verdict = Literal["better", "worse", "inconclusive"]


class Answers(Protocol):
    """What one trained network says of the images of u patients."""

    def measure(self, weights: np.ndarray) -> Numbers:
        """Return every number (r,) where patients count `weights` (r, u) times; NaN where it cannot be had."""
        ...

    def joined(self, other: Any, patients: int) -> Any:
        """Return the answers of both, those of the other's patients as patients u, u + 1, ..."""
        ...


@runtime_checkable
class PartialAnswers(Answers, Protocol):
    """Answers that lack a number of some images, as a distance where no mask is found."""

    def shared_with(self, others: Sequence[Any]) -> Self:
        """Return the answers less the numbers of images that others lack: itself where they lack none that it has."""
        ...


@dataclass(frozen=True)
class Difference:
    """How far a detector is from the first one on the same patients."""

    difference: float
    interval: tuple[float, float]  # 95 % percentile interval of the paired patient bootstrap
    p: float  # two-sided, swapping the two detectors patient by patient
    p_bootstrap: float  # two-sided, the share of resamples on the other side of 0


def bootstrap_weights(patients: int, resamples: int, seed: int, strata: np.ndarray | None = None) -> np.ndarray:
    """Return how often each patient is drawn in each resample, (r, u) float64; of each stratum (u,) so many.

    Where a stratum has fewer than 10 patients, all are drawn together: of one alone, nothing would vary.
    """
    random = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    weights = np.empty((resamples, patients))
    for own in _members(strata, patients):
        weights[:, own] = random.multinomial(len(own), np.full(len(own), 1 / len(own)), size=resamples)
    return weights


def _members(strata: np.ndarray | None, patients: int) -> list[np.ndarray]:
    """Return the patients of each stratum (u,); all of them together where there is none, or one is small."""
    members = [] if strata is None else [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    if min(map(len, members), default=0) < LEAST_OF_STRATUM:
        return [np.arange(patients)]
    return members


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


def point(answers: Answers, patients: int) -> dict[str, float]:
    """Measure the patients as they are."""
    return {name: float(value[0]) for name, value in answers.measure(np.ones((1, patients))).items()}


def resampled_over(answers: Answers, patients: int) -> dict[str, int]:
    """Return over how many patients each number can be resampled: all or, where it rests on one of them, that one.

    A number that cannot be had without one patient, as a sensitivity whose only lesions are that patient's, has no
    spread over patients that these could show. Of many patients groups are left out, and parts of those without whom
    a number cannot be had: it can be had without fewer of them, too.
    """
    defined = {name: np.isfinite(value[0]) for name, value in answers.measure(np.ones((1, patients))).items()}
    lone = {name for name, each in defined.items() if not each}
    left = np.array_split(np.arange(patients), min(patients, FEW))
    while left:
        weights = np.ones((len(left), patients))
        for row, group in enumerate(left):
            weights[row, group] = 0
        lost = {name: ~np.isfinite(v) for name, v in answers.measure(weights).items() if name not in lone}
        single = np.array([len(group) == 1 for group in left])
        lone |= {name for name, rows in lost.items() if (rows & single).any()}
        unclear = sum((rows for name, rows in lost.items() if name not in lone), np.zeros(len(left), bool))
        left = [half for i in np.flatnonzero(unclear) for half in np.array_split(left[i], 2)]
    return {name: 1 if name in lone else patients for name in defined}


def bootstrap(answers: Answers, weights: np.ndarray, over: Mapping[str, int]) -> Numbers:
    """Measure each resample of the patients; NaN where a number rests on one patient."""
    numbers = answers.measure(weights)
    return {name: value if over[name] > 1 else np.full_like(value, np.nan) for name, value in numbers.items()}


def permuted(first: Answers, second: Answers, swap: np.ndarray) -> Numbers:
    """Return second - first for each random exchange of the two patient by patient.

    The two are one list of answers with a unit for each patient and system; an exchange is a weighting.
    """
    both = first.joined(second, swap.shape[1])

    def differences(swap: np.ndarray) -> Numbers:
        one = both.measure(np.hstack([1 - swap, swap]))
        other = both.measure(np.hstack([swap, 1 - swap]))
        return {name: other[name] - one[name] for name in one}

    return in_blocks(differences, swap, 2 * swap.shape[1])


def over_seeds_by_stratum(
    answers: Sequence[Answers], weights: np.ndarray, over: Mapping[str, int], seed: int, system: str, strata: np.ndarray
) -> Numbers:
    """Return the mean over seeds (r,) in each resample, where those of each stratum are resampled by themselves.

    In folds a seed has another network in each fold: what one of them is worth says nothing of the others. `strata`
    (u,) are the folds or, of several deals (d, u), those of each, whose seeds follow each other in `answers`; a deal
    is drawn as a whole, since its folds cut across those of another one.
    """
    (resamples, patients), trainings = weights.shape, len(answers)
    joint = answers[0]
    for k, each in enumerate(answers[1:], 1):
        joint = joint.joined(each, k * patients)
    strata = np.atleast_2d(strata)
    deals, seeds = len(strata), trainings // len(strata)
    random = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2, crc32(system.encode()))))
    of_stratum = random.integers(0, seeds, (trainings, resamples, int(strata.max()) + 1))
    of_deal = random.integers(0, deals, (trainings, resamples))
    drawn = (
        deal[:, None] * seeds + np.take_along_axis(own, strata[deal], 1)
        for own, deal in zip(of_stratum, of_deal, strict=True)
    )  # trainings of (r, u)
    each_draw = [joint.measure(np.hstack([weights * (own == k) for k in range(trainings)])) for own in drawn]
    means = {name: np.mean([numbers[name] for numbers in each_draw], 0) for name in each_draw[0]}
    return {name: value if over[name] > 1 else np.full_like(value, np.nan) for name, value in means.items()}


def over_seeds(spread: Sequence[Numbers], name: str, seed: int, system: str) -> np.ndarray:
    """Return the mean over resampled seeds in each resample of the patients, (r,); `spread` is one of each seed."""
    values = np.stack([numbers[name] for numbers in spread])  # (seeds, r)
    if len(values) == 1:
        return values[0]
    random = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2, crc32(system.encode()))))
    drawn = random.integers(0, len(values), (len(values), values.shape[1]))
    return np.take_along_axis(values, drawn, 0).mean(0)


def exchanged_seeds(first: Sequence[Answers], second: Sequence[Answers], swap: np.ndarray) -> Numbers:
    """Return the mean over seeds of second - first where both are exchanged for the same random patients.

    Seeds are taken in pairs; where the two have not as many, each with each.
    """
    pairs = list(zip(first, second, strict=True)) if len(first) == len(second) else list(product(first, second))
    each = [permuted(one, other, swap) for one, other in pairs]
    return {name: np.mean([numbers[name] for numbers in each], 0) for name in each[0]}


@dataclass(frozen=True)
class System:
    """The answers of the seeds of one system, measured once on the patients and on each resample of them."""

    name: str
    answers: Sequence[Answers]
    points: Sequence[Mapping[str, float]]  # of each seed
    spreads: Sequence[Numbers]  # of each seed, or of all where strata resample them, on the same resamples
    seed: int
    weights: np.ndarray  # (r, u), how often each patient counts in each resample
    strata: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        name: str,
        answers: Sequence[Answers],
        weights: np.ndarray,
        over: Mapping[str, int],
        seed: int,
        strata: np.ndarray | None = None,
    ) -> Self:
        """Measure the seeds of a system; with strata, as folds, each of them resamples its seeds by itself.

        They are (u,) or, of several deals, (d, u).
        """
        points = [point(each, weights.shape[1]) for each in answers]
        if strata is None or len(answers) == 1:
            spreads = [bootstrap(each, weights, over) for each in answers]
        else:
            spreads = [over_seeds_by_stratum(answers, weights, over, seed, name, strata)]
        return cls(name, answers, points, spreads, seed, weights, strata)

    def shared_with(self, other: "System") -> "System":
        """Return the system measured on what the other one has a number of, too."""
        shared = [
            each.shared_with([*self.answers, *other.answers]) if isinstance(each, PartialAnswers) else each
            for each in self.answers
        ]
        if all(one is each for one, each in zip(shared, self.answers, strict=True)):
            return self
        over = resampled_over(shared[0], self.weights.shape[1])
        return System.of(self.name, shared, self.weights, over, self.seed, self.strata)

    def mean(self, number: str) -> float:
        """Return a number's mean over seeds."""
        return float(np.mean([values[number] for values in self.points]))

    def resampled(self, number: str) -> np.ndarray:
        """Return the mean over resampled seeds in each resample of the patients, (r,)."""
        return over_seeds(self.spreads, number, self.seed, self.name)

    def interval(self, number: str) -> tuple[float, float] | None:
        """Return a number's 95 % interval over patients and seeds."""
        return interval(self.resampled(number))


def compare(first: System, second: System, swap: np.ndarray) -> dict[str, Difference | None]:
    """Return second - first for every number, means over the seeds of each; None where it is not defined.

    Both are measured on the same images, so that who finds more is not compared on harder ones.
    """
    first, second = first.shared_with(second), second.shared_with(first)
    exchanged = exchanged_seeds(first.answers, second.answers, swap)
    return {
        number: difference_of(
            second.mean(number) - first.mean(number),
            second.resampled(number) - first.resampled(number),
            exchanged[number],
        )
        for number in first.points[0]
    }


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
