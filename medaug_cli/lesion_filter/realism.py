"""How real an image looks to a judge of real against synthetic images, fitted on real training patients.

Han et al. (2.3) say that dropping artefacts does not help: this is the filter to try that with. An image is judged by
trees that have seen neither it nor, of real ones, its patient.

Legend: n images, f features.
"""

import numpy as np

from medaug_cli.embedding.features import describe, extractor
from medaug_cli.embedding.probe import dealt
from medaug_cli.errors import UsageError
from medaug_cli.store import Store

FEATURES = ("pixels", "texture")  # one alone misses what the other sees
LEAST = 10  # images of either kind
TREES = 200


def realism(real: Store, synthetic: Store, seed: int) -> tuple[np.ndarray, float]:
    """Return the share of trees (n,) that take each synthetic image for real, and the area under the judge's ROC curve.

    Raises UsageError with too few images, or training images of one patient alone.
    """
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.metrics import roc_auc_score

    train = real.indices("train", "real")
    patients = [real.patients[i] for i in train]
    if min(len(train), len(synthetic)) < LEAST or len(set(patients)) < 2:
        raise UsageError(
            f"a judge of real against synthetic images needs {LEAST} of each, and 2 training patients; "
            f"{real.path} has {len(train)} of {len(set(patients))}, {synthetic.path} {len(synthetic)}"
        )
    features = np.concatenate([_features(real, train), _features(synthetic, np.arange(len(synthetic)))])  # (n, f)
    truth = np.arange(len(features)) < len(train)
    part = np.concatenate([dealt(patients, seed), dealt([str(i) for i in range(len(synthetic))], seed)])
    scores = np.zeros(len(features))
    for fold in range(int(part.max()) + 1):
        own = part == fold
        trees = ExtraTreesClassifier(TREES, min_samples_leaf=4, class_weight="balanced", random_state=seed)
        fitted = trees.fit(features[~own], truth[~own])
        scores[own] = fitted.predict_proba(features[own])[:, list(fitted.classes_).index(True)]
    return scores[~truth], float(roc_auc_score(truth, scores))


def most_realistic(scores: np.ndarray) -> np.ndarray:
    """Return which images (n,) bool are among the more realistic half; of equals the first."""
    kept = np.zeros(len(scores), bool)
    kept[np.argsort(-scores, kind="stable")[: -(-len(scores) // 2)]] = True
    return kept


def _features(store: Store, indices: np.ndarray) -> np.ndarray:
    return np.hstack([describe(store, indices, extractor(name)) for name in FEATURES])
