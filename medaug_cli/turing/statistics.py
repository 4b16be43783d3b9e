"""Intervals and tests of a reader study. "Positive" is synthetic: what a reader is to detect.

Legend: n answers, k readers, m images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
CHANCE = 0.5


@dataclass(frozen=True)
class Proportion:
    """A share with its exact interval (Clopper and Pearson 1934)."""

    hits: int
    of: int
    value: float | None
    interval: tuple[float, float] | None


def proportion(hits: int, of: int) -> Proportion:
    """Return hits / of with its exact 95 % interval; nothing where there is nothing to count."""
    from scipy.stats import binomtest

    if of == 0:
        return Proportion(hits, of, None, None)
    low, high = binomtest(hits, of).proportion_ci(LEVEL, "exact")
    return Proportion(hits, of, hits / of, (float(low), float(high)))


def binomial_p(hits: int, of: int) -> float:
    """Return the two-sided exact p of as many right answers, if readers only guessed."""
    from scipy.stats import binomtest

    return float(binomtest(hits, of, CHANCE).pvalue) if of else 1.0


def equivalence_p(hits: int, of: int, margin: float) -> float:
    """Return the p of two one-sided exact tests that accuracy lies within `margin` of guessing (Schuirmann 1987)."""
    from scipy.stats import binom

    if not of:
        return 1.0
    not_below = float(binom.sf(hits - 1, of, CHANCE - margin))
    not_above = float(binom.cdf(hits, of, CHANCE + margin))
    return max(not_below, not_above)


def critical(of: int, alpha: float = 0.05) -> int:
    """Return the fewest right answers that a two-sided exact test calls better than guessing."""
    from scipy.stats import binom

    hits = np.arange(of + 1)
    return int(hits[2 * binom.sf(hits - 1, of, CHANCE) <= alpha].min(initial=of + 1))


def power(of: int, accuracy: float, alpha: float = 0.05) -> float:
    """Return the probability that an exact test calls a reader of this accuracy better than guessing."""
    from scipy.stats import binom

    return float(binom.sf(critical(of, alpha) - 1, of, accuracy))


def detectable(of: int, wanted: float = 0.8) -> float | None:
    """Return the least accuracy that the test sees with a power of `wanted`, to 0.1 %; None where there is none."""
    grid = np.arange(0.501, 1.0, 0.001)
    enough = [float(accuracy) for accuracy in grid if power(of, float(accuracy)) >= wanted]
    return round(enough[0], 3) if enough else None


@dataclass(frozen=True)
class Detection:
    """Signal detection: how far the two kinds lie apart for a reader, and where the reader draws the line."""

    d_prime: float
    interval: tuple[float, float]
    criterion: float  # above 0: says "real" more often


def d_prime(hits: int, positives: int, false_alarms: int, negatives: int) -> Detection | None:
    """Return d' and criterion with the log-linear correction (Hautus 1995), interval after Gourevitch and Galanter.

    None where one of the two kinds was not judged.
    """
    from scipy.stats import norm

    if not positives or not negatives:
        return None
    rates = (hits + 0.5) / (positives + 1), (false_alarms + 0.5) / (negatives + 1)
    z = [float(norm.ppf(rate)) for rate in rates]
    variance = sum(
        rate * (1 - rate) / (count * float(norm.pdf(score)) ** 2)
        for rate, count, score in zip(rates, (positives, negatives), z, strict=True)
    )
    found, half = z[0] - z[1], float(norm.ppf((1 + LEVEL) / 2)) * variance**0.5
    return Detection(found, (found - half, found + half), -(z[0] + z[1]) / 2)


def two_interval_d_prime(right: int, of: int) -> float | None:
    """Return d' of choosing between two images, by the log-linear correction: square root of 2 times z."""
    from scipy.stats import norm

    return float(2**0.5 * norm.ppf((right + 0.5) / (of + 1))) if of else None


@dataclass(frozen=True)
class Area:
    """A number with its 95 % interval: the area under the ROC curve of a reader's confidence, or a correlation."""

    value: float
    interval: tuple[float, float]


def auc(positive: np.ndarray, scores: np.ndarray) -> Area | None:
    """Return the area of scores (n,) for positives (n,) bool; None where there is one kind alone.

    The interval is that of Newcombe (2006, part 2, method 5), the areas from which the found one is not too far by a
    standard error of *theirs*: DeLong's is a point where a reader tells all, or has one answer of a kind.
    """
    up, down = scores[positive], scores[~positive]
    if not len(up) or not len(down):
        return None
    wins = (up[:, None] > down[None]) + 0.5 * (up[:, None] == down[None])
    value = float(wins.mean())
    return Area(value, _area_interval(value, len(up), len(down)))


def _area_interval(value: float, positives: int, negatives: int) -> tuple[float, float]:
    from scipy.optimize import brentq
    from scipy.stats import norm

    more, z = (positives + negatives) / 2 - 1, float(norm.ppf((1 + LEVEL) / 2))

    def beyond(area: float) -> float:
        """Return how much farther the found value is than z standard errors of an area, squared: 0 at a limit."""
        spread = area * (1 - area) * (1 + more * (1 - area) / (2 - area) + more * area / (1 + area))
        return (area - value) ** 2 - z * z * spread / (positives * negatives)

    near = 1e-9  # 0 and 1 have no standard error: if found, they are not the limit that is looked for
    low = brentq(beyond, 0, value - near) if value > near else 0.0
    high = brentq(beyond, value + near, 1) if value < 1 - near else 1.0
    return float(low), float(high)


def fleiss_kappa(counts: np.ndarray) -> float | None:
    """Return Fleiss' kappa (1971) of counts (m, categories) of the same number of readers each; None if undefined."""
    raters = counts.sum(1)
    if not len(counts) or raters[0] < 2 or (raters != raters[0]).any():
        return None
    share = counts.sum(0) / counts.sum()
    agreed = ((counts**2).sum(1) - raters) / (raters * (raters - 1))
    expected = float((share**2).sum())
    return None if expected >= 1 else float((agreed.mean() - expected) / (1 - expected))


def cohen_kappa(first: Sequence[int], second: Sequence[int]) -> float | None:
    """Return Cohen's kappa (1960) of a reader's first and second answers; None if undefined."""
    a, b = np.asarray(first), np.asarray(second)
    if not len(a):
        return None
    kinds = np.union1d(a, b)
    expected = float(sum((a == kind).mean() * (b == kind).mean() for kind in kinds))
    return None if expected >= 1 else float(((a == b).mean() - expected) / (1 - expected))


def pooled_interval(right: np.ndarray, stratum: np.ndarray, resamples: int, seed: int) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean of answers (k, m), readers and images as random effects.

    Readers and, in each stratum (m,) of real and synthetic, images are drawn with replacement. `right` is 1, 0, or NaN
    where a reader did not judge an image. Of a single reader, and where all answers are alike, the interval is exact,
    of as many answers as there are images: resamples of few answers, or of equal ones, vary too little.
    """
    if right.shape[0] == 0 or not np.isfinite(right).any():
        return None
    given = np.isfinite(right)
    if len(right) == 1 or np.ptp(right[given]) == 0:
        judged = int(given.any(0).sum())
        return proportion(round(float(right[given].mean()) * judged), judged).interval
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(7,)))
    places = [np.flatnonzero(stratum == kind) for kind in np.unique(stratum)]
    means = np.empty(resamples)
    for r in range(resamples):
        images = np.concatenate([rng.choice(own, len(own)) for own in places])
        drawn = right[rng.integers(0, len(right), len(right))][:, images]
        known = np.isfinite(drawn)
        means[r] = drawn[known].mean() if known.any() else np.nan
    low, high = np.nanquantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def rank_correlation(x: Sequence[float], y: Sequence[float], resamples: int, seed: int) -> Area | None:
    """Return Spearman's correlation with its bootstrap interval; None where one of the two does not vary."""
    from scipy.stats import spearmanr

    a, b = np.asarray(x, float), np.asarray(y, float)
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(8,)))
    found = []
    for _ in range(resamples):
        drawn = rng.integers(0, len(a), len(a))
        if np.ptp(a[drawn]) and np.ptp(b[drawn]):
            found.append(float(spearmanr(a[drawn], b[drawn]).statistic))
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Area(float(spearmanr(a, b).statistic), (float(low), float(high)))
