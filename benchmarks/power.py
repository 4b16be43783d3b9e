"""Does a study find what is there, and nothing else? Simulated at the level of answers, with the spread of real runs.

    python benchmarks/power.py --pages          # the spread that published studies saw, from their CSVs
    python benchmarks/power.py --studies 200    # verdicts of simulated studies in five folds

A network's answer on a patient is how many of its lesions it finds. The chance of a find has a part of the patient, one
of the lesion, one of the arm on that patient, one of the network (fold and seed), and one of the network on that
patient. Their sizes are chosen so that simulated studies of 27 patients and three seeds, without folds, have the
spreads over patients and over trainings that the real ones had (first lines of the output). The comparison itself
is that of `medaug study`: strata, resampled seeds, exchanges, Holm's correction over all arms, verdicts.
"""

import argparse
import csv
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from medaug_cli.metrics.measures import Measure
from medaug_cli.study.analysis import ArmResult, Comparison
from medaug_cli.study.power import KNOWN, Plan, Spread, spread_between

NUMBER = "sensitivity"
MEASURES = {NUMBER: Measure(NUMBER, "sensitivity", compared=True)}
PAGES = {  # folder in docs/results -> its headline
    "study-128": "sensitivity_at_1_iou0.5",
    "study-128-boxgan": "sensitivity_at_1_iou0.5",
    "study-classification": "balanced_accuracy",
    "study-segmentation": "dice",
}
PATIENTS = 27  # that those studies tested
LESIONS = 5.6  # of a patient, mean, as there


@dataclass(frozen=True)
class Finds:
    """How many lesions of each of some patients a network finds."""

    found: np.ndarray  # (n,)
    lesions: np.ndarray  # (n,)
    patients: np.ndarray  # (n,) int64

    def measure(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return the share of lesions found (r,)."""
        each = weights[:, self.patients]
        return {NUMBER: each @ self.found / np.maximum(each @ self.lesions, 1e-9)}

    def joined(self, other: Self, patients: int) -> "Finds":
        """Return the finds of both; the other's patients are counted on from `patients`."""
        pairs = ((self.found, other.found), (self.lesions, other.lesions), (self.patients, other.patients + patients))
        return Finds(*map(np.concatenate, pairs))


@dataclass(frozen=True)
class World:
    """Standard deviations on the scale of log odds, and the sensitivity of real images alone."""

    patient: float = 1.5  # how hard a patient is, for all networks alike
    lesion: float = 4.0  # how hard a lesion is, for all networks alike
    arm: float = 0.6  # what an arm does for one patient and not for another
    network: float = 0.1  # how good a network is
    answer: float = 0.8  # of a network on a patient
    sensitivity: float = 0.567

    def shift(self, gain: float) -> float:
        """Return the log odds to add to those of an average patient for that sensitivity plus a gain."""
        wide = math.hypot(self.patient, self.lesion, self.arm, self.network, self.answer)
        points, weights = np.polynomial.hermite_e.hermegauss(40)
        grid = np.linspace(-6, 6, 2401)
        means = _chance(wide * points + grid[:, None]) @ weights / weights.sum()
        return float(np.interp(self.sensitivity + gain, means, grid))

    def study(
        self, patients: int, seeds: int, gains: list[float], folds: int, seed: int
    ) -> tuple[dict[str, list[Finds]], np.ndarray | None]:
        """Return the answers of real-only and of an arm for each gain, and in which fold each patient is tested."""
        rng = np.random.default_rng(seed)
        lesions = 1 + rng.poisson(LESIONS - 1, patients)
        owner = np.repeat(np.arange(patients), lesions)
        hard = rng.normal(0, self.patient, patients)[owner] + rng.normal(0, self.lesion, len(owner))
        strata = rng.permutation(np.arange(patients) % folds)
        arms = {}
        for name, gain in [("real-only", 0.0), *((f"arm {k}", gain) for k, gain in enumerate(gains))]:
            own = rng.normal(0, self.arm, patients)
            answers = rng.normal(0, self.answer, (seeds, patients))
            answers += rng.normal(0, self.network, (seeds, folds))[:, strata]
            chance = _chance(self.shift(gain) + hard + (own + answers)[:, owner])  # (s, lesions)
            hits = [np.bincount(owner, rng.random(len(owner)) < each, patients) for each in chance]
            arms[name] = [Finds(each, lesions, np.arange(patients)) for each in hits]
        return arms, strata if folds > 1 else None


def _chance(odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-odds))


def compared(world: World, plan: Plan, gains: list[float], seed: int, resamples: int) -> list[ArmResult]:
    """Return the arms of one simulated study, real-only first."""
    arms, strata = world.study(plan.patients, plan.seeds, gains, plan.folds, seed)
    return Comparison(arms, plan.patients, MEASURES, resamples, seed, strata=strata).results()


def seen(world: World, studies: int, resamples: int) -> Spread:
    """Return the spread of simulated studies without folds, read as that of real ones is."""
    plan, limits, seeds = Plan(PATIENTS, 3), [], []
    for seed in range(studies):
        arms = compared(world, plan, [0.0] * 6, seed, resamples)
        limits += [arm.against_real_only[NUMBER].interval for arm in arms[1:]]  # type: ignore[union-attr]
        seeds += [[each[NUMBER] for each in arm.seeds.values()] for arm in arms]
    return spread_between(limits, seeds, source="simulated", tested=PATIENTS)


def of_page(folder: Path, number: str) -> dict[str, Spread]:
    """Return the spread of each share of the patients of a published study, from its CSVs."""
    seeds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    limits: dict[str, list[tuple[float, float]]] = defaultdict(list)
    rows = [row for row in _rows(folder / "study.csv") if row["number"] == number and not row.get("fold")]
    for row in rows:
        seeds[row["patients"]][row["arm"]].append(float(row["value"]))
    named = {row["fraction"]: row["patients"] for row in rows}
    for row in _rows(folder / "differences.csv"):
        if row["number"] == number and row["against"] == "real-only":
            limits[named[row["fraction"]]].append((float(row["low"]), float(row["high"])))
    return {
        patients: spread_between(limits[patients], list(arms.values()), source=folder.name, tested=PATIENTS)
        for patients, arms in seeds.items()
    }


def _rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def verdicts(world: World, plan: Plan, gain: float, studies: int, resamples: int) -> tuple[float, float, float]:
    """Return how often the first arm is better and worse, and the mean half width of its interval.

    The first arm has the gain, all others nothing.
    """
    better, worse, half = 0, 0, []
    for seed in range(studies):
        arms = compared(world, plan, [gain] + [0.0] * (plan.comparisons - 1), 1000 + seed, resamples)
        own = arms[1].against_real_only[NUMBER]
        assert own is not None
        better, worse = better + (own.verdict == "better"), worse + (own.verdict == "worse")
        half.append((own.interval[1] - own.interval[0]) / 2)
    return better / studies, worse / studies, float(np.mean(half))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", action="store_true", help="print the spread of the published studies, and stop")
    parser.add_argument("--docs", type=Path, default=Path("docs/results"), help="folder of the published studies")
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("--gain", type=float, default=0.05)
    asked = parser.parse_args()
    if asked.pages:
        for name, number in PAGES.items():
            for patients, own in of_page(asked.docs / name, number).items():
                print(f"{name}, {patients} training patients: {own.patients:.3f} over patients, {own.trainings:.3f}")
        return
    world, real = World(), KNOWN["detection"][1]
    own = seen(world, 40, asked.resamples)
    print(f"real runs:      {real.patients:.3f} over patients, {real.trainings:.3f} over trainings ({real.source})")
    print(f"simulated runs: {own.patients:.3f} over patients, {own.trainings:.3f} over trainings", flush=True)
    print("| patients | folds | seeds | arms | ± | expected power | gain found | null inconclusive |")
    print("| ---: " * 8 + "|")
    for patients, folds, seeds, arms in (
        (27, 1, 3, 1), (110, 5, 1, 1), (110, 5, 3, 1), (110, 5, 5, 1), (110, 5, 3, 6), (110, 5, 5, 6), (220, 5, 3, 1),
    ):  # fmt: skip
        plan = Plan(patients, seeds, folds, arms)
        found, _, half = verdicts(world, plan, asked.gain, asked.studies, asked.resamples)
        better, worse, _ = verdicts(world, plan, 0.0, asked.studies, asked.resamples)
        expected = plan.power(real, asked.gain)
        row = [patients, folds, seeds, arms, f"{half:.3f}", f"{expected:.0%}", f"{found:.0%}"]
        print(f"| {' | '.join(map(str, row))} | {1 - better - worse:.0%} |", flush=True)


if __name__ == "__main__":
    main()
