"""Intervals and tests of reader studies against SciPy, statsmodels and hand calculation."""

import numpy as np
import pytest
from scipy import stats

from medaug_cli.turing import statistics as own

# python -c "from statsmodels.stats.proportion import proportion_confint as f; print(f(H, N, method='beta'))"
STATSMODELS_INTERVALS = {
    (0, 10): (0.0, 0.30849710781876083),
    (61, 100): (0.5073144796323634, 0.7059895851465829),
    (9, 10): (0.5549838829718047, 0.9974714221555382),
    (10, 10): (0.6915028921812392, 1.0),
    (37, 80): (0.3502764265383982, 0.577582471995165),
}
# from statsmodels.stats.inter_rater import fleiss_kappa
STATSMODELS_FLEISS = [
    ([[3, 0], [2, 1], [0, 3], [1, 2], [3, 0]], 0.44444444444444453),
    ([[5, 0], [4, 1], [1, 4], [0, 5], [3, 2], [2, 3]], 0.33333333333333326),
    ([[2, 2], [2, 2], [2, 2]], -0.3333333333333333),
]


@pytest.mark.parametrize(("counts", "expected"), STATSMODELS_INTERVALS.items())
def test_exact_intervals(counts, expected):
    assert own.proportion(*counts).interval == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("counts", "expected"), STATSMODELS_FLEISS)
def test_fleiss_kappa(counts, expected):
    assert own.fleiss_kappa(np.array(counts)) == pytest.approx(expected)


def test_nothing_to_count():
    assert own.proportion(0, 0).value is None
    assert own.binomial_p(0, 0) == 1
    assert own.d_prime(0, 0, 3, 5) is None
    assert own.auc(np.array([True, True]), np.array([1.0, 2.0])) is None
    assert own.fleiss_kappa(np.array([[1, 0], [0, 1]])) is None
    assert own.cohen_kappa([], []) is None
    assert own.cohen_kappa([1, 1], [1, 1]) is None
    assert own.rank_correlation([1, 1, 1], [1, 2, 3], 100, 0) is None


def test_binomial_and_equivalence_tests():
    assert own.binomial_p(61, 100) == pytest.approx(stats.binomtest(61, 100).pvalue)
    # two one-sided tests at 0.4 and 0.6 by counting outcomes
    n, hits, margin = 200, 103, 0.1
    outcomes = np.arange(n + 1)
    below = stats.binom.pmf(outcomes, n, 0.4)[hits:].sum()
    above = stats.binom.pmf(outcomes, n, 0.6)[: hits + 1].sum()
    assert own.equivalence_p(hits, n, margin) == pytest.approx(max(below, above))
    assert own.equivalence_p(120, 200, 0.1) > 0.4  # at the margin's edge
    assert own.equivalence_p(5000, 10000, 0.1) < 1e-6


def test_power_of_one_and_two_hundred_answers():
    assert own.critical(100) == 61
    assert own.power(100, 0.6) == pytest.approx(0.4621, abs=1e-3)
    assert own.power(200, 0.6) == pytest.approx(0.7868, abs=1e-3)
    assert own.power(100, own.detectable(100)) >= 0.8 > own.power(100, own.detectable(100) - 0.002)
    assert own.detectable(3) is None


def test_power_against_simulation():
    rng = np.random.default_rng(0)
    hits = rng.binomial(60, 0.65, 4000)
    called = {int(k) for k in set(hits.tolist()) if own.binomial_p(int(k), 60) < 0.05 and k > 30}
    assert own.power(60, 0.65) == pytest.approx(np.isin(hits, list(called)).mean(), abs=0.03)


def test_d_prime_by_hand():
    found = own.d_prime(40, 50, 10, 50)
    hit, alarm = 40.5 / 51, 10.5 / 51
    assert found.d_prime == pytest.approx(stats.norm.ppf(hit) - stats.norm.ppf(alarm))
    assert found.criterion == pytest.approx(0, abs=1e-9)
    assert found.interval[0] < found.d_prime < found.interval[1]
    assert own.d_prime(50, 50, 0, 50).d_prime < 6  # a perfect reader has a finite d'
    assert own.two_interval_d_prime(50, 100) == pytest.approx(0)


def test_area_against_scikit_learn_and_mann_whitney():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(1)
    for _ in range(20):
        positive = rng.random(40) < 0.5
        scores = np.round(rng.normal(size=40) + positive, 1)
        found = own.auc(positive, scores)
        assert found.value == pytest.approx(roc_auc_score(positive, scores))
        u = stats.mannwhitneyu(scores[positive], scores[~positive]).statistic
        assert found.value == pytest.approx(u / (positive.sum() * (~positive).sum()))


@pytest.mark.parametrize("apart", [0, 1, 3])
@pytest.mark.parametrize(("positives", "negatives"), [(40, 40), (20, 20), (2, 2), (1, 50)])
def test_area_intervals_hold_the_true_area(apart, positives, negatives):
    rng = np.random.default_rng(2)
    true, held = float(stats.norm.cdf(apart / 2**0.5)), 0
    positive = np.arange(positives + negatives) < positives
    for _ in range(300):
        found = own.auc(positive, rng.normal(size=len(positive)) + apart * positive)
        low, high = found.interval
        assert 0 <= low <= found.value <= high <= 1
        held += low <= true <= high
    assert held / 300 >= 0.91


def test_an_area_interval_by_hand():
    """With one answer of each kind the standard error is that of a coin, and the interval Wilson's of one throw."""
    z2 = stats.norm.ppf(0.975) ** 2
    assert own.auc(np.array([True, False]), np.array([3.0, 1.0])).interval == pytest.approx((1 / (1 + z2), 1))
    assert own.auc(np.array([True, False]), np.array([1.0, 3.0])).interval == pytest.approx((0, z2 / (1 + z2)))


def test_cohen_kappa_against_scikit_learn():
    from sklearn.metrics import cohen_kappa_score

    rng = np.random.default_rng(3)
    for _ in range(20):
        first = rng.integers(0, 2, 30)
        second = np.where(rng.random(30) < 0.7, first, 1 - first)
        assert own.cohen_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))


def test_pooled_interval_widens_with_readers_that_differ():
    rng = np.random.default_rng(4)
    stratum = np.array(["real", "synthetic"] * 50)
    alike = (rng.random((6, 100)) < 0.7).astype(float)
    skills = np.array([0.5, 0.55, 0.6, 0.8, 0.85, 0.9])[:, None]
    apart = (rng.random((6, 100)) < skills).astype(float)
    narrow, wide = (own.pooled_interval(one, stratum, 500, 0) for one in (alike, apart))
    assert wide[1] - wide[0] > 1.5 * (narrow[1] - narrow[0])
    assert narrow[0] < 0.7 < narrow[1]


@pytest.mark.parametrize("hits", [0, 3, 5, 8, 10])
def test_pooled_interval_of_one_reader_is_exact(hits):
    right = np.concatenate([np.ones(hits), np.zeros(10 - hits), np.full(3, np.nan)])[None]
    assert own.pooled_interval(right, np.array(["a"] * 13), 200, 0) == own.proportion(hits, 10).interval


@pytest.mark.parametrize("readers", [1, 2, 5])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_pooled_interval_of_answers_that_are_all_alike_has_a_width(readers, value):
    right = np.full((readers, 4), value)
    assert own.pooled_interval(right, np.array(["a", "b"] * 2), 200, 0) == own.proportion(int(4 * value), 4).interval


def test_pooled_interval_of_answers_with_gaps():
    right = np.array([[1.0, np.nan, 0.0, 1.0], [np.nan, 1.0, 1.0, 0.0]])
    low, high = own.pooled_interval(right, np.array(["a", "a", "b", "b"]), 200, 0)
    assert 0 <= low <= high <= 1
    assert own.pooled_interval(np.full((1, 3), np.nan), np.array(["a"] * 3), 100, 0) is None


def test_rank_correlation_against_scipy():
    rng = np.random.default_rng(5)
    x = rng.normal(size=60)
    y = x + rng.normal(size=60)
    found = own.rank_correlation(x, y, 300, 0)
    assert found.value == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found.interval[0] < found.value < found.interval[1]
