"""What a study found: every seed, its mean, and the difference to real-only over patients and seeds.

Legend: r resamples, u patients.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from medaug_cli.boxes import Strict
from medaug_cli.metrics.breakdown import SizeGroup
from medaug_cli.metrics.differences import Compared, PairedDifference, judged
from medaug_cli.metrics.measures import Measure
from medaug_cli.metrics.resampling import (
    Answers,
    Difference,
    System,
    bootstrap_weights,
    compare,
    resampled_over,
    swaps,
)
from medaug_cli.study.arms import BASELINE, split_arm
from medaug_cli.study.rounds import span
from medaug_cli.tasks.task import measure_of


class FrocPoint(Strict):
    """The sensitivity of an arm at a rate of false positives, mean over seeds."""

    fps_per_slice: float
    sensitivity: float
    interval: tuple[float, float] | None  # 95 %, resampling patients and seeds


class Estimate(Strict):
    """A number of an arm, mean over seeds, with its 95 % interval over patients and seeds."""

    mean: float | None  # null: not available
    interval: tuple[float, float] | None


class Picture(Strict):
    """The synthetic images of an arm, of its first seed, against the real training images."""

    features: str
    images: int
    kid: float
    kid_of_real: float | None = None  # of held-out real images: the best that can be hoped for
    coverage: float
    coverage_of_real: float | None = None
    memorisation_ratio: float | None = None  # median distance to the training images over that of held-out ones
    suspicious: float | None = None  # share nearer than the nearest 1 % of held-out images
    nearest: list[tuple[str, str]]  # synthetic and training images that are most alike, nearest pair first


class Pictures(Strict):
    """What is kept of an arm's similarity."""

    pictures: list[Picture]


class LearningPoint(Strict):
    """The score on validation of an arm's networks after some steps: mean, lowest and highest of seeds and folds."""

    steps: int
    score: float
    low: float
    high: float


class ArmResult(Strict):
    """One arm at one share of the training patients."""

    arm: str
    learnt: bool = False  # a generator that learns, and not a control
    seeds: dict[str, dict[str, float]]  # seed -> number -> value
    folds: dict[str, dict[str, dict[str, float]]] = {}  # fold -> seed -> number -> value, of the patients of the fold
    mean: dict[str, float]
    table1: dict[str, Estimate] = {}  # at one operating point; of detection the paper's Table 1
    validation: float | None = None  # what arms of one generator are chosen by
    chosen: bool = True  # the best on validation of its generator's arms whose network has the study's settings
    against: dict[str, Compared]  # other arm -> number -> this arm less that one
    froc: dict[str, list[FrocPoint]] = {}  # IoU -> points
    sizes: list[SizeGroup] = []
    similarity: list[Picture] = []
    learning: list[LearningPoint] = []  # while its networks were trained

    @property
    def against_real_only(self) -> Compared:
        """Return the differences to real-only; empty for real-only itself."""
        return self.against.get(BASELINE, {})


class Claim(Strict):
    """What may be said of generated images at one share of the patients."""

    arm: str  # the generated arm that was best on validation
    choices: dict[str, str] = {}  # fold -> that arm, where each fold chooses by the validation patients of its own
    number: str
    difference: PairedDifference  # to real-only
    ahead_of: dict[str, PairedDifference]  # control -> difference
    supported: bool  # better than real-only and than each control, of which there is one at least


class Pair(Strict):
    """Two arms that differ in one thing."""

    arm: str
    against: str
    changed: str  # what differs
    numbers: Compared  # this arm less that one


class FractionResult(Strict):
    """All arms at one share of the training patients."""

    fraction: float
    patients: int  # that are trained on; in folds the mean
    images: int
    each_fold: list[int] = []  # patients that are trained on in each fold
    arms: list[ArmResult]
    claim: Claim | None = None
    pairs: list[Pair] = []

    @property
    def contested(self) -> bool:
        """Tell whether a claim is of one of several generated arms: those whose network is as in the others."""
        return sum(arm.learnt and not split_arm(arm.arm)[1] for arm in self.arms) > 1

    def trained(self, noun: str) -> str:
        """Return how many patients are trained on, for a reader: 69 patients, or 87 to 88 patients in folds."""
        return span(self.each_fold or [self.patients], noun)


class Deal(Strict):
    """How patients were dealt into folds."""

    seed: int
    patients: list[int]  # tested in each fold, the first fold first
    images: list[int]
    counts: list[dict[str, int]]  # of the tested images: boxes, or images of each class or label


class StudyReport(Strict):
    """study.json."""

    version: Literal[1] = 1
    tool_version: str
    settings: dict[str, Any]
    data: dict[str, str]  # file -> hash
    split: str
    deals: list[Deal] = []  # of folds; the split column of the store does not count then
    opened: int  # plans for which this folder has opened that split, this one included
    slices: int
    boxes: int = 0
    patients: int
    telling: int = 0  # patients who count for the headline; 0: not written, as by earlier versions
    task: str = "detection"
    counts: dict[str, int] = {}  # of the judged images: boxes, or images of each class or label
    power: list[str] = []  # what the plan could show, as it was said before anything was trained
    remarks: list[str] = []  # what could not be measured, and why
    fractions: list[FractionResult]


class Comparison:
    """Arms, each the answers of its seeds, measured once on the patients and on each resample of them."""

    def __init__(
        self,
        arms: Mapping[str, Sequence[Answers]],
        patients: int,
        measures: Mapping[str, Measure],
        resamples: int,
        seed: int,
        *,
        strata: np.ndarray | None = None,
        labels: Sequence[str] = (),
    ):
        """Take the folds of the patients in each deal as strata (d, u) of the resamples, and what seeds are called."""
        self.measures, self.patients, self._labels = measures, patients, labels
        weights = bootstrap_weights(patients, resamples, seed, None if strata is None else np.atleast_2d(strata)[0])
        self._swap = swaps(patients, resamples, seed)
        self._measure = lambda name, each: System.of(
            name, each, weights, resampled_over(each[0], patients), seed, strata
        )
        self.systems = {name: self._measure(name, each) for name, each in arms.items()}
        numbers = next(iter(self.systems.values())).points[0]
        self.compared = [n for n in numbers if measure_of(measures, n).compared and self._known(n)]

    def _known(self, number: str) -> bool:
        return all(np.isfinite(each[number]) for system in self.systems.values() for each in system.points)

    def results(self, learnt: Sequence[str] = (), rivals: Sequence[str] | None = None) -> list[ArmResult]:
        """Compare all with the first one, and `rivals` (default: all that are learnt) with each that is not learnt."""
        first, *others = self.systems
        rivals = learnt if rivals is None else rivals
        found = {name: self._result(name, name in learnt) for name in self.systems}
        for family in (
            [(first, name) for name in others],
            [(control, name) for name in rivals for control in others if control not in learnt],
        ):
            for (control, name), own in zip(family, self.differences(family), strict=True):
                found[name].against[control] = own
        return list(found.values())

    def of_other(self, name: str, answers: Sequence[Answers], against: Sequence[str]) -> list[Compared]:
        """Return answers that are of no arm less each of some arms; p is corrected over the arms after the first."""
        other = self._measure(name, answers)
        found = [self._against(self.systems[arm], other) for arm in against]
        return [*judged(found[:1], self._of), *judged(found[1:], self._of)]

    def _of(self, number: str) -> Measure:
        return measure_of(self.measures, number)

    def _against(self, first: System, second: System) -> dict[str, Difference | None]:
        every = compare(first, second, self._swap)
        return {number: every[number] for number in self.compared}

    def differences(self, family: Sequence[tuple[str, str]]) -> list[Compared]:
        """Return the second less the first of each pair; p is corrected over all of them."""
        found = [self._against(self.systems[first], self.systems[second]) for first, second in family]
        return judged(found, self._of)

    def _result(self, name: str, learnt: bool) -> ArmResult:
        system = self.systems[name]
        result = ArmResult(arm=name, learnt=learnt, seeds={}, mean={}, against={})
        for i, values in enumerate(system.points):
            label = self._labels[i] if self._labels else str(i)
            result.seeds[label] = {number: values[number] for number in self.compared}
        for number in system.points[0]:
            if number in self.compared:
                result.mean[number] = system.mean(number)
            if measure_of(self.measures, number).operating:
                mean = system.mean(number)
                limits = system.interval(number)
                result.table1[number] = Estimate(mean=mean if np.isfinite(mean) else None, interval=limits)
        return result


def claim(arms: Sequence[ArmResult], number: str, largest: bool = True) -> Claim | None:
    """Return what may be said of the generated arm that was best on validation; None where none is generated.

    Best is the largest, or the smallest.
    """
    generated = [arm for arm in arms if arm.learnt and arm.chosen]
    if not generated:
        return None
    pick = max if largest else min
    best = pick(generated, key=lambda arm: arm.mean[number] if arm.validation is None else arm.validation)
    return claim_of(best.arm, number, best.against)


def claim_of(
    arm: str, number: str, against: Mapping[str, Compared], choices: Mapping[str, str] | None = None
) -> Claim | None:
    """Return what its differences to real-only and to each control say of an arm; None where one is not defined."""
    found = {name: each.get(number) for name, each in against.items()}
    known = {name: each for name, each in found.items() if each is not None}
    if BASELINE not in known or len(known) < len(found):
        return None
    supported = len(known) > 1 and all(each.verdict == "better" for each in known.values())
    difference = known.pop(BASELINE)
    return Claim(
        arm=arm, choices=dict(choices or {}), number=number, difference=difference, ahead_of=known, supported=supported
    )
