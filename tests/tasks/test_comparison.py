"""Comparison of systems by patients: a null is inconclusive, a real difference is found, one patient says nothing."""

import numpy as np
import pytest

from medaug_cli.metrics.classification import Classified
from medaug_cli.metrics.segmentation import Overlap, overlap
from medaug_cli.tasks.classification import ClassAnswers, Classification
from medaug_cli.tasks.report import lone_words, rows_of
from medaug_cli.tasks.segmentation import MaskAnswers, Segmentation, mask_remarks

PATIENTS = 30
MEASURES = Classification.measures | Segmentation.measures


def classified(skill, seed, patients=PATIENTS, images=3):
    """Return answers on three images a patient, right with a probability that grows with skill."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(patients) % 2, images)
    logit = skill * (2 * truth - 1) + rng.normal(size=len(truth)) + np.repeat(rng.normal(size=patients), images) / 2
    p = 1 / (1 + np.exp(-logit))
    return ClassAnswers(
        Classified(truth, np.stack([1 - p, p], 1), ("benign", "malignant")), np.repeat(np.arange(patients), images)
    )


def outlined(error, seed, patients=PATIENTS):
    """Return overlaps of discs with discs that are moved by an error."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(patients):
        truth = np.zeros((24, 24), bool)
        truth[8:16, 8:16] = True
        shift = int(rng.integers(0, error + 1))
        rows.append(overlap(truth, np.roll(truth, shift, 1)))
    return MaskAnswers({"lesion": rows}, np.arange(patients))


@pytest.mark.parametrize("make", [lambda s: classified(1.0, s), lambda s: outlined(3, s)], ids=["classes", "masks"])
def test_a_system_does_not_differ_from_itself(make):
    first, second = rows_of({"a": [make(0)], "b": [make(0)]}, PATIENTS, 300, 0, MEASURES)
    assert not first.against_first
    for name, compared in second.against_first.items():
        assert first.values[name] == second.values[name]
        if compared is not None:
            assert compared.difference == 0
            assert compared.verdict == "inconclusive"


def test_a_better_classifier_is_called_better():
    systems = {"a": [classified(0.2, s) for s in (1, 2)], "b": [classified(3.0, s) for s in (3, 4)]}
    first, second = rows_of(systems, PATIENTS, 400, 0, MEASURES)
    for name in ("balanced_accuracy", "auc", "balanced_accuracy by patient"):
        assert second.against_first[name].verdict == "better"
    assert second.against_first["brier"].difference < 0
    assert second.against_first["brier"].verdict == "better"  # lower is
    low, high = first.values["auc"].interval
    assert low < first.values["auc"].value < high
    assert len(first.values["auc"].seeds) == 2


def test_a_better_segmenter_is_called_better():
    first, second = rows_of({"a": [outlined(6, 1)], "b": [outlined(1, 2)]}, PATIENTS, 400, 0, MEASURES)
    assert second.values["dice"].value > first.values["dice"].value
    assert second.against_first["dice"].verdict == "better"
    assert second.against_first["hausdorff95"].difference < 0


def test_who_finds_more_is_not_compared_on_harder_images():
    """B answers as A does, and also finds, four pixels off, what A misses: its distances are no longer for that."""
    found: dict[str, list[Overlap]] = {"a": [], "b": []}
    for k in range(30):
        truth = np.zeros((24, 24), bool)
        truth[8:16, 8:16] = True
        easy = np.roll(truth, k % 2, 1)
        for name, hard in (("a", np.zeros_like(truth)), ("b", np.roll(truth, 4, 0))):
            found[name].append(overlap(truth, easy if k < 20 else hard))
    answers = {name: MaskAnswers({"lesion": rows}, np.arange(30)) for name, rows in found.items()}
    first, second = rows_of({name: [each] for name, each in answers.items()}, 30, 400, 0, MEASURES)
    assert second.values["hausdorff95"].value > first.values["hausdorff95"].value
    for name in ("hausdorff95", "surface_distance"):
        against = second.against_first[name]
        assert (against.difference, against.interval, against.verdict) == (0, (0, 0), "inconclusive")
    assert second.against_first["dice"].verdict == second.against_first["lesion_sensitivity"].verdict == "better"
    shared = "Differences of distances are of the images for which both have one."
    assert shared in mask_remarks(answers)
    assert shared not in mask_remarks({"a": answers["a"], "c": answers["a"]})


def test_one_patient_has_no_interval():
    systems = {"a": [classified(1, 0, patients=1)], "b": [classified(2, 1, patients=1)]}
    first, second = rows_of(systems, 1, 200, 0, MEASURES)
    assert first.values["accuracy"].interval is None
    assert second.against_first == {}


@pytest.mark.parametrize("malignant", [1, 2, 5])
def test_what_rests_on_one_patient_has_no_interval_and_is_told(malignant):
    rng, truth = np.random.default_rng(0), (np.arange(12) < malignant).astype(int)
    systems = {}
    for name, noise in (("a", 2.0), ("b", 0.5)):
        p = 1 / (1 + np.exp(1 - 2 * truth - rng.normal(0, noise, 12)))
        found = Classified(truth, np.stack([1 - p, p], 1), ("benign", "malignant"))
        systems[name] = [ClassAnswers(found, np.arange(12))]
    first, second = rows_of(systems, 12, 300, 0, MEASURES)
    for name in ("auc", "sensitivity[malignant]", "specificity[benign]"):
        assert (first.values[name].interval is None) == (second.against_first[name] is None) == (malignant == 1)
    assert first.values["accuracy"].interval is not None
    said = lone_words([first, second], MEASURES, "image")
    assert len(said) == (malignant == 1)
    assert all("each rests on one image alone: balanced accuracy; AUC;" in each for each in said)


def test_an_exchange_mixes_both_systems_patient_by_patient():
    one, two = classified(1.0, 0), classified(1.0, 1)
    swap = np.zeros((1, PATIENTS))
    swap[0, ::2] = 1
    mixed = one.joined(two, PATIENTS).measure(np.hstack([1 - swap, swap]))
    taken = np.repeat(swap[0] > 0, 3)
    expected = np.where(taken[:, None], two.images.probabilities, one.images.probabilities)
    plain = ClassAnswers(Classified(one.images.truth, expected, one.images.class_names), one.patients)
    for name, value in plain.measure(np.ones((1, PATIENTS))).items():
        assert mixed[name] == pytest.approx(value), name
