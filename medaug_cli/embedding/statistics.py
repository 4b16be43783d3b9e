"""How alike two sets of images are, in feature space; each number beside what real against real gives.

Legend of shapes: n, m images, k features.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

NEIGHBOURS = 5
SUBSETS = 100
LARGEST_SUBSET = 100
NEAREST = 0.01  # of held-out images: what comes nearer to a training image is suspicious


def distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return Euclidean distances (n, m) of features (n, k) and (m, k)."""
    squares = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * x @ y.T
    return np.sqrt(np.maximum(squares, 0))


def one_nn_accuracy(x: np.ndarray, y: np.ndarray, seed: int = 0) -> float:
    """Return the leave-one-out accuracy of a 1-NN classifier at equal counts (Lopez-Paz and Oquab 2017).

    0.5 where the sets cannot be told apart, 1 where they can, below 0.5 where each point has its twin in the other.
    """
    count = min(len(x), len(y))
    rng = np.random.default_rng(seed)
    both = np.concatenate([x[rng.permutation(len(x))[:count]], y[rng.permutation(len(y))[:count]]])
    apart = distances(both, both)
    np.fill_diagonal(apart, np.inf)
    nearest = apart.argmin(1)
    return float(((nearest < count) == (np.arange(2 * count) < count)).mean())


def kernel_distance(x: np.ndarray, y: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Return KID, the unbiased squared MMD with the kernel (x.y / k + 1)**3, and its standard error over subsets.

    (Binkowski et al. 2018; subsets of at most 100, so that small sets give several.)
    """
    size = min(LARGEST_SUBSET, len(x) // 2, len(y) // 2)
    rng = np.random.default_rng(seed)
    drawn = [(rng.permutation(len(x))[:size], rng.permutation(len(y))[:size]) for _ in range(SUBSETS)]
    if (len(x) + len(y)) ** 2 <= SUBSETS * (2 * size) ** 2:  # the subsets have more pairs than the sets
        within_x, within_y, across = _kernel(x, x), _kernel(y, y), _kernel(x, y)
        values = [_mmd(within_x[np.ix_(i, i)], within_y[np.ix_(j, j)], across[np.ix_(i, j)]) for i, j in drawn]
    else:
        values = [unbiased_mmd(x[i], y[j]) for i, j in drawn]
    return float(np.mean(values)), float(np.std(values) / np.sqrt(SUBSETS))


def unbiased_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """Return the unbiased squared MMD of features (n, k) and (m, k) with a cubic kernel."""
    return _mmd(_kernel(x, x), _kernel(y, y), _kernel(x, y))


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _mmd(within_x: np.ndarray, within_y: np.ndarray, across: np.ndarray) -> float:
    """Return the unbiased squared MMD from kernels (n, n), (m, m) and (n, m)."""
    n, m = across.shape
    inner = (within_x.sum() - np.trace(within_x)) / (n * (n - 1)) + (within_y.sum() - np.trace(within_y)) / (
        m * (m - 1)
    )
    return float(inner - 2 * across.mean())


def others(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return for each of some images another one, drawn at random, (count,); a single image has but itself."""
    order = rng.permutation(count)
    drawn = np.empty(count, np.int64)
    drawn[order] = np.roll(order, 1)
    return drawn


@dataclass(frozen=True)
class Manifolds:
    """How far each set lies within the other's neighbourhoods."""

    precision: float  # share of generated images near a real one
    recall: float  # share of real images near a generated one
    density: float  # how densely generated images lie among real ones, about 1 at best
    coverage: float  # share of real images with a generated one among their nearest


def manifolds(real: np.ndarray, generated: np.ndarray, k: int = NEIGHBOURS) -> Manifolds:
    """Return precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020)."""
    real_radius, own_radius = _radius(real, k), _radius(generated, k)
    across = distances(real, generated)  # (n, m)
    near_real = across <= real_radius[:, None]
    return Manifolds(
        precision=float(near_real.any(0).mean()),
        recall=float((across <= own_radius[None]).any(1).mean()),
        density=float(near_real.sum(0).mean() / k),
        coverage=float((across.min(1) <= real_radius).mean()),
    )


def expected_coverage(real: int, generated: int, k: int = NEIGHBOURS) -> float:
    """Return the coverage of so many images where both sets are drawn alike (Naeem et al. 2020, 3.3).

    It grows with the number of generated images: sets of several sizes are not to be compared by it alone.
    """
    return 1 - math.prod((real - i) / (real + generated - i) for i in range(1, k + 1))


def _radius(x: np.ndarray, k: int) -> np.ndarray:
    """Return each point's distance to its k-th neighbour, (n,)."""
    apart = distances(x, x)
    np.fill_diagonal(apart, np.inf)
    return np.partition(apart, k - 1, axis=1)[:, k - 1]


@dataclass(frozen=True)
class Memorisation:
    """How near generated images come to training images, measured by how near unseen real ones come."""

    ratio: float  # median distance generated to train over held-out to train; well below 1 is a warning
    suspicious: float  # share nearer than the nearest 1 % of held-out images; see `expected_copies`
    nearest: np.ndarray  # (m,) index of each generated image's nearest training image
    distance: np.ndarray  # (m,)


def memorisation(train: np.ndarray, held_out: np.ndarray, generated: np.ndarray) -> Memorisation:
    """Compare generated to training distances with held-out to training distances."""
    apart = distances(generated, train)
    reference = distances(held_out, train).min(1)
    near = apart.min(1)
    return Memorisation(
        ratio=float(np.median(near) / max(float(np.median(reference)), 1e-12)),
        suspicious=float((near < np.quantile(reference, NEAREST)).mean()),
        nearest=apart.argmin(1), distance=near,
    )  # fmt: skip


def expected_copies(held_out: int) -> float:
    """Return the share of images as new as the held-out ones that is to be expected among the suspicious.

    It is that below an interpolated quantile of so many distances: more than 1 % where these are few.
    """
    return (NEAREST * (held_out - 1) + 1) / (held_out + 1)


def pixel_spread(images: Iterable[np.ndarray]) -> float:
    """Return the mean over pixels of the standard deviation over images, n of (c, *s): 0 for copies of one image.

    One image is in memory at a time (Welford 1962).
    """
    mean, squares, count = np.zeros(()), np.zeros(()), 0
    for count, image in enumerate(images, 1):
        apart = image - mean
        mean = mean + apart / count
        squares = squares + apart * (image - mean)
    return float(np.sqrt(squares / count).mean())
