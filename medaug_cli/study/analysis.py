"""What a study found: every seed, its mean, and the difference to real-only over patients and seeds.

Legend: r resamples, u patients.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from medaug_cli.boxes import Strict
from medaug_cli.metrics.operating import MATCHED_FPS, Cohort, Scored
from medaug_cli.metrics.resampling import (
    Difference,
    Measure,
    Numbers,
    Verdict,
    at_iou,
    blanked,
    bootstrap,
    bootstrap_weights,
    difference_of,
    exchanged_seeds,
    holm,
    interval,
    mean_ap,
    over_seeds,
    point,
    resampled_over,
    swaps,
    verdict,
)
from medaug_cli.study.arms import BASELINE

SHOWN = ("sensitivity_at_1", "sensitivity_at_4", "cpm")
TABLE1 = ("mAP", "sensitivity", "fps_per_slice")


class StudyDifference(Strict):
    """An arm less another one: means over seeds, on the same patients."""

    difference: float
    interval: tuple[float, float]  # 95 %, resampling patients and, in each arm, seeds
    p: float  # two-sided, exchanging the arms patient by patient
    p_holm: float  # corrected for the number of arms, or of pairs of a generated arm and a control
    verdict: Verdict

    def words(self) -> str:
        """Write the difference with its interval."""
        return f"{self.difference:+.3f} [{self.interval[0]:+.3f}, {self.interval[1]:+.3f}]"


class FrocPoint(Strict):
    """The sensitivity of an arm at a rate of false positives, mean over seeds."""

    fps_per_slice: float
    sensitivity: float
    interval: tuple[float, float] | None  # 95 %, resampling patients and seeds


class Estimate(Strict):
    """A number of an arm, mean over seeds, with its 95 % interval over patients and seeds."""

    mean: float
    interval: tuple[float, float] | None


class SizeGroup(Strict):
    """How many lesions of a third, by area, an arm finds at one false positive a slice."""

    most_pixels: float  # area of the largest lesion of the group
    lesions: int
    sensitivity: float  # mean over seeds, at the first IoU


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


class ArmResult(Strict):
    """One arm at one share of the training patients."""

    arm: str
    learnt: bool = False  # a generator that learns, and not a control
    seeds: dict[str, dict[str, float]]  # seed -> number -> value
    mean: dict[str, float]
    table1: dict[str, Estimate] = {}  # the paper's Table 1: mAP, sensitivity and FPs a slice at the threshold
    validation: float | None = None  # what arms of one generator are chosen by
    chosen: bool = True  # the best of its generator's arms on validation
    against: dict[str, dict[str, StudyDifference | None]]  # other arm -> number -> this arm less that one
    froc: dict[str, list[FrocPoint]] = {}  # IoU -> points
    sizes: list[SizeGroup] = []
    similarity: list[Picture] = []

    @property
    def against_real_only(self) -> dict[str, StudyDifference | None]:
        """Return the differences to real-only; empty for real-only itself."""
        return self.against.get(BASELINE, {})


class Claim(Strict):
    """What may be said of generated images at one share of the patients."""

    arm: str  # the generated arm that was best on validation
    number: str
    difference: StudyDifference  # to real-only
    ahead_of: dict[str, StudyDifference]  # control -> difference
    supported: bool  # better than real-only, and than each control


class FractionResult(Strict):
    """All arms at one share of the training patients."""

    fraction: float
    patients: int
    images: int
    arms: list[ArmResult]
    claim: Claim | None = None


class StudyReport(Strict):
    """study.json."""

    version: Literal[1] = 1
    tool_version: str
    settings: dict[str, Any]
    data: dict[str, str]  # file -> hash
    split: str
    opened: int  # plans for which this folder has opened that split, this one included
    slices: int
    boxes: int
    patients: int
    remarks: list[str] = []  # what could not be measured, and why
    fractions: list[FractionResult]


def measures(cohort: Cohort, ious: Sequence[float], threshold: float) -> dict[str, Measure]:
    """Return what is measured, by the ending of its numbers' names."""
    return {f"iou{iou:g}": at_iou(cohort, iou, threshold) for iou in ious} | {"": mean_ap(cohort, 0.5)}


def compare_arms(
    arms: Mapping[str, Sequence[Scored]], cohort: Cohort, ious: Sequence[float], threshold: float, resamples: int,
    seed: int, learnt: Sequence[str] = (),
) -> list[ArmResult]:  # fmt: skip
    """Compare arms, each the detectors of its seeds, with the first; those that are learnt with each control too."""
    weights = bootstrap_weights(len(cohort.patients), resamples, seed)
    swap = swaps(len(cohort.patients), resamples, seed)
    first, *others = arms
    with_first = [(first, name) for name in others]
    with_controls = [(control, name) for name in learnt for control in others if control not in learnt]
    values: dict[str, list[dict[str, float]]] = {name: [{} for _ in each] for name, each in arms.items()}
    found: dict[tuple[str, str], dict[str, Difference | None]] = {pair: {} for pair in with_first + with_controls}
    frocs: dict[str, dict[str, list[FrocPoint]]] = {name: {} for name in arms}
    table1: dict[str, dict[str, Estimate]] = {name: {} for name in arms}
    for ending, measure in measures(cohort, ious, threshold).items():
        over = resampled_over(measure, arms[first][0], cohort)
        spread = {
            name: [blanked(bootstrap(measure, one, cohort, weights), over) for one in each]
            for name, each in arms.items()
        }
        for name, each in arms.items():
            points = [point(measure, one, cohort) for one in each]
            for value, here in zip(values[name], points, strict=True):
                value.update({_name(key, ending): number for key, number in here.items() if _shown(key, ending)})
            for key in (key for key in TABLE1 if key in points[0]):
                limits = interval(over_seeds(spread[name], key, seed, name))
                table1[name][_name(key, ending)] = Estimate(mean=_mean(points, key), interval=limits)
            if ending:
                frocs[name][ending.removeprefix("iou")] = _froc(points, spread[name], seed)
        for (control, name), differences in found.items():
            exchanged = exchanged_seeds(measure, arms[control], arms[name], cohort, swap)
            for number in (number for number in exchanged if _shown(number, ending)):
                key = _name(number, ending)
                observed = _mean(values[name], key) - _mean(values[control], key)
                resampled = over_seeds(spread[name], number, seed, name) - over_seeds(
                    spread[control], number, seed, control
                )
                differences[key] = difference_of(observed, resampled, exchanged[number])
    judged = _judged(found, with_first) | _judged(found, with_controls)
    return [
        ArmResult(
            arm=name, learnt=name in learnt, seeds={str(i): value for i, value in enumerate(values[name])},
            mean={key: _mean(values[name], key) for key in values[name][0]}, froc=frocs[name],
            table1=table1[name],
            against={control: judged[control, mine] for control, mine in judged if mine == name},
        )
        for name in arms
    ]  # fmt: skip


def claim(arms: Sequence[ArmResult], number: str) -> Claim | None:
    """Return what may be said of the generated arm that was best on validation; None where none is generated."""
    generated = [arm for arm in arms if arm.learnt and arm.chosen]
    if not generated:
        return None
    best = max(generated, key=lambda arm: arm.mean[number] if arm.validation is None else arm.validation)
    difference = best.against_real_only.get(number)
    ahead = {name: each[number] for name, each in best.against.items() if name != BASELINE}
    if difference is None or any(each is None for each in ahead.values()):
        return None
    known = {name: each for name, each in ahead.items() if each is not None}
    supported = difference.verdict == "better" and all(each.verdict == "better" for each in known.values())
    return Claim(arm=best.arm, number=number, difference=difference, ahead_of=known, supported=supported)


def _froc(points: Sequence[Mapping[str, float]], spread: Sequence[Numbers], seed: int) -> list[FrocPoint]:
    drawn = []
    for fps in MATCHED_FPS:
        name = f"sensitivity_at_{fps:g}"
        limits = interval(over_seeds(spread, name, seed, name))
        drawn.append(FrocPoint(fps_per_slice=fps, sensitivity=_mean(points, name), interval=limits))
    return drawn


def _judged(
    found: Mapping[tuple[str, str], Mapping[str, Difference | None]], family: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], dict[str, StudyDifference | None]]:
    """Correct the p of each number over a family of comparisons, and say what each comes to."""
    judged: dict[tuple[str, str], dict[str, StudyDifference | None]] = {pair: {} for pair in family}
    for key in found[family[0]] if family else ():
        corrected = holm([found[pair].get(key) for pair in family])
        for pair, p_holm in zip(family, corrected, strict=True):
            own = found[pair].get(key)
            judged[pair][key] = None if own is None else StudyDifference(
                difference=own.difference, interval=own.interval, p=own.p, p_holm=p_holm,
                verdict=verdict(own.interval, p_holm),
            )  # fmt: skip
    return judged


def _mean(values: Sequence[Mapping[str, float]], key: str) -> float:
    return float(np.mean([value[key] for value in values]))


def _shown(number: str, ending: str) -> bool:
    return number in SHOWN or (not ending and number == "mAP")


def _name(number: str, ending: str) -> str:
    return f"{number}_{ending}" if ending else number


def point_of(scored: Scored, cohort: Cohort, iou: float, threshold: float) -> dict[str, float]:
    """Return every number of one detector at one IoU."""
    return point(at_iou(cohort, iou, threshold), scored, cohort)
