"""What a study found: every seed, its mean, and the difference to real-only over patients and seeds.

Legend: r resamples, u patients.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from medaug_cli.boxes import Strict
from medaug_cli.metrics.breakdown import SizeGroup
from medaug_cli.metrics.detection import DETECTION, DetectionAnswers, mean_average_precision, on_the_curve
from medaug_cli.metrics.differences import Compared, PairedDifference, judged
from medaug_cli.metrics.measures import Measure
from medaug_cli.metrics.operating import MAP_IOU, MATCHED_FPS, Cohort, Scored
from medaug_cli.metrics.resampling import (
    Difference,
    System,
    bootstrap_weights,
    compare,
    interval,
    over_seeds,
    point,
    resampled_over,
    swaps,
)
from medaug_cli.study.arms import BASELINE


class FrocPoint(Strict):
    """The sensitivity of an arm at a rate of false positives, mean over seeds."""

    fps_per_slice: float
    sensitivity: float
    interval: tuple[float, float] | None  # 95 %, resampling patients and seeds


class Estimate(Strict):
    """A number of an arm, mean over seeds, with its 95 % interval over patients and seeds."""

    mean: float
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


class ArmResult(Strict):
    """One arm at one share of the training patients."""

    arm: str
    learnt: bool = False  # a generator that learns, and not a control
    seeds: dict[str, dict[str, float]]  # seed -> number -> value
    mean: dict[str, float]
    table1: dict[str, Estimate] = {}  # the paper's Table 1: mAP, sensitivity and FPs a slice at the threshold
    validation: float | None = None  # what arms of one generator are chosen by
    chosen: bool = True  # the best of its generator's arms on validation
    against: dict[str, Compared]  # other arm -> number -> this arm less that one
    froc: dict[str, list[FrocPoint]] = {}  # IoU -> points
    sizes: list[SizeGroup] = []
    similarity: list[Picture] = []

    @property
    def against_real_only(self) -> Compared:
        """Return the differences to real-only; empty for real-only itself."""
        return self.against.get(BASELINE, {})


class Claim(Strict):
    """What may be said of generated images at one share of the patients."""

    arm: str  # the generated arm that was best on validation
    number: str
    difference: PairedDifference  # to real-only
    ahead_of: dict[str, PairedDifference]  # control -> difference
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


def compare_arms(
    arms: Mapping[str, Sequence[Scored]], cohort: Cohort, ious: Sequence[float], threshold: float, resamples: int,
    seed: int, learnt: Sequence[str] = (),
) -> list[ArmResult]:  # fmt: skip
    """Compare arms, each the detectors of its seeds, with the first; those that are learnt with each control too."""
    weights = bootstrap_weights(len(cohort.patients), resamples, seed)
    swap = swaps(len(cohort.patients), resamples, seed)
    first, *others = arms
    families = [
        [(first, name) for name in others],
        [(control, name) for name in learnt for control in others if control not in learnt],
    ]
    results = {name: ArmResult(arm=name, learnt=name in learnt, seeds={}, mean={}, against={}) for name in arms}
    found: dict[tuple[str, str], dict[str, Difference | None]] = {pair: {} for family in families for pair in family}
    for iou, function in [*((iou, on_the_curve) for iou in ious), (MAP_IOU, mean_average_precision)]:
        ending = f"_iou{iou:g}" if function is on_the_curve else ""
        answers = {
            name: [DetectionAnswers(one, cohort, iou, threshold, (function,)) for one in each]
            for name, each in arms.items()
        }
        over = resampled_over(answers[first][0], len(cohort.patients))
        systems = {name: System.of(name, each, weights, over, seed) for name, each in answers.items()}
        for name, system in systems.items():
            _add(results[name], system, ending, iou)
        for (control, name), differences in found.items():
            compared = compare(systems[control], systems[name], swap)
            differences |= {key + ending: own for key, own in compared.items() if DETECTION[key].compared}
    for family in families:
        for (control, name), own in zip(family, judged([found[pair] for pair in family], measure_of), strict=True):
            results[name].against[control] = own
    return list(results.values())


def measure_of(number: str) -> Measure:
    """Return the measure of a study's number, as of sensitivity_at_1_iou0.5."""
    return DETECTION[number.partition("_iou")[0]]


def _add(result: ArmResult, system: System, ending: str, iou: float) -> None:
    """Add the numbers of one IoU to an arm's: those that arms are compared by, those of Table 1, and the FROC."""
    measured = [DETECTION[number] for number in system.points[0]]
    for measure in measured:
        if measure.compared:
            for i, values in enumerate(system.points):
                result.seeds.setdefault(str(i), {})[measure.name + ending] = values[measure.name]
            result.mean[measure.name + ending] = system.mean(measure.name)
        if measure.operating:
            own = Estimate(mean=system.mean(measure.name), interval=system.interval(measure.name))
            result.table1[measure.name + ending] = own
    if ending:
        result.froc[f"{iou:g}"] = [_froc_point(system, fps) for fps in MATCHED_FPS]


def _froc_point(system: System, fps: float) -> FrocPoint:
    number = f"sensitivity_at_{fps:g}"
    limits = interval(over_seeds(system.spreads, number, system.seed, number))
    return FrocPoint(fps_per_slice=fps, sensitivity=system.mean(number), interval=limits)


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


def point_of(scored: Scored, cohort: Cohort, iou: float, threshold: float) -> dict[str, float]:
    """Return every number of one detector at one IoU."""
    return point(DetectionAnswers(scored, cohort, iou, threshold, (on_the_curve,)), len(cohort.patients))
