"""How much a boxed region looks like a lesion, learnt from real boxes and calibrated on them.

Positives are the real boxes; negatives are boxes of other patients laid on the same images where they
touch no lesion, so both lie at the same kind of places and differ in what they show alone.

Legend of shapes: m boxes of an image, f features, c channels, *s spatial axes.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from medaug_cli.answers import answered
from medaug_cli.blending import window
from medaug_cli.errors import UsageError
from medaug_cli.metrics.matching import iou
from medaug_cli.plugin import Detections, ImageSpec
from medaug_cli.store import Store
from medaug_cli.words import percent

NEGATIVES = 4  # per real image
TOUCHES = 0.05  # share of a box that may overlap a lesion where there should be none
FOLDS = 5
TREES = 300
LEAST_BOXES = 20
LEAST_AUC = 0.65  # below it nothing is dropped
RING = 0.6  # width of the surrounding ring, in sides of the box
HEAD = 0.04  # share of full brightness above which a pixel is not background


class Evidence(Protocol):
    """Anything that scores the boxes of images: larger means more like a lesion."""

    def scores(
        self, images: Iterable[np.ndarray], boxes: Sequence[np.ndarray], labels: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Return for each image (c, *s) in [0, 1] a score (m,) of its boxes (m, 2*d)."""
        ...


def scores_of(evidence: Evidence, store: Store, indices: Iterable[int]) -> list[np.ndarray]:
    """Return the scores of the boxes of images of a store, one image in memory at a time."""
    chosen = list(indices)
    images = (store.read([i])[0] for i in chosen)
    return evidence.scores(images, [store.boxes[i] for i in chosen], [store.labels[i] for i in chosen])


@dataclass(frozen=True)
class Calibration:
    """How well evidence tells real lesions from elsewhere, and where it draws the line."""

    threshold: float  # below: clearly no lesion
    auc: float | None  # out of fold, None where there are no negatives
    real_dropped: float  # share of real boxes that would fall below
    elsewhere_dropped: float | None  # share of lesion-free boxes that fall below
    boxes: int
    decides: bool  # whether anything is dropped at all
    unseen: float = 0.0  # share of real boxes that score 0, below which nothing lies

    @property
    def doubt(self) -> str | None:
        """Say in a few words why nothing is dropped, None where it decides."""
        if self.decides:
            return None
        if self.auc is not None and self.auc < LEAST_AUC:
            return "the evidence cannot tell lesions from elsewhere"
        return "the evidence sees nothing in too many real boxes"

    def sentence(self) -> str:
        """Say what the numbers mean."""
        if not self.decides and (self.auc is None or self.auc >= LEAST_AUC):
            return (
                f"The evidence sees nothing in {percent(self.unseen, 1)} of {self.boxes} real boxes, as many as may be "
                "dropped (--real-share) or more: no image is dropped."
            )
        if not self.decides:
            return (
                f"The evidence cannot tell lesions from elsewhere (AUC {self.auc:.2f} on {self.boxes} real boxes): "
                "no image is dropped."
            )
        parts = [f"Calibrated on {self.boxes} real boxes"]
        if self.auc is not None:
            parts.append(f"out-of-fold AUC {self.auc:.2f}")
        parts.append(f"{percent(self.real_dropped, 1)} of real lesions would be dropped")
        if self.elsewhere_dropped is not None:
            parts.append(f"{percent(self.elsewhere_dropped, 1)} of lesion-free boxes are")
        return ", ".join(parts) + "."


def describe(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return features (m, f) of boxes (m, 2*d) of an image (c, *s): contrast to the ring around, to the mirrored
    place and to the head, texture and edges. Places and sizes are not features."""
    grey = np.asarray(image, np.float64).mean(0)
    head = grey > HEAD
    low, typical, high = np.percentile(grey[head], (16, 50, 84)) if head.sum() > 16 else (0.25, 0.5, 0.75)
    z = (grey - typical) / ((high - low) / 2 + 1e-3)  # a bright artefact moves neither
    edges = np.sqrt(sum(np.square(g) for g in np.gradient(z)))
    mirrored = z[..., ::-1]
    return np.stack([_features(z, mirrored, edges, head, box) for box in boxes]) if len(boxes) else np.empty((0, 17))


def _features(z: np.ndarray, mirrored: np.ndarray, edges: np.ndarray, head: np.ndarray, box: np.ndarray) -> np.ndarray:
    own, wide = window(box, z.shape), window(box, z.shape, RING)
    ring = np.zeros(z.shape, bool)
    ring[wide] = True
    ring[own] = False
    inside, other = z[own].ravel(), mirrored[own].ravel()
    around = z[ring & head] if (ring & head).sum() > 4 else z[wide].ravel()
    low, middle, high = np.percentile(inside, (10, 50, 90))
    ring_low, ring_middle, ring_high = np.percentile(around, (10, 50, 90))
    other_low, other_middle, other_high = np.percentile(other, (10, 50, 90))
    core = window(box, z.shape, -0.25)
    return np.array([
        middle, high, low, middle - ring_middle, high - ring_high, low - ring_low, middle - other_middle,
        high - other_high, low - other_low, inside.std(), inside.std() - around.std(), z[core].mean() - ring_middle,
        edges[own].mean(), edges[own].mean() - edges[ring].mean() if ring.any() else 0.0, inside.max(),
        np.abs(inside - other).mean(), head[own].mean(),
    ])  # fmt: skip


@dataclass
class RegionEvidence:
    """Extremely randomised trees on `describe` (Geurts et al. 2006)."""

    trees: Any

    def scores(
        self, images: Iterable[np.ndarray], boxes: Sequence[np.ndarray], labels: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Return for each image the share of trees that see a lesion in each box, (m,)."""
        features = [describe(image, own) for image, own in zip(images, boxes, strict=True)]
        ends = np.cumsum([0, *map(len, features)])
        if not ends[-1]:
            return [np.zeros(0) for _ in features]
        seen = _seen(self.trees, np.concatenate(features))  # at once: a call takes longer than its rows
        return [seen[start:end] for start, end in pairwise(ends)]


def fit_regions(store: Store, real_share: float, seed: int) -> tuple[RegionEvidence, Calibration]:
    """Fit the evidence on the real training images of a store and calibrate it out of fold, patient by patient.

    `real_share` is the share of real lesions that may be dropped. Raises UsageError with too few boxes.
    """
    features, truth, patients = _examples(store, seed)
    folds = min(FOLDS, len(set(patients)))
    if truth.all() and truth.sum() >= LEAST_BOXES:
        raise UsageError(
            f"{store.path} shows a lesion wherever those of others lie, so nothing tells what none looks like; make "
            "it with preprocess --regions --normals, or use --detector DIR, --by manual or --by none"
        )
    if truth.sum() < LEAST_BOXES or truth.all() or folds < 2:
        raise UsageError(
            f"{store.path} has {int(truth.sum())} boxes of {len(set(patients))} patients to learn from, but "
            f"{LEAST_BOXES} of 2 are needed; use --detector DIR, --by manual or --by none"
        )
    scores = np.full(len(truth), np.nan)
    for train, test in _folds(patients, folds, seed):
        scores[test] = _seen(_trees(seed).fit(features[train], truth[train]), features[test])
    return RegionEvidence(_trees(seed).fit(features, truth)), calibrate(scores[truth], scores[~truth], real_share)


def calibrate(lesions: np.ndarray, elsewhere: np.ndarray, real_share: float) -> Calibration:
    """Return the line below which only `real_share` of the real lesions' scores (n,) lie."""
    from sklearn.metrics import roc_auc_score

    threshold = float(np.quantile(lesions, real_share, method="lower"))
    auc = None
    if len(elsewhere):
        truth = np.concatenate([np.ones(len(lesions)), np.zeros(len(elsewhere))])
        auc = float(roc_auc_score(truth, np.concatenate([lesions, elsewhere])))
    return Calibration(
        threshold=threshold, auc=auc, real_dropped=float((lesions < threshold).mean()),
        elsewhere_dropped=float((elsewhere < threshold).mean()) if len(elsewhere) else None, boxes=len(lesions),
        decides=threshold > 0 and (auc is None or auc >= LEAST_AUC), unseen=float((lesions <= 0).mean()),
    )  # fmt: skip


def _trees(seed: int) -> Any:
    from sklearn.ensemble import ExtraTreesClassifier

    return ExtraTreesClassifier(TREES, min_samples_leaf=4, class_weight="balanced", random_state=seed)


def _seen(trees: Any, features: np.ndarray) -> np.ndarray:
    """Return the share of trees (n,) that see a lesion in each row; trees that were shown none see none."""
    shares = dict(zip(trees.classes_.tolist(), trees.predict_proba(features).T, strict=True))
    return shares.get(True, np.zeros(len(features)))


def _folds(patients: np.ndarray, folds: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    names = np.random.default_rng(seed).permutation(sorted(set(patients)))
    home = {name: i % folds for i, name in enumerate(names)}
    own = np.array([home[name] for name in patients])
    for fold in range(folds):
        yield np.flatnonzero(own != fold), np.flatnonzero(own == fold)


def _examples(store: Store, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features (n, f), whether each is a lesion (n,) and its patient (n,)."""
    train = store.indices("train", "real")
    every = [(store.patients[i], box) for i in train for box in store.boxes[i]]
    rng = np.random.default_rng(seed)
    features, truth, patients = [], [], []
    for i in train:
        own = store.boxes[i]
        wrong = _elsewhere(own, store.patients[i], every, rng)
        boxes = np.concatenate([own, wrong]) if len(wrong) else own
        features.append(describe(store.read([i])[0], boxes))
        truth += [True] * len(own) + [False] * len(wrong)
        patients += [store.patients[i]] * len(boxes)
    return np.concatenate(features) if features else np.empty((0, 17)), np.array(truth, bool), np.array(patients)


def _elsewhere(
    own: np.ndarray, patient: str, every: Sequence[tuple[str, np.ndarray]], rng: np.random.Generator
) -> np.ndarray:
    """Return boxes of other patients that touch none of an image's own, at most NEGATIVES."""
    found: list[np.ndarray] = []
    for k in rng.permutation(len(every))[: 8 * NEGATIVES]:
        name, box = every[k]
        if name != patient and all(overlap(box, lesion) <= TOUCHES for lesion in own):
            found.append(box)
            if len(found) == NEGATIVES:
                break
    return np.array(found, np.float32).reshape(len(found), own.shape[1])


def overlap(box: np.ndarray, other: np.ndarray) -> float:
    """Return the share of a box (2*d,) that another one covers."""
    d = len(box) // 2
    sides = np.minimum(box[d:], other[d:]) - np.maximum(box[:d], other[:d])
    return float(np.prod(np.maximum(sides, 0)) / max(float(np.prod(box[d:] - box[:d])), 1e-12))


@dataclass
class DetectorEvidence:
    """The best score among a detector's boxes of the right label that overlap the asked one."""

    detector: Any
    name: str
    spec: ImageSpec  # of the images that it is shown
    least_iou: float = 0.25

    def scores(
        self, images: Iterable[np.ndarray], boxes: Sequence[np.ndarray], labels: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Return for each image the best detection score of each box, 0 where nothing is detected, (m,).

        Raises BrokenContract where the detector's answers are not as the contract has them.
        """
        answers = answered("detector", self.name, self.detector.predict(images), len(boxes), self.spec)
        return [self._best(*each) for each in zip(boxes, labels, answers, strict=True)]

    def _best(self, boxes: np.ndarray, labels: np.ndarray, answer: Detections) -> np.ndarray:
        found, scores, kinds = answer
        fits = (iou(boxes, found) >= self.least_iou) & (labels[:, None] == np.asarray(kinds)[None])
        return np.where(fits, scores, 0.0).max(1, initial=0.0)


def calibrate_detector(evidence: DetectorEvidence, store: Store, real_share: float) -> Calibration:
    """Calibrate a detector on the real validation boxes, which it was not fitted on; raise UsageError with too few."""
    validation = store.indices("val", "real")
    flat = np.concatenate([np.zeros(0), *scores_of(evidence, store, validation)])
    if len(flat) < LEAST_BOXES:
        raise UsageError(
            f"{store.path} has {len(flat)} validation boxes to calibrate the detector on, but {LEAST_BOXES} are needed"
        )
    return calibrate(flat, np.zeros(0), real_share)
