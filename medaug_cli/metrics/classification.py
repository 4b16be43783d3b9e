"""Measures of classification: every number a function of how often each image counts, so that resampling is cheap.

Legend: n images, k classes, r resamples (rows of weights). A number that cannot be had is NaN.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medaug_cli.errors import BadInput

SUM_TOLERANCE = 1e-3  # by which probabilities of an image may miss a sum of 1
SPECIFICITY = 0.9  # at which sensitivity is reported
BINS = 15  # of the expected calibration error (Guo et al. 2017)


@dataclass(frozen=True)
class Classified:
    """What a classifier says of images whose class is known."""

    truth: np.ndarray  # (n,) int64
    probabilities: np.ndarray  # (n, k) float64, rows sum to 1
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        n, k = len(self.truth), len(self.class_names)
        if self.probabilities.shape != (n, k):
            raise BadInput(f"expected probabilities of shape {(n, k)}, got {self.probabilities.shape}")
        if not np.isfinite(self.probabilities).all():
            raise BadInput("a probability is NaN or infinite")
        off = np.abs(self.probabilities.sum(1) - 1)
        if (self.probabilities < -SUM_TOLERANCE).any() or (off > SUM_TOLERANCE).any():
            worst = int(off.argmax())
            raise BadInput(
                f"expected probabilities that sum to 1, those of image {worst} sum to "
                f"{self.probabilities[worst].sum():.4g}"
            )

    @property
    def predicted(self) -> np.ndarray:
        """Return the most probable class of each image, (n,)."""
        return self.probabilities.argmax(1)


def by_patient(answers: Classified, patients: Sequence[str]) -> tuple[Classified, list[str]]:
    """Return one answer per patient and class, the mean of its images' probabilities, and the patient of each."""
    keys = list(zip(patients, answers.truth.tolist(), strict=True))
    unique = sorted(set(keys))
    number = {key: i for i, key in enumerate(unique)}
    unit = np.array([number[key] for key in keys], np.int64)
    sums = np.zeros((len(unique), len(answers.class_names)))
    np.add.at(sums, unit, answers.probabilities)
    means = sums / np.bincount(unit, minlength=len(unique))[:, None]
    truth = np.array([truth for _, truth in unique], np.int64)
    return Classified(truth, means, answers.class_names), [patient for patient, _ in unique]


def confusion(answers: Classified, weights: np.ndarray) -> np.ndarray:
    """Return confusion matrices (r, k true, k predicted) of weights (r, n)."""
    k = len(answers.class_names)
    cell = answers.truth * k + answers.predicted
    shown = np.zeros((len(cell), k * k))
    shown[np.arange(len(cell)), cell] = 1
    return (weights @ shown).reshape(-1, k, k)


def auc(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve (r,) of scores (n,) for positives (n,) bool; ties count half."""
    _, level = np.unique(scores, return_inverse=True)
    levels = int(level.max(initial=-1)) + 1
    up, down = (_by_level(weights * mask, level, levels) for mask in (positive, ~positive))
    below = np.cumsum(down, 1) - down
    pairs = up.sum(1) * down.sum(1)
    won = (up * (below + down / 2)).sum(1)
    return np.divide(won, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def sensitivity_at(
    scores: np.ndarray, positive: np.ndarray, weights: np.ndarray, specificity: float = SPECIFICITY
) -> np.ndarray:
    """Return the highest sensitivity (r,) of a threshold on scores (n,) whose specificity is at least so high."""
    _, level = np.unique(scores, return_inverse=True)
    levels = int(level.max(initial=-1)) + 1
    up, down = (_by_level(weights * mask, level, levels) for mask in (positive, ~positive))
    found = np.cumsum(up[:, ::-1], 1)  # thresholds from the highest score down
    wrong = np.cumsum(down[:, ::-1], 1)
    positives, negatives = up.sum(1, keepdims=True), down.sum(1, keepdims=True)
    allowed = wrong <= (1 - specificity) * negatives + 1e-9
    best = np.where(allowed, found, 0.0).max(1, initial=0.0)
    known = (positives[:, 0] > 0) & (negatives[:, 0] > 0)
    return np.divide(best, positives[:, 0], out=np.full(len(weights), np.nan), where=known)


def brier(answers: Classified, weights: np.ndarray) -> np.ndarray:
    """Return the Brier score (r,): the mean squared distance of the probabilities from the truth (Brier 1950).

    Of two classes it is the half of that, as is usual for one probability.
    """
    k = len(answers.class_names)
    distance = ((answers.probabilities - np.eye(k)[answers.truth]) ** 2).sum(1)
    return _mean(distance / (2 if k == 2 else 1), weights)


def calibration_error(answers: Classified, weights: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Return the expected calibration error (r,) of the predicted class (Guo et al. 2017, section 2)."""
    confidence = answers.probabilities.max(1)
    right = answers.predicted == answers.truth
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = _by_level(weights * (right - confidence), place, bins)
    return np.divide(np.abs(gap).sum(1), weights.sum(1), out=np.full(len(weights), np.nan), where=weights.sum(1) > 0)


def measures(answers: Classified, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return every number (r,) by name; those of one class are called `sensitivity[NAME]`.

    Sensitivity, specificity and AUC of a class are those of one against the rest. Balanced accuracy is the mean
    sensitivity of the classes that have an image, as scikit-learn's is; `auc` is the mean of the classes' areas.
    Weights without one of these classes have neither: the mean of fewer would be another number.
    """
    there = np.bincount(answers.truth, minlength=len(answers.class_names)) > 0
    table = confusion(answers, weights)
    total, true = table.sum((1, 2)), table.sum(2)
    hits = np.diagonal(table, axis1=1, axis2=2)
    sensitivity = _ratio(hits, true)
    rest = total[:, None] - true
    specificity = _ratio(rest - (table.sum(1) - hits), rest)
    areas: list[np.ndarray] = []
    found: dict[str, np.ndarray] = {}
    for number, name in enumerate(answers.class_names):
        positive, scores = answers.truth == number, answers.probabilities[:, number]
        areas.append(auc(scores, positive, weights))
        found |= {
            f"sensitivity[{name}]": sensitivity[:, number],
            f"specificity[{name}]": specificity[:, number],
            f"auc[{name}]": areas[-1],
            f"sensitivity at {SPECIFICITY:.0%} specificity[{name}]": sensitivity_at(scores, positive, weights),
        }
    whole = {
        "balanced_accuracy": _mean_of(sensitivity, there),
        "accuracy": _ratio(hits.sum(1), total),
        "auc": _mean_of(np.stack(areas, 1), there & (there.sum() > 1)),
        "brier": brier(answers, weights),
        "calibration_error": calibration_error(answers, weights),
    }
    return whole | found


def _by_level(values: np.ndarray, level: np.ndarray, levels: int) -> np.ndarray:
    """Return sums (r, levels) of values (r, n) whose column belongs to a level (n,)."""
    order = np.argsort(level, kind="stable")
    starts = np.searchsorted(level[order], np.arange(levels))
    if not levels:
        return np.zeros((len(values), 0))
    padded = np.concatenate([values[:, order], np.zeros((len(values), 1))], 1)
    sums = np.add.reduceat(padded, starts, axis=1)
    empty = np.bincount(level, minlength=levels) == 0
    sums[:, empty] = 0
    return sums


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return _ratio(weights @ values, weights.sum(1))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0)


def _mean_of(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return the mean (r,) of chosen columns (k,) bool of values (r, k); NaN where one is not known, or none chosen."""
    return values[:, chosen].mean(1) if chosen.any() else np.full(len(values), np.nan)
