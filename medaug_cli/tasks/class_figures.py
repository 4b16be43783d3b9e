"""The pictures of a classification: confusion, ROC curves and calibration with bands, the most confident mistakes."""

from collections.abc import Mapping, Sequence

import numpy as np

from medaug_cli.figures.grid import as_picture
from medaug_cli.figures.task_figures import Band, Curve, calibration_svg, captioned, confusion_svg, png, roc_svg
from medaug_cli.metrics.classification import by_patient, confusion
from medaug_cli.metrics.resampling import bootstrap_weights
from medaug_cli.tasks.cases import Cases
from medaug_cli.tasks.classification import ClassAnswers
from medaug_cli.tasks.task import Figure

RATES = np.linspace(0, 1, 101)  # false positive rates of a ROC curve
BAND_RESAMPLES = 300
BINS, LEAST_IN_BIN = 10, 8


def class_figures(cases: Cases, answers: Mapping[str, ClassAnswers], most: int) -> list[Figure]:
    """Return every picture; of the mistakes `most` at most, and none where no image can be seen."""
    found = [_confusion(cases, answers)]
    if cases.names_patients:
        found.append(_confusion_by_patient(cases, answers))
    truth = np.asarray(cases.truth)
    rocs = {
        label: {name: roc_curve(each, k) for name, each in answers.items()}
        for k, label in enumerate(cases.names)
        if 0 < (truth == k).sum() < len(truth)
    }
    if rocs:
        note = "One class against the rest, by image; bands are 95 % intervals over patients."
        found.append(Figure("ROC", note, roc_svg(rocs).encode()))
    curves = {"predicted class": {name: calibration_curve(each) for name, each in answers.items()}}
    note = (
        "Of images whose predicted class is given such a probability, the share for which it is right; on the dotted "
        "line the two are equal, below it a network is too sure. Bands are 95 % intervals over patients."
    )
    found.append(Figure("Calibration", note, calibration_svg(curves).encode()))
    return found + _mistakes(cases, answers, most)


def _confusion(cases: Cases, answers: Mapping[str, ClassAnswers]) -> Figure:
    ones = np.ones((1, len(cases)))
    matrices = {name: confusion(each.images, ones)[0] for name, each in answers.items()}
    note = "Images: rows are the truth, columns the most probable class; shaded by the share of the true class."
    return Figure("Confusion by image", note, confusion_svg(matrices, cases.names).encode())


def _confusion_by_patient(cases: Cases, answers: Mapping[str, ClassAnswers]) -> Figure:
    matrices = {}
    for name, each in answers.items():
        whole, units = by_patient(each.images, [str(unit) for unit in each.patients])
        matrices[name] = confusion(whole, np.ones((1, len(units))))[0]
    note = "Patients: the most probable class by the mean probability of a patient's images."
    return Figure("Confusion by patient", note, confusion_svg(matrices, cases.names).encode())


def roc_curve(answers: ClassAnswers, k: int) -> tuple[Curve, Band]:
    """Return the curve of a class against the rest, and its 95 % band over patients."""
    scores, positive = answers.images.probabilities[:, k], answers.images.truth == k
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)

    def points(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the false positive and true positive rates of every threshold; None without either kind."""
        hits, wrong = (np.cumsum(weights[order] * mask[order]) for mask in (positive, ~positive))
        if not (hits[-1] and wrong[-1]):
            return None
        return np.append(0, wrong[ends] / wrong[-1]), np.append(0, hits[ends] / hits[-1])

    curve = points(np.ones(len(scores)))
    assert curve is not None
    drawn = [points(each) for each in _weights(answers)]
    rows = [_highest(each) for each in drawn if each is not None]
    low, high = np.quantile(rows, [0.025, 0.975], axis=0) if rows else (RATES * 0, RATES * 0 + 1)
    return curve, (RATES, low, high)


def _highest(curve: Curve) -> np.ndarray:
    """Return the sensitivity of a curve at each of RATES; where it rises at one rate, the top of that step."""
    x, y = curve
    last = np.append(np.diff(x) > 0, True)
    return np.interp(RATES, x[last], y[last])


def calibration_curve(answers: ClassAnswers) -> tuple[Curve, Band]:
    """Return the mean probability and the share that is right of images in bins of equal numbers, and a band."""
    sure = answers.images.probabilities.max(1)
    right = (answers.images.predicted == answers.images.truth).astype(np.float64)
    bins = min(BINS, max(1, len(sure) // LEAST_IN_BIN))
    parts = [part for part in np.array_split(np.argsort(sure, kind="stable"), bins) if len(part)]
    x = np.array([sure[part].mean() for part in parts])
    rows = np.array([_shares(right, parts, weights) for weights in _weights(answers)])
    known = np.isfinite(rows)
    filled = np.where(known, rows, np.nanmean(np.where(known, rows, 0.5), 0))
    low, high = np.quantile(filled, [0.025, 0.975], axis=0)
    return (x, np.array([right[part].mean() for part in parts])), (x, low, high)


def _shares(right: np.ndarray, parts: Sequence[np.ndarray], weights: np.ndarray) -> list[float]:
    totals = [weights[part].sum() for part in parts]
    return [
        float(weights[part] @ right[part] / total) if total else np.nan
        for part, total in zip(parts, totals, strict=True)
    ]


def _weights(answers: ClassAnswers) -> np.ndarray:
    """Return how often each image counts in each resample of the patients, (r, n)."""
    units = int(answers.patients.max()) + 1
    return bootstrap_weights(units, BAND_RESAMPLES, 0)[:, answers.patients]


def _mistakes(cases: Cases, answers: Mapping[str, ClassAnswers], most: int) -> list[Figure]:
    wrong = [
        (float(each.images.probabilities[k].max()), int(each.images.predicted[k]), name, int(k))
        for name, each in answers.items()
        for k in np.flatnonzero(each.images.predicted != each.images.truth)
    ]
    wrong.sort(key=lambda one: (-one[0], one[2], one[3]))
    pictures, captions = [], []
    for sure, said, name, k in wrong[:most]:
        if (picture := cases.picture(k)) is None:
            continue
        pictures.append(as_picture(picture))
        truth = cases.names[int(cases.truth[k])]
        captions.append([f"{cases.ids[k]} by {name}", f"is {truth}", f"said {cases.names[said]}, {sure:.2f}"])
    if not pictures:
        return []
    note = f"Not a random choice: the {len(pictures)} of {len(wrong)} wrong answers that networks were most sure of."
    return [Figure("Most confident mistakes", note, png(captioned(pictures, captions)), "image/png")]
