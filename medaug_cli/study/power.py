"""What a study can show, said before anything is trained: the smallest difference that it finds with 80 % power.

The difference of two arms has a spread over patients and one over training runs:

    SE² = patients² / n + 2 trainings² f / s    n patients, s seeds of each arm

A training's number is the worse known the fewer images and networks it is of: f is the larger of n₀/n and k₀/k, where
the spread was seen on n₀ patients answered by k₀ networks (folds).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import read_json
from medaug_cli.metrics.differences import Interval
from medaug_cli.metrics.resampling import LEVEL, SIGNIFICANT
from medaug_cli.study.analysis import FractionResult, StudyReport
from medaug_cli.tasks.task import measure_of
from medaug_cli.words import counted, percent

if TYPE_CHECKING:
    from medaug_cli.study.trials import StudyOptions

POWER = 0.8
NOTHING = 1e-12  # a variance that rounding may make
NORMAL = NormalDist()
Z = NORMAL.inv_cdf((1 + LEVEL) / 2)  # half of a 95 % interval is so many standard errors


@dataclass(frozen=True)
class Spread:
    """How far differences spread, and where that was seen."""

    patients: float  # standard deviation over patients of the difference of two arms on a patient
    trainings: float | None  # of a number over training runs of one arm on the same images; None: one training an arm
    source: str
    tested: int = 1  # patients behind `trainings`
    networks: int = 1  # folds behind it
    trained: int = 1  # patients that those networks were trained on


KNOWN = {  # of published pages, by `python benchmarks/power.py --pages`
    "detection": (
        Spread(0.202, 0.047, "docs/results/study-128, 18 training patients", tested=27, trained=18),
        Spread(0.164, 0.030, "docs/results/study-128, 69 training patients", tested=27, trained=69),
    ),
    "classification": (Spread(0.221, 0.043, "docs/results/study-classification", tested=27, trained=69),),
    "segmentation": (Spread(0.089, 0.023, "docs/results/study-segmentation", tested=27, trained=69),),
}


@dataclass(frozen=True)
class Plan:
    """What decides what a study can show."""

    patients: int
    seeds: int
    folds: int = 1
    comparisons: int = 1  # arms that are compared with real-only

    def error(self, spread: Spread) -> float:
        """Return the standard error of a difference of two arms."""
        return math.sqrt(self._variance(spread, 1 / self.seeds))

    def half_width(self, spread: Spread) -> float:
        """Return half of the 95 % interval that a study would print: s resampled seeds vary by (s - 1) / s² alone."""
        return Z * math.sqrt(self._variance(spread, (self.seeds - 1) / self.seeds**2))

    def _variance(self, spread: Spread, over_seeds: float) -> float:
        networks = max(spread.tested / self.patients, spread.networks / self.folds)
        return spread.patients**2 / self.patients + 2 * (spread.trainings or 0.0) ** 2 * networks * over_seeds

    def smallest(self, spread: Spread, comparisons: int = 1) -> float:
        """Return the smallest difference found with 80 % power, at a level divided by so many comparisons."""
        level = NORMAL.inv_cdf(1 - SIGNIFICANT / 2 / comparisons)
        return (level + NORMAL.inv_cdf(POWER)) * self.error(spread)

    def power(self, spread: Spread, difference: float) -> float:
        """Return how often a difference is found, at Holm's strictest level."""
        level = NORMAL.inv_cdf(1 - SIGNIFICANT / 2 / self.comparisons)
        return NORMAL.cdf(difference / self.error(spread) - level)


def spread_of_pilot(path: Path, number: str, task: str, trained: float) -> Spread:
    """Return the spread of a finished study, of the share of patients that is nearest to `trained` patients.

    Raises BadInput where it is of another task, or has no interval of that number.
    """
    path = path / "study.json" if path.is_dir() else path
    report = read_json(path, StudyReport)
    if report.task != task:
        raise BadInput(f"{path} is a study of {report.task}; expected a pilot of {task}")
    part = min(report.fractions, key=lambda each: abs(math.log(max(each.patients, 1) / max(trained, 1))))
    return spread_of(report, part, number, str(path))


def spread_of(report: StudyReport, part: FractionResult, number: str, source: str) -> Spread:
    """Return the spread of one share of the patients of a study."""
    limits = [own.interval for arm in part.arms[1:] if (own := arm.against_real_only.get(number)) is not None]
    if not limits:
        raise BadInput(f"{source} has no interval of {number}, so its spread is not known")
    seeds = [[values[number] for values in arm.seeds.values()] for arm in part.arms if number in arm.mean]
    return spread_between(
        limits,
        seeds,
        source=f"{source}, {part.trained('training patient')}{'' if min(map(len, seeds)) > 1 else ', one seed'}",
        tested=report.telling or report.patients,
        networks=len(report.deals[0].patients) if report.deals else 1,
        trained=part.patients,
    )


def spread_between(
    limits: Sequence[Interval],
    seeds: Sequence[Sequence[float]],
    *,
    source: str,
    tested: int,
    networks: int = 1,
    trained: int = 1,
) -> Spread:
    """Return the spread behind 95 % intervals of differences (median) and what each seed of each arm reached (mean).

    An interval over resampled patients and s resampled seeds spreads by patients² / n + 2 trainings² (s - 1) / s². One
    that is no wider than its trainings alone would be counts for patients as a whole: they have some spread. Raises
    BadInput where nothing differs.
    """
    whole = float(np.median([(high - low) ** 2 for low, high in limits])) / (2 * Z) ** 2
    several = min(map(len, seeds))
    trainings = float(np.mean([np.var(each, ddof=1) for each in seeds])) if several > 1 else 0.0
    if max(whole, trainings) < NOTHING:
        raise BadInput(f"{source}: arms and seeds do not differ, so the spread is not known; give one by --spread")
    patients = whole - 2 * trainings * (several - 1) / several**2
    return Spread(
        math.sqrt((patients if patients > 0 else whole) * tested),
        math.sqrt(trainings) if several > 1 else None,
        source,
        tested=tested,
        networks=networks,
        trained=trained,
    )


def parse_spread(text: str) -> Spread:
    """Turn "0.16,0.03" (patients, trainings) or "0.16" into a spread."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not 1 <= len(found) <= 2 or not all(math.isfinite(each) and each >= 0 for each in found) or not found[0]:
        raise UsageError(f"--spread {text}: expected the standard deviation over patients, as in 0.16, or 0.16,0.03")
    return Spread(found[0], found[1] if len(found) > 1 else None, "--spread")


def power_lines(options: "StudyOptions", trained: Mapping[float, float], patients: int, folds: int) -> list[str]:
    """Say for each share of the patients what the plan can show, and what more patients or seeds would buy.

    `trained` are the patients behind a network of each share, `patients` those that are tested in so many `folds` and
    count for the headline.
    """
    plan = Plan(patients, options.seeds * options.repeat, folds, len(options.arms) - 1)
    said = []
    for fraction, each in trained.items():
        spread = _spread(options, each)
        if spread is None:
            return [f"power: no spread is known for {options.task.name}; give one by --pilot STUDY or --spread"]
        said.append(_line(options, plan, spread, fraction if len(trained) > 1 else None))
    return said


def _spread(options: "StudyOptions", trained: float) -> Spread | None:
    if options.spread is not None:
        return options.spread
    if options.pilot is not None:
        return spread_of_pilot(options.pilot, options.task.headline, options.task.name, trained)
    known = KNOWN.get(options.task.name, ())
    return min(known, key=lambda each: abs(math.log(each.trained / max(trained, 1))), default=None)


def _line(options: "StudyOptions", plan: Plan, spread: Spread, fraction: float | None) -> str:
    words = measure_of(options.task.measures, options.task.headline).words
    found = plan.smallest(spread)
    corrected = plan.smallest(spread, plan.comparisons)
    holm = f" ({corrected:.3f} at Holm's strictest, {plan.comparisons} arms)" if plan.comparisons > 1 else ""
    folds = f" in {plan.folds} folds" if plan.folds > 1 else ""
    share = f"at {percent(fraction)} of the training patients, " if fraction is not None else ""
    more = Plan(2 * plan.patients, plan.seeds, plan.folds), Plan(plan.patients, 2 * plan.seeds, plan.folds)
    patients, seeds = (each.smallest(spread) for each in more)
    gain, spreads = "", f"{spread.patients:.3f} over patients, unknown over training runs: it takes a larger difference"
    if spread.trainings is not None:
        gain = f", {seeds:.3f} with twice the seeds"
        spreads = f"{spread.patients:.3f} over patients, {spread.trainings:.3f} over training runs"
    tested = f"with {counted(plan.patients, 'patient')}{folds} and {counted(plan.seeds, 'seed')}"
    one = "; with one seed, intervals do not include the spread over training runs" if plan.seeds == 1 else ""
    return (
        f"power: {share}{tested}, a difference of {found:.3f} in {words} is found with {percent(POWER)} power{holm}; "
        f"{patients:.3f} with twice the patients{gain} (spread {spreads}: {spread.source}){one}"
    )
