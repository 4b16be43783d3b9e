"""How real an image looks to a judge of real against synthetic images, fitted on real training patients.

Han et al. (2.3) say that dropping artefacts does not help: this is the filter to try that with. An image is judged by
trees that have seen neither it nor, of real ones, its patient.

Legend: n images, f features.
"""

import numpy as np

from medaug_cli.embedding.features import describe, extractor
from medaug_cli.embedding.probe import FOLDS, dealt
from medaug_cli.errors import UsageError
from medaug_cli.store import Store

FEATURES = ("pixels", "texture")  # one alone misses what the other sees
LEAST = 10  # images of either kind
TREES = 200


def realism(real: Store, synthetic: Store, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the share of trees (n,) that take each synthetic image for real, which images are the more realistic half,
    (n,) bool, and the area under the judges' ROC curves, their mean.

    Images are compared with those of the same judge: one that has seen fewer real images finds all others less real.
    Raises UsageError with too few images, or training images of one patient alone.
    """
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.metrics import roc_auc_score

    train = real.indices("train", "real", unannotated=True)  # no box is needed
    patients = [real.patients[i] for i in train]
    if min(len(train), len(synthetic)) < LEAST or len(set(patients)) < 2:
        raise UsageError(
            f"a judge of real against synthetic images needs {LEAST} of each, and 2 training patients; "
            f"{real.path} has {len(train)} of {len(set(patients))}, {synthetic.path} {len(synthetic)}"
        )
    features = np.concatenate([_features(real, train), _features(synthetic, np.arange(len(synthetic)))])  # (n, f)
    truth = np.arange(len(features)) < len(train)
    folds = min(FOLDS, len(set(patients)))
    part = np.concatenate([dealt(each, seed, folds) for each in (patients, [str(i) for i in range(len(synthetic))])])
    scores, areas = np.zeros(len(features)), []
    for fold in range(folds):
        own = part == fold
        trees = ExtraTreesClassifier(TREES, min_samples_leaf=4, class_weight="balanced", random_state=seed)
        fitted = trees.fit(features[~own], truth[~own])
        scores[own] = fitted.predict_proba(features[own])[:, list(fitted.classes_).index(True)]
        areas.append(roc_auc_score(truth[own], scores[own]))
    return scores[~truth], more_realistic(scores[~truth], part[~truth]), float(np.mean(areas))


def more_realistic(scores: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Return which images (n,) bool are of the half with the higher scores among those of their part (n,).

    Of equals the first.
    """
    place = np.zeros(len(scores))
    for each in np.unique(part):
        own = np.flatnonzero(part == each)
        place[own[np.argsort(-scores[own], kind="stable")]] = (np.arange(len(own)) + 0.5) / len(own)
    kept = np.zeros(len(scores), bool)
    kept[np.argsort(place, kind="stable")[: -(-len(scores) // 2)]] = True
    return kept


def _features(store: Store, indices: np.ndarray) -> np.ndarray:
    return np.hstack([describe(store, indices, extractor(name)) for name in FEATURES])
