"""How each arm learns: what its networks score on validation meanwhile, so that faster and better are told apart."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from medaug_cli.study.analysis import ArmResult, LearningPoint
from medaug_cli.study.trials import StudyOptions, Trial, steps_of, trained_folder

SCORE = "val_score"  # as networks log it


def learning(options: StudyOptions, trials: Iterable[Trial]) -> list[LearningPoint]:
    """Return the mean validation score of an arm's networks after the steps at which all of them have one."""
    runs = [dict(_scores(options, trial)) for trial in trials]
    common = sorted(set.intersection(*map(set, runs))) if runs else []
    found = []
    for steps in common:
        scores = [run[steps] for run in runs]
        found.append(LearningPoint(steps=steps, score=float(np.mean(scores)), low=min(scores), high=max(scores)))
    return found


def steps_to(arm: ArmResult, score: float) -> int | None:
    """Return after how many steps an arm scores as much for the first time; None where it never does."""
    return next((point.steps for point in arm.learning if point.score >= score), None)


def best_point(arm: ArmResult) -> LearningPoint | None:
    """Return where an arm's mean score is highest, for the first time."""
    return max(arm.learning, key=lambda point: (point.score, -point.steps), default=None)


def _scores(options: StudyOptions, trial: Trial) -> Iterator[tuple[int, float]]:
    folder, before = trained_folder(options, trial), 0
    if trial.arm.use == "pretrain":
        before = steps_of(options, trial.arm) // 2
        yield from _logged(folder.with_name(f"{folder.name}, first"), 0)
    yield from _logged(folder, before)


def _logged(folder: Path, before: int) -> Iterator[tuple[int, float]]:
    log = folder / "metrics.jsonl"
    for line in log.read_text(encoding="utf-8").splitlines() if log.is_file() else ():
        values = json.loads(line)
        if SCORE in values:
            yield before + int(values["done"]), float(values[SCORE])
