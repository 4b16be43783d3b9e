"""Can real and drawn images be told apart? A linear classifier on their features tries, patient by patient.

Legend of shapes: n, m images, k features.
"""

from collections.abc import Sequence

import numpy as np

FOLDS = 5
PENALTIES = tuple(10.0**power for power in range(6))
NEAR_CONSTANT = 1e-3  # of the largest standard deviation of a feature: rounding errors are not to be blown up


def told_apart(
    real: np.ndarray, drawn: np.ndarray, patients: Sequence[str], drawn_patients: Sequence[str], seed: int = 0
) -> float | None:
    """Return the area under the ROC curve of real (n, k) against drawn (m, k) features of images it was not fitted on.

    1 where they are told apart at once, about 0.5 where they cannot be. Images of one patient are judged together by a
    classifier that has seen none of them. None with a single patient on either side.
    """
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    sides = [dealt(patients, seed), dealt(drawn_patients, seed)]
    folds = min(int(side.max()) for side in sides) + 1
    if folds < 2:
        return None
    features, part = np.concatenate([real, drawn]), np.concatenate(sides)
    spread = features.std(0)
    features = features[:, spread >= NEAR_CONSTANT * spread.max()]
    truth = np.arange(len(features)) < len(real)
    areas = []
    for fold in range(folds):
        own = part == fold
        judge = make_pipeline(StandardScaler(), RidgeClassifierCV(PENALTIES, class_weight="balanced"))
        scores = judge.fit(features[~own], truth[~own]).decision_function(features[own])
        areas.append(roc_auc_score(truth[own], scores))
    return float(np.mean(areas))


def dealt(groups: Sequence[str], seed: int, folds: int = FOLDS) -> np.ndarray:
    """Return a part (n,) from 0 to `folds` - 1 for each image; those of one group stay together."""
    names = np.random.default_rng(seed).permutation(sorted(set(groups))).tolist()
    parts = {name: k % min(folds, len(names)) for k, name in enumerate(names)}
    return np.array([parts[group] for group in groups])
