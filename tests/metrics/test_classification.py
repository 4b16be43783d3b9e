"""Classification measures against scikit-learn, with every image counted as often as its weight says."""

import numpy as np
import pytest
from sklearn import metrics as sk

from medaug_cli.errors import BadInput
from medaug_cli.metrics.classification import (
    Classified,
    by_patient,
    calibration_error,
    confusion,
    measures,
    sensitivity_at,
)

NAMES = ("benign", "malignant", "normal")


def drawn(rng, n=40, k=3, steps=0):
    scores = rng.random((n, k))
    if steps:  # ties
        scores = np.ceil(scores * steps)
    truth = rng.integers(0, k, n)
    return Classified(truth, scores / scores.sum(1, keepdims=True), tuple(NAMES[:k]))


@pytest.mark.parametrize("seed", range(200))
def test_against_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    answers = drawn(rng, int(rng.integers(4, 60)), 2 + seed % 2, 3 * (seed % 3))
    weights = rng.integers(0, 4, (2, len(answers.truth))).astype(float)
    weights[0] = 1
    found = measures(answers, weights)
    for row, weight in [*enumerate(weights)][seed // 2 % 2 :: 2]:  # one of the two: they are measured together
        taken = weight > 0
        truth, guess, w = answers.truth[taken], answers.predicted[taken], weight[taken]
        if not len(truth):
            continue
        assert found["accuracy"][row] == pytest.approx(sk.accuracy_score(truth, guess, sample_weight=w))
        seen = np.unique(truth)
        expected = sk.recall_score(truth, guess, labels=seen, average="macro", sample_weight=w)
        if len(seen) < len(np.unique(answers.truth)):
            expected = np.nan  # not the mean of fewer classes
        assert found["balanced_accuracy"][row] == pytest.approx(expected, nan_ok=True)
        table = sk.confusion_matrix(truth, guess, labels=range(len(answers.class_names)), sample_weight=w)
        assert confusion(answers, weights)[row] == pytest.approx(table)
        for number, name in enumerate(answers.class_names):
            positive, scores = truth == number, answers.probabilities[taken, number]
            if positive.all() or not positive.any():
                assert np.isnan(found[f"auc[{name}]"][row])
                continue
            area = sk.roc_auc_score(positive, scores, sample_weight=w)
            assert found[f"auc[{name}]"][row] == pytest.approx(area)
            wrong, right, _ = sk.roc_curve(positive, scores, sample_weight=w, drop_intermediate=False)
            best = right[wrong <= 0.1 + 1e-9].max()
            assert found[f"sensitivity at 90% specificity[{name}]"][row] == pytest.approx(best)
        if len(answers.class_names) == 2:
            score = sk.brier_score_loss(truth, answers.probabilities[taken, 1], sample_weight=w, pos_label=1)
            assert found["brier"][row] == pytest.approx(score)


def test_brier_score_of_three_classes():
    answers = Classified(np.array([0, 2]), np.array([[0.8, 0.1, 0.1], [0.2, 0.3, 0.5]]), NAMES)
    expected = np.mean([0.2**2 + 0.1**2 + 0.1**2, 0.2**2 + 0.3**2 + 0.5**2])
    assert measures(answers, np.ones((1, 2)))["brier"][0] == pytest.approx(expected)


def test_calibration_error_of_known_bins():
    probabilities = np.array([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 10)
    truth = np.array([0] * 8 + [1] * 2 + [0] * 3 + [1] * 7)
    error = calibration_error(Classified(truth, probabilities, NAMES[:2]), np.ones((1, 20)))
    assert error[0] == pytest.approx((abs(0.8 - 0.9) + abs(0.3 - 0.6)) / 2)


def test_a_patient_is_the_mean_of_its_images():
    answers = Classified(np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]), NAMES[:2])
    whole, patients = by_patient(answers, ["b", "b", "a"])
    assert patients == ["a", "b"]
    assert whole.truth.tolist() == [1, 0]
    assert whole.probabilities == pytest.approx(np.array([[0.2, 0.8], [0.65, 0.35]]))


def test_a_class_without_images_is_left_out_of_the_means():
    answers = Classified(np.array([0, 1, 1]), np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1]]), NAMES)
    found = measures(answers, np.ones((1, 3)))
    assert found["balanced_accuracy"][0] == pytest.approx(0.75)
    assert np.isnan(found["sensitivity[normal]"][0])
    assert np.isnan(found["auc[normal]"][0])
    assert found["auc"][0] == pytest.approx(np.mean([found["auc[benign]"][0], found["auc[malignant]"][0]]))


def test_a_mean_over_classes_is_not_one_of_fewer_where_a_resample_lacks_one():
    truth = np.array([0, 0, 1, 1, 2])
    answers = Classified(truth, np.eye(3)[[0, 0, 1, 2, 2]], NAMES)
    weights = np.array([[1.0, 1, 1, 1, 1], [2, 1, 1, 1, 0], [0, 0, 0, 0, 5]])
    found = measures(answers, weights)
    assert found["balanced_accuracy"] == pytest.approx([2.5 / 3, np.nan, np.nan], nan_ok=True)
    assert np.isnan(found["auc"]).tolist() == [False, True, True]
    assert found["accuracy"] == pytest.approx([0.8, 0.8, 1])


def test_no_threshold_is_specific_enough():
    scores = np.array([0.9, 0.9, 0.1])
    found = sensitivity_at(scores, np.array([True, False, False]), np.ones((1, 3)))
    assert found[0] == 0


@pytest.mark.parametrize(
    ("values", "words"),
    [([[0.5, 0.6]], "sum to 1"), ([[np.nan, 1.0]], "NaN"), ([[1.5, -0.5]], "sum to 1"), ([[1.0]], r"shape \(1, 2\)")],
)
def test_what_is_no_probability_is_refused(values, words):
    with pytest.raises(BadInput, match=words):
        Classified(np.array([0]), np.array(values), NAMES[:2])
