"""Intervals and paired tests over patients: against copied patients, exchanged answers and known figures."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scenes import FAR, UNIT, answers_of, data_of, found_of, numbers_of, scenes, scored_of, worked_example
from thoroughness import examples

from medaug_cli.metrics import cohort_of, found_boxes, measures, resampling
from medaug_cli.metrics.analysis import analyse
from medaug_cli.metrics.classification import Classified
from medaug_cli.metrics.detection import DetectionAnswers, merge, on_the_curve
from medaug_cli.metrics.report import Analysis
from medaug_cli.metrics.resampling import (
    Difference,
    System,
    bootstrap_weights,
    compare,
    holm,
    interval,
    permuted,
    resampled_over,
    swaps,
)
from medaug_cli.metrics.table import markdown
from medaug_cli.tasks.classification import ClassAnswers


@examples(60)
@given(scenes(least_boxes=1), st.integers(0, 10**6))
def test_a_resample_is_the_same_as_copying_its_patients(scene, seed):
    data, [found] = scene
    cohort = cohort_of(data)
    weights = bootstrap_weights(len(cohort.patients), 1, seed)
    copied, copied_found = repeated(data, found, dict(zip(cohort.patients, weights[0].astype(int), strict=True)))
    assume(len(copied.truth.images))
    resampled = answers_of(data, found).measure(weights)
    plain = numbers_of(copied, copied_found)
    if ((cohort.boxes.sum(0) > 0) & (weights[0] @ cohort.boxes == 0)).any():
        plain["mAP"] = np.nan  # not the mean of fewer labels
    assert {name: value[0] for name, value in resampled.items()} == pytest.approx(plain, nan_ok=True)


def repeated(data, found, times):
    """Copy the images of each patient, as a resample that holds them several times would."""
    images = [i for i, patient in enumerate(data.patients) for _ in range(times[patient])]
    boxes = [data.truth.boxes[data.truth.images == i] for i in images]
    labels = [data.truth.labels[data.truth.images == i] for i in images]
    rows = [found.images == i for i in images]
    answers = [(found.boxes[row], found.scores[row], found.labels[row]) for row in rows]
    return data_of(boxes, labels, [data.patients[i] for i in images]), found_boxes(answers)


def test_resamples_draw_as_many_patients_as_there_are_and_depend_on_the_seed_alone():
    weights = bootstrap_weights(7, 500, 3)
    assert weights.shape == (500, 7)
    assert (weights.sum(1) == 7).all()
    assert (weights == bootstrap_weights(7, 500, 3)).all()
    assert (weights != bootstrap_weights(7, 500, 4)).any()
    assert weights.mean(0) == pytest.approx(np.ones(7), abs=0.2)
    assert set(np.unique(swaps(7, 500, 3))) == {0, 1}


def cohort_with(sensitivities, slices=4):
    """Return data of one box a slice, and a detector for each sequence of patients' sensitivities."""
    patients = [f"p{i:02d}" for i in range(len(sensitivities[0])) for _ in range(slices)]
    data = data_of([np.array([UNIT])] * len(patients), patients=patients)
    answers = []
    for wanted in sensitivities:
        hits = [k < round(share * slices) for share in wanted for k in range(slices)]
        rows = [(i, UNIT if hit else FAR, 0.9 - i / 1000, 0) for i, hit in enumerate(hits)]
        answers.append(found_of(*rows, images=len(patients)))
    return data, answers


def test_the_interval_of_the_mean_of_independent_patients_is_the_textbook_one():
    shares = np.tile([0.25, 0.5, 0.75, 1.0], 10)
    data, [found] = cohort_with([shares])
    weights = bootstrap_weights(40, 4000, 0)
    low, high = interval(answers_of(data, found).measure(weights)["sensitivity"])
    error = 1.96 * shares.std() / np.sqrt(40)
    assert (low, high) == pytest.approx((shares.mean() - error, shares.mean() + error), abs=0.012)


def test_patients_and_not_slices_are_resampled():
    """Two patients, one found wholly and one not at all: the interval reaches both, whatever the slices."""
    data, [found] = cohort_with([[0.0, 1.0]], slices=50)
    weights = bootstrap_weights(2, 1000, 0)
    values = answers_of(data, found).measure(weights)["sensitivity"]
    assert interval(values) == (0, 1)


@examples(40)
@given(scenes(least_boxes=1))
def test_a_detector_does_not_differ_from_itself(scene):
    data, [found] = scene
    for paired in compared(data, found, found, 100).values():
        assert paired is None or (paired.difference, paired.interval, paired.p, paired.p_bootstrap) == (0, (0, 0), 1, 1)


def compared(data, first, second, resamples=1000):
    patients = len(cohort_of(data).patients)
    weights, swap = bootstrap_weights(patients, resamples, 0), swaps(patients, resamples, 0)
    return pairwise(answers_of(data, first), answers_of(data, second), weights, swap)


def pairwise(first, second, weights, swap):
    """Compare two detectors of one seed each."""
    over = resampled_over(first, weights.shape[1])
    systems = [System.of(name, [each], weights, over, 0) for name, each in (("first", first), ("second", second))]
    return compare(*systems, swap)


@examples(40)
@given(scenes(detectors=2, least_boxes=1))
def test_the_difference_has_the_sign_of_the_order(scene):
    data, [first, second] = scene
    there, back = compared(data, first, second, 100), compared(data, second, first, 100)
    observed = numbers_of(data, second), numbers_of(data, first)
    for name, paired in there.items():
        if paired is None:
            continue
        assert paired.difference == pytest.approx(observed[0][name] - observed[1][name])
        assert paired.interval[0] <= paired.interval[1]
        assert (back[name].difference, back[name].interval) == (
            pytest.approx(-paired.difference), pytest.approx((-paired.interval[1], -paired.interval[0])),
        )  # fmt: skip


@examples(60)
@given(scenes(detectors=2, least_boxes=1))
def test_exchanging_no_patient_or_all_gives_the_difference_and_its_opposite(scene):
    data, [first, second] = scene
    cohort = cohort_of(data)
    swap = np.array([[0.0], [1.0]]).repeat(len(cohort.patients), 1)
    exchanged = permuted(answers_of(data, first), answers_of(data, second), swap)
    before, after = numbers_of(data, first), numbers_of(data, second)
    for name, values in exchanged.items():
        assert values.tolist() == pytest.approx([after[name] - before[name], before[name] - after[name]], nan_ok=True)


@examples(40)
@given(scenes(detectors=2, least_boxes=1))
def test_exchanging_one_patient_is_giving_each_detector_the_others_answers(scene):
    data, [first, second] = scene
    cohort = cohort_of(data)
    swap = (np.arange(len(cohort.patients)) == 0).astype(float)[None]
    exchanged = permuted(answers_of(data, first), answers_of(data, second), swap)
    one, other = (exchange(data, cohort, *pair) for pair in ((first, second), (second, first)))
    before, after = numbers_of(data, one), numbers_of(data, other)
    for name, values in exchanged.items():
        assert values[0] == pytest.approx(after[name] - before[name], nan_ok=True)


@pytest.mark.parametrize("seed", range(20))
def test_equal_scores_are_exchanged_in_the_order_of_images(seed):
    """Average precision depends on the order of equal scores: it must not be which detector was named first."""
    random, slices = np.random.default_rng(seed), 12
    data = data_of([np.array([UNIT])] * slices, patients=[f"p{i // 2}" for i in range(slices)])
    first, second = (
        found_of(*rows, images=slices)
        for rows in (
            [(i, UNIT if hit else FAR, 0.9, 0) for i in range(slices) for hit in random.random(2) < 0.4]
            for _ in range(2)
        )
    )
    cohort = cohort_of(data)
    one, other = exchange(data, cohort, first, second), exchange(data, cohort, second, first)
    swap = (np.arange(len(cohort.patients)) == 0).astype(float)[None]
    exchanged = permuted(answers_of(data, first), answers_of(data, second), swap)["mAP"][0]
    assert exchanged == pytest.approx(numbers_of(data, other)["mAP"] - numbers_of(data, one)["mAP"])


def exchange(data, cohort, own, others):
    """Return a detector's detections with those of the other one on the first patient."""
    answers = []
    for i in range(len(data)):
        found = others if cohort.patient_of[i] == 0 else own
        row = found.images == i
        answers.append((found.boxes[row], found.scores[row], found.labels[row]))
    return found_boxes(answers)


def test_a_clear_winner_is_told_from_chance():
    random = np.random.default_rng(0)
    worse = random.choice([0.0, 0.25, 0.5], 30)
    data, [first, second, like_first] = cohort_with([worse, worse + 0.5, np.roll(worse, 7)])
    paired = compared(data, first, second)["sensitivity"]
    assert paired.difference == pytest.approx(0.5)
    assert paired.interval == pytest.approx((0.5, 0.5))
    assert paired.p == pytest.approx(1 / 1001)
    chance = compared(data, first, like_first)["sensitivity"]
    assert chance.difference == 0
    assert chance.interval[0] < 0 < chance.interval[1]
    assert chance.p > 0.5


def test_the_permutation_test_holds_its_level():
    """Of two detectors that are alike, about 5 in 100 comparisons fall below p = 0.05."""
    small = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        data, [first, second] = cohort_with([random.choice([0, 0.25, 0.5, 0.75, 1], 12) for _ in range(2)])
        cohort = cohort_of(data)
        exchanged = pairwise(
            *(DetectionAnswers(scored_of(data, each), cohort, 0.5, 0, (on_the_curve,)) for each in (first, second)),
            bootstrap_weights(12, 100, seed), swaps(12, 400, seed),
        )  # fmt: skip
        small += exchanged["sensitivity"].p < 0.05
    assert 0 <= small <= 10  # binomial: more than 10 of 100 at 0.05 has probability 0.011


def test_two_detectors_make_one_sorted_list():
    data, found = worked_example()
    scored = scored_of(data, found)
    both = merge(scored, scored, 2)
    assert (np.diff(both.scores) <= 0).all()
    assert np.bincount(both.units, minlength=4).tolist() == np.tile(np.bincount(scored.units, minlength=2), 2).tolist()
    assert both.hit.sum(0).tolist() == (2 * scored.hit.sum(0)).tolist()


def test_holm_by_hand():
    def of(p):
        return Difference(0.1, (0.0, 0.2), p, p)

    assert holm([of(0.01), of(0.04), of(0.03)]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([of(0.5), None, of(0.9)]) == [1, 1, 1]


# the report


def test_the_report_counts_what_was_evaluated():
    data, [first, second] = cohort_with([[0.0, 0.5, 1.0], [0.5, 1.0, 1.0]])
    metrics = analyse(data, {"first": first, "second": second}, Analysis(resamples=200)).metrics
    assert (metrics.slices, metrics.boxes, metrics.patients, metrics.slices_without_boxes) == (12, 12, 3, 0)
    assert metrics.boxes_by_label == {"glioma": 12, "meningioma": 0, "never seen": 0}
    one, other = metrics.rows
    assert one.against_first is None
    assert one.iou["0.5"].sensitivity == pytest.approx(0.5)
    assert other.against_first["0.5"]["sensitivity"].difference == pytest.approx(1 / 3)
    assert one.iou["0.5"].curve_ends_at == pytest.approx(0.5)
    assert one.ap["meningioma"] is None


def test_the_tables_say_their_rule_and_where_curves_end():
    data, [first, second] = cohort_with([[0.0, 0.5, 1.0], [0.5, 1.0, 1.0]])
    text = markdown(analyse(data, {"first": first, "se|cond": second}, Analysis(resamples=200)).metrics)
    assert "101 recalls, IoU 0.5" in text
    assert "Matching rule: coco." in text
    assert "3 patients" in text
    assert "† The curve ends before that rate (first at 0.50;" in text
    assert "se\\|cond" in text
    for block in text.split("## ")[1:]:
        rows = [line.replace("\\|", "") for line in block.splitlines() if line.startswith("|")]
        assert len({row.count("|") for row in rows}) == 1


@pytest.mark.parametrize(("seeds", "said"), [(1, "hold for these"), (2, "resample the seeds of each")])
def test_the_tables_say_whether_intervals_include_other_trainings(seeds, said):
    data, [first, second] = cohort_with([[0.0, 0.5, 1.0], [0.5, 1.0, 1.0]])
    found = {"first": [first, second][:seeds], "second": [second, first][:seeds]}
    text = markdown(analyse(data, found, Analysis(resamples=50)).metrics)
    assert [f"Intervals {words}" in text for words in (said, "hold for", "resample the")].count(True) == 2


@examples(15)
@given(scenes(detectors=2))
def test_every_scene_can_be_reported(scene):
    data, [first, second] = scene
    metrics = analyse(data, {"first": first, "second": second}, Analysis(resamples=100, coco=True)).metrics
    for row in metrics.rows:
        assert len(row.coco) == 12
        for at in row.iou.values():
            for name, limits in at.interval.items():
                assert limits is None or limits[0] <= limits[1], name
    assert markdown(metrics).startswith("# Detection results")


def test_strata_keep_their_patients_in_every_resample():
    strata = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [10, 12, 15]))
    weights = bootstrap_weights(37, 300, 1, strata)
    for stratum in range(3):
        own = weights[:, strata == stratum]
        assert (own.sum(1) == own.shape[1]).all()
        assert own.std() > 0
    assert (bootstrap_weights(37, 300, 1, np.zeros(37, int)) == bootstrap_weights(37, 300, 1)).all()


@pytest.mark.parametrize("folds", [3, 5, 10, 20])
def test_few_patients_a_fold_do_not_narrow_the_interval(folds):
    """Twenty patients, whatever their folds: the spread of the mean is the textbook one, not that within folds."""
    from tiny import CountAnswers

    errors = np.random.default_rng(1).normal(0, 1, 20)
    weights = bootstrap_weights(20, 4000, 0, np.arange(20) % folds)
    spread = CountAnswers(errors, np.arange(20)).measure(weights)["error"].std()
    assert spread == pytest.approx(errors.std() / np.sqrt(20), rel=0.06)


def test_seeds_are_resampled_in_each_stratum_by_itself():
    """Networks of folds are worth more or less independently: the spread of the mean is that of K times S of them."""
    from tiny import CountAnswers

    folds, seeds, patients = 5, 3, 20
    strata = np.arange(patients) % folds
    worth = np.random.default_rng(0).normal(0, 1, (seeds, folds))
    answers = [CountAnswers(worth[k][strata], np.arange(patients)) for k in range(seeds)]
    weights = np.ones((4000, patients))  # patients are as they are: what spreads are the seeds alone
    over = {"error": patients}
    system = System.of("arm", answers, weights, over, 0, strata)
    assert system.mean("error") == pytest.approx(worth.mean())
    spread = system.resampled("error")
    assert spread.mean() == pytest.approx(worth.mean(), abs=0.02)
    expected = np.sqrt((worth.var(0) / seeds).sum()) / folds
    assert spread.std() == pytest.approx(expected, rel=0.06)
    assert System.of("arm", answers[:1], weights, over, 0, strata).resampled("error").std() < 1e-9


@pytest.mark.parametrize(("deals", "seeds"), [(1, 4), (2, 2), (4, 1), (2, 3)])
def test_deals_whose_folds_cut_across_each_other_are_resampled_as_wholes(deals, seeds):
    """Independent networks: however many deals there are, the spread is that of so many resampled trainings."""
    from tiny import CountAnswers

    folds, patients, spreads = 5, 50, []
    for number in range(30):
        rng = np.random.default_rng(number)
        strata = np.array([rng.permutation(np.arange(patients) % folds) for _ in range(deals)])
        answers = [
            CountAnswers(rng.normal(0, 1, folds)[own], np.arange(patients)) for own in strata for _ in range(seeds)
        ]
        system = System.of("arm", answers, np.ones((300, patients)), {"error": patients}, 0, strata)
        spreads.append(system.resampled("error").var())
    trainings = deals * seeds
    assert np.mean(spreads) == pytest.approx((trainings - 1) / trainings**2 / folds, rel=0.25)


@pytest.mark.parametrize(("with_lesions", "defined"), [(0, False), (1, False), (2, True), (5, True)])
def test_a_number_that_rests_on_one_patient_has_no_interval(with_lesions, defined):
    boxes = [np.array([UNIT]) if i < with_lesions else np.zeros((0, 4)) for i in range(5)]
    data = data_of(boxes, patients=[f"p{i}" for i in range(5)])
    answers = answers_of(data, found_of((0, UNIT, 0.9, 0), (3, FAR, 0.8, 0), images=5))
    assert (resampled_over(answers, 5)["sensitivity"] > 1) is defined
    assert resampled_over(answers, 5)["fps_per_slice"] == 5


@pytest.mark.parametrize("case", range(16))
def test_numbers_that_rest_on_one_of_many_patients_are_found_by_leaving_out_groups(monkeypatch, case):
    """Two in three numbers of classes rest on one patient here; groups of patients tell as one by one does."""
    rng = np.random.default_rng(case)
    patients, classes = 37, 6
    truth = np.concatenate([np.full(times, k) for k, times in enumerate([*rng.integers(0, 4, classes - 1), 1])])
    truth = rng.permutation(np.concatenate([truth, np.zeros(patients - len(truth), int)]))
    answers = ClassAnswers(
        Classified(truth, rng.dirichlet(np.ones(classes), patients), tuple("abcdef")), rng.permutation(patients) // 2
    )
    one_by_one = resampled_over(answers, 19)
    monkeypatch.setattr(resampling, "FEW", 2)
    assert resampled_over(answers, 19) == one_by_one
    assert set(one_by_one.values()) == {1, 19}


def test_many_patients_are_not_left_out_one_by_one():
    """A set of 25,600 images without patients would ask for a square of weights: 5 GB, and hours."""
    asked = []

    class Few:
        def measure(self, weights):
            asked.append(weights.shape)
            lesions = weights[:, [7, 4000]]
            return {"all": 0 * weights.sum(1), "two": lesions.sum(1) / lesions.sum(1), "one": weights[:, 9] ** 0 / (
                weights[:, 9] > 0)}  # fmt: skip

    with np.errstate(divide="ignore", invalid="ignore"):
        assert resampled_over(Few(), 5000) == {"all": 5000, "two": 5000, "one": 1}
    assert sum(rows for rows, _ in asked) < 300


def test_weightings_are_measured_some_at_a_time_where_there_are_many(monkeypatch):
    rng = np.random.default_rng(0)
    first, second = (
        ClassAnswers(Classified(rng.integers(0, 2, 30), rng.dirichlet((1, 1), 30), ("a", "b")), np.arange(30) // 3)
        for _ in range(2)
    )
    weights, swap = bootstrap_weights(10, 50, 0), swaps(10, 50, 0)
    whole = first.measure(weights), permuted(first, second, swap)
    monkeypatch.setattr(measures, "AT_ONCE", 100)
    some = first.measure(weights), permuted(first, second, swap)
    for one, other in zip(whole, some, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_allclose(one[name], other[name], atol=1e-12)
