"""A study: nested patients, every step kept, and verdicts that find what is planted and nothing else."""

import csv
import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import make_records, make_store

from medaug_cli.errors import BadInput, MissingPlugin, UsageError
from medaug_cli.files import read_json
from medaug_cli.metrics.operating import Cohort, Scored
from medaug_cli.metrics.resampling import verdict
from medaug_cli.store import Store, digest_patient, likeness, open_store
from medaug_cli.store.likeness import thumbnails
from medaug_cli.store.writing import write_store
from medaug_cli.study import StudyOptions, parse_arm, run_study
from medaug_cli.study.analysis import ArmResult, Comparison, StudyReport
from medaug_cli.study.arms import parse_arms
from medaug_cli.study.page import _beside, claim_sentence
from medaug_cli.study.subsets import chosen_patients, subset
from medaug_cli.study.unannotated import with_rest
from medaug_cli.tasks.detection import Detection, FoundAnswers
from medaug_cli.testing.trial import TrialRun

pytestmark = pytest.mark.usefixtures("tiny_plugins", "undrawn", "few_trees")

DOCS = Path(__file__).parents[2] / "docs"
BRIGHT = {"tiny": {"amount": 0.6}}  # lesions that the filter keeps


@pytest.fixture
def real(tmp_path):
    """Return a store of four training patients, and of three that are held out in each split."""
    records = list(make_records(60))
    for i, record in enumerate(records):
        if record.split != "train":
            record.patient += "abc"[i // 6 % 3]
    make_store(tmp_path / "real.h5", records)
    return tmp_path / "real.h5"


def options(real, arms=("tiny",), **changed):
    chosen = {
        "network": "tiny", "steps": 4, "kimg": 0.02, "seeds": 2, "resamples": 100, "device": "cpu",
        "precision": "32", **changed,
    }  # fmt: skip
    return StudyOptions(real, parse_arms(list(arms), "tiny"), real.parent / "study", **chosen)


def test_a_smaller_share_lies_in_every_larger_one(real, tmp_path):
    store = open_store(real)
    shares = [chosen_patients(store, Detection(), fraction, 0) for fraction in (0.25, 0.5, 0.75, 1.0)]
    assert [len(share) for share in shares] == [1, 2, 3, 4]
    assert all(a < b for a, b in pairwise(shares))
    part = subset(store, Detection(), 0.5, 0, tmp_path / "part/real.h5")
    assert {part.patients[i] for i in part.indices("train")} == shares[1]
    for split in ("val", "test"):
        ours, theirs = part.indices(split), store.indices(split)
        assert [part.ids[i] for i in ours] == [store.ids[i] for i in theirs]
        assert (part.images[ours] == store.images[theirs]).all()


def with_settings(path, settings):
    """Rewrite a store as one that other settings made."""
    store = open_store(path)
    write_store(path.with_suffix(".new"), store.info.model_copy(update={"settings": settings}), [store])
    return open_store(path.with_suffix(".new").replace(path))


def test_a_share_says_how_its_images_were_prepared_and_older_ones_are_kept(real, tmp_path):
    prepared = {"size": 16, "mirrored": False}
    store = with_settings(real, prepared)
    part = subset(store, Detection(), 0.5, 0, tmp_path / "part/real.h5")
    more = with_rest(store, part, Detection(), 0.5, 0, tmp_path / "part/more.h5")
    assert part.info.settings == prepared | {"fraction": 0.5}
    assert more.info.settings == prepared | {"fraction": 0.5, "unannotated": "rest"}
    older = with_settings(part.path, {"fraction": 0.5})
    assert subset(store, Detection(), 0.5, 0, part.path).hash == older.hash
    with pytest.raises(UsageError, match="other settings"):
        subset(store, Detection(), 0.75, 0, part.path)


def test_a_share_that_is_there_is_not_read_again(real, tmp_path, monkeypatch):
    """Every network of a study asks for its share: a large store must not be read through each time."""
    store = open_store(real)
    first = subset(store, Detection(), 0.5, 0, tmp_path / "part/real.h5")
    more = with_rest(store, first, Detection(), 0.5, 0, tmp_path / "part/more.h5")
    monkeypatch.setattr(Store, "record", lambda self, index: pytest.fail("an image is read again"))
    assert subset(store, Detection(), 0.5, 0, tmp_path / "part/real.h5").hash == first.hash
    assert with_rest(store, first, Detection(), 0.5, 0, tmp_path / "part/more.h5").hash == more.hash


@pytest.mark.drawn
def test_a_study_leaves_numbers_rows_and_a_page(real):
    report = run_study(options(real, fractions=(0.5, 1.0)))
    folder = real.parent / "study"
    said = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    assert [part["patients"] for part in said["fractions"]] == [2, 4]
    assert [arm.arm for arm in report.fractions[0].arms] == ["real-only", "tiny"]
    assert report.fractions[0].arms[0].against_real_only == {}
    rows = list(csv.DictReader((folder / "study.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 2 * 2 * 2 * len(report.fractions[0].arms[0].mean)
    page = (folder / "study.html").read_text(encoding="utf-8")
    assert "Do synthetic images help?" in page
    assert "the generated arm, tiny, changes" in page
    assert "best on validation" not in page.partition("How to read this")[0]
    assert "data:image/svg+xml" in page
    for part in report.fractions:
        for arm in part.arms:
            for name, mean in arm.mean.items():
                assert mean == pytest.approx(np.mean([values[name] for values in arm.seeds.values()]))


def test_nothing_is_done_twice_and_a_study_grows(real):
    first = run_study(options(real, seeds=1))
    weights = sorted((real.parent / "study").rglob("*.safetensors"))
    times = [path.stat().st_mtime_ns for path in weights]
    assert run_study(options(real, seeds=1)) == first
    grown = run_study(options(real, seeds=2))
    assert [path.stat().st_mtime_ns for path in weights] == times
    assert len(sorted((real.parent / "study").rglob("*.safetensors"))) == 2 * len(weights)
    assert grown.fractions[0].arms[1].seeds["0"] == first.fractions[0].arms[1].seeds["0"]


def test_another_seed_trains_and_draws_anew(real):
    weights, studied = {}, {}
    for seed in (0, 7):
        asked = replace(options(real, seeds=2, seed=seed), out=real.parent / f"study-{seed}")
        run_study(asked)
        paths = [path for kind in ("detector", "generator") for path in sorted(asked.out.rglob(f"{kind}.json"))]
        told = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
        weights[seed] = {each["weights"] for each in told}
        drawn = [open_store(path) for path in sorted(asked.out.rglob("drawn-*.h5"))]
        studied[seed] = [each["seed"] for each in told], [store.info.seed for store in drawn]
    assert studied == {0: ([0, 0, 1, 1, 0, 1], [0, 1]), 7: ([7000, 7000, 7001, 7001, 7000, 7001], [7000, 7001])}
    assert not weights[0] & weights[7]


def test_a_dry_run_says_what_would_be_done_and_does_nothing(real):
    said = []
    assert run_study(options(real, fractions=(0.5, 1.0), dry_run=True, announce=said.append)) is None
    assert "8 detectors (tiny), 0 of them trained, and 4 generators" in said[0]
    assert "by a short measurement" in said[0]
    assert "50 % (2 patients), 100 % (4 patients)" in said[0]
    assert not (real.parent / "study").exists()


def test_a_plan_does_not_count_generators_that_are_there(real, monkeypatch):
    said, timed = [], []
    monkeypatch.setattr("medaug_cli.study.running.estimate", lambda *asked: timed.append(asked[2:]) or 1.0)
    run_study(options(real, seeds=1))
    (gone,) = (real.parent / "study").glob("**/detectors/tiny")
    shutil.rmtree(gone)
    for seeds in (1, 2):
        run_study(options(real, seeds=seeds, dry_run=True, announce=said.append))
    assert "1 of them trained, and 1 generator, 1 of them trained: arms" in said[0]
    assert [(networks, [arm.name for arm in left]) for networks, left in timed[1:]] == [(1, []), (3, ["tiny"])]


def test_a_plan_does_not_wait_for_slow_steps_to_be_repeated(real, monkeypatch):
    fitted = []
    monkeypatch.setattr("medaug_cli.study.timing.TrialRun", lambda *a, **k: fitted.append(a) or TrialRun(*a, **k))
    for patience, fits in ((1e9, 3), (0.0, 1)):
        monkeypatch.setattr("medaug_cli.study.timing.PATIENCE", patience)
        fitted.clear()
        run_study(options(real, arms=("copy-paste",), dry_run=True))
        assert len(fitted) == fits


def test_every_use_of_synthetic_images_is_an_arm_of_its_own(real):
    arms = ("early-stopped", "quick", "tiny@0.5", "tiny@2+filter", "tiny+only", "tiny+pretrain")
    report = run_study(options(real, arms, seeds=1, generator_settings=BRIGHT))
    folder = real.parent / "study/patients100/seed0"
    told = {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in folder.rglob("detector.json")}
    assert set(told) == {"real-only", *arms, "tiny+pretrain, first"}
    assert told["early-stopped"]["steps"] == 2
    assert told["quick"]["settings"]["pause"] == 0.001
    assert told["tiny@0.5"]["ratio"] == 0.5
    images = {name: [part["images"] for part in each["synthetic"]] for name, each in told.items()}
    assert images["tiny@0.5"] == [20]
    assert images["tiny@2+filter"][0] <= 80
    assert told["tiny+only"]["synthetic_only"]
    assert told["tiny+pretrain"]["start"] == told["tiny+pretrain, first"]["weights"]
    assert told["tiny+pretrain"]["synthetic"] == told["tiny+pretrain, first"]["synthetic"]
    assert [told[name]["steps"] for name in ("tiny+pretrain, first", "tiny+pretrain", "real-only")] == [2, 2, 4]
    assert len(list(folder.rglob("generator.json"))) == 1
    results = {arm.arm: arm for arm in report.fractions[0].arms}
    assert [arm.learnt for arm in results.values()] == [False] * 3 + [True] * 4
    generated = [arm for arm in results.values() if arm.learnt]
    assert sum(arm.chosen for arm in generated) == 1
    best = next(arm for arm in generated if arm.chosen)
    assert best.validation == max(arm.validation for arm in generated)
    assert report.fractions[0].claim.arm == best.arm
    assert set(report.fractions[0].claim.ahead_of) == {"early-stopped", "quick"}
    assert set(best.against) == {"real-only", "early-stopped", "quick"}
    assert {picture.features for picture in best.similarity} == {"pixels", "texture"}


def test_machines_share_a_study_and_the_last_one_compares(real):
    arms = ("tiny", "tiny+filter", "early-stopped")
    whole = run_study(options(real, arms, seeds=1, generator_settings=BRIGHT))
    study = real.parent / "study"
    study.rename(real.parent / "whole")
    said = []
    shared = [
        options(real, arms, seeds=1, generator_settings=BRIGHT, num_parts=2, part_id=i, announce=said.append)
        for i in range(2)
    ]
    assert run_study(shared[1]) is None
    assert "detectors of other parts are not there yet" in said[-1]
    assert run_study(shared[0]) == whole
    assert (study / "study.json").read_bytes() == (real.parent / "whole/study.json").read_bytes()


def test_the_opening_of_a_split_is_written_down(real):
    assert run_study(options(real, seeds=1, split="val")).opened == 1
    assert run_study(options(real, seeds=1)).opened == 1
    assert run_study(options(real, seeds=1)).opened == 1
    assert run_study(options(real, ("tiny", "tiny@2"), seeds=1)).opened == 2
    plans = json.loads((real.parent / "study/opened.json").read_text(encoding="utf-8"))
    assert [plan["split"] for plan in plans] == ["val", "test", "test"]
    assert plans[2]["arms"] == ["real-only", "tiny", "tiny@2"]


@pytest.mark.parametrize("change", [lambda x: x, lambda x: np.clip(x * 1.1, 0, 255)], ids=["copy", "brighter"])
def test_the_same_slice_under_two_names_stops_the_study(tmp_path, change):
    records = list(make_records(60))
    train = next(r for r in records if r.split == "train")
    test = next(r for r in records if r.split == "test")
    test.image = change(train.image.astype(float)).astype(np.uint8)
    make_store(tmp_path / "real.h5", records)
    with pytest.raises(BadInput, match=f"{train.id}.*{test.id}.*nearly the same"):
        run_study(options(tmp_path / "real.h5"))
    assert not (tmp_path / "study").exists()


def test_a_slice_in_both_validation_and_test_stops_the_study(tmp_path):
    records = list(make_records(60))
    chosen_by, test = (next(r for r in records if r.split == split) for split in ("val", "test"))
    test.image = chosen_by.image
    make_store(tmp_path / "real.h5", records)
    with pytest.raises(BadInput, match=f"val slice {chosen_by.id}.*test slice {test.id}.*nearly the same"):
        run_study(options(tmp_path / "real.h5"))


def test_a_synthetic_image_in_the_test_split_stops_the_study(tmp_path):
    records = list(make_records(60))
    next(r for r in records if r.split == "test").source = "tiny"
    with pytest.raises(BadInput, match="synthetic"):
        make_store(tmp_path / "real.h5", records)


def test_a_test_patient_in_a_generators_training_list_stops_the_study(real):
    run_study(options(real, seeds=1))
    folder = real.parent / "study/patients100/seed0/synthetic/tiny"
    told = json.loads((folder / "gan/generator.json").read_text(encoding="utf-8"))
    store = open_store(real)
    told["training_patients"].append(digest_patient(store.patients[int(store.indices("test")[0])]))
    (folder / "gan/generator.json").write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(BadInput, match="holds out"):
        run_study(options(real, ("tiny@2",), seeds=1))


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"fractions": (0.0,)}, "--fraction"),
        ({"fractions": (0.3333333333, 1.0, 0.33333334)}, r"0\.3333333333 and 0\.33333334 would share the folder pat"),
        ({"fractions": (0.5, 1.0, 0.99)}, r"--fraction 0\.99 and 1 of .*real\.h5 are the same 4 patients; leave one"),
        ({"seeds": 0}, "--seeds"),
        ({"seeds": 1001}, "--seeds"),
        ({"ratio": 0}, "--ratio"),
        ({"split": "train"}, "--split"),
    ],
)
def test_what_cannot_be_studied_is_named(real, changed, word):
    with pytest.raises(UsageError, match=word):
        run_study(options(real, **changed))
    assert not (real.parent / "study").exists()


def test_arms_are_named_by_their_generator():
    arm = parse_arm("tiny@0.5+filter+pretrain", "tiny")
    assert (arm.generator, arm.ratio, arm.filtered, arm.use) == ("tiny", 0.5, "lesion", "pretrain")
    assert parse_arm("tiny+only", "tiny").use == "only"
    assert parse_arm("early-stopped", "yolov3").steps == 0.5
    assert parse_arm("mosaic", "yolov3").changed == (("mosaic", 1 / 6),)
    assert parse_arm("boxgan@2", "yolov3").family == parse_arm("boxgan+filter", "yolov3").family == "boxgan"
    assert parse_arm("copy-paste", "yolov3").learnt is False
    with pytest.raises(MissingPlugin, match="boxgan"):
        parse_arm("boxgam", "tiny")
    for wrong in ("tiny+only+filter", "tiny@0", "tiny@1.2.3", "@2"):
        with pytest.raises(UsageError, match="RATIO"):
            parse_arm(wrong, "tiny")
    with pytest.raises(UsageError, match="at least one arm"):
        parse_arms([], "tiny")
    with pytest.raises(UsageError, match="twice"):
        parse_arms(["tiny", "tiny"], "tiny")


PATIENTS, SLICES = 30, 5


def cohort():
    ones = np.ones((PATIENTS, 1), np.int64) * SLICES
    names = tuple(f"p{i:02d}" for i in range(PATIENTS))
    return Cohort(names, ones[:, 0], ones, np.repeat(np.arange(PATIENTS), SLICES))


def detector(seed, ability, difficulty):
    """Return a made-up detector: a box on each slice that is found or not, and three false alarms per slice."""
    rng = np.random.default_rng(seed)
    units = np.repeat(np.arange(PATIENTS), SLICES)
    found = rng.random(len(units)) < 1 / (1 + np.exp(-(ability + difficulty[units])))
    scores = np.concatenate([rng.normal(1.5, 1, found.sum()), rng.normal(0, 1, 3 * len(units))])
    images = np.arange(len(units))
    shown = np.concatenate([images[found], np.repeat(images, 3)])
    hit = np.arange(len(scores)) < found.sum()
    order = np.argsort(-scores)
    labels = np.zeros(len(scores), np.int64)
    shown = shown[order]
    return Scored(scores[order], labels, units[shown], shown, np.stack([hit[order]] * 2, 1), (0.5, 0.25))


def studied(number, gain):
    difficulty = np.random.default_rng(number).normal(0, 1, PATIENTS)
    arms = {
        name: [detector(1000 * number + 10 * k + s, ability, difficulty) for s in range(3)]
        for k, (name, ability) in enumerate((("real-only", 0.3), ("arm", 0.3 + gain)))
    }
    found = {name: [FoundAnswers.of(each, cohort(), (0.5,)) for each in seeds] for name, seeds in arms.items()}
    return Comparison(found, PATIENTS, Detection.measures, 300, 0).results()[1].against_real_only


def test_a_planted_null_is_called_inconclusive():
    verdicts = [studied(number, 0.0)["sensitivity_at_1_iou0.5"].verdict for number in range(20)]
    assert verdicts.count("inconclusive") >= 19


def test_a_planted_effect_is_found():
    found = [studied(number, 1.5)["sensitivity_at_1_iou0.5"] for number in range(5)]
    assert all(each.verdict == "better" and each.interval[0] > 0 for each in found)
    assert studied(9, -1.5)["sensitivity_at_1_iou0.5"].verdict == "worse"


def test_a_verdict_needs_both_an_interval_and_a_p():
    assert verdict((0.1, 0.2), 0.01) == "better"
    assert verdict((-0.2, -0.1), 0.01) == "worse"
    assert verdict((0.1, 0.2), 0.06) == "inconclusive"
    assert verdict((-0.1, 0.2), 0.01) == "inconclusive"


def test_a_claim_tells_what_is_worse_from_what_is_not_shown_to_be_better():
    report = read_json(DOCS / "results/study-folds/few/study.json", StudyReport)
    [part] = report.fractions
    assert claim_sentence(report, part).endswith("It is worse than copy-paste (-0.097), pseudo-label (-0.084).")
    one = part.claim.ahead_of["copy-paste"]
    verdicts = {"a": "worse", "b": "better", "c": "inconclusive", "d": "better"}
    mixed = {name: one.model_copy(update={"verdict": verdict}) for name, verdict in verdicts.items()}
    claim = part.claim.model_copy(update={"ahead_of": mixed})
    told = claim_sentence(report, part.model_copy(update={"claim": claim}))
    assert told.endswith(
        "It is better than b, d; it is not shown to be better than c (-0.097); it is worse than a (-0.097)."
    )


@pytest.mark.parametrize(("seeds", "repeat", "said"), [(1, 1, True), (2, 1, False), (1, 2, False)])
def test_a_claim_of_one_training_run_says_so(seeds, repeat, said):
    report = read_json(DOCS / "results/study-folds/few/study.json", StudyReport)
    lone = report.model_copy(update={"settings": {**report.settings, "seeds": seeds}, "deals": report.deals * repeat})
    told = claim_sentence(lone, report.fractions[0])
    assert told.endswith("With one seed, a difference may be that of two training runs.") is said


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        ("boxgan", "alone"),
        ("boxgan[form=mask]@2+filter~lr=0.01", "alone"),
        ("boxgan/unannotated", "and, without their annotations, on the images of the other training patients"),
        ("boxgan[start=a/gan]", "and, before, as the weights of a/gan that it began with, on those of others"),
        ("boxgan[form=mask,start=w]@2", "and, before, as the weights of w that it began with, on those of others"),
        (
            "boxgan[start=w]/unannotated",
            "and, without their annotations, on the images of the other training patients and, before, as the weights "
            "of w that it began with, on those of others",
        ),
    ],
)
def test_a_card_says_all_that_a_generator_has_seen(arm, said):
    assert _beside(ArmResult(arm=arm, seeds={}, mean={}, against={})) == said


@pytest.mark.parametrize(("at_once", "rows"), [(1 << 24, 60), (10 * 256, 10), (300, 1), (1, 1)])
def test_large_images_are_compared_few_at_a_time(real, monkeypatch, at_once, rows):
    store, read = open_store(real), []
    whole = thumbnails(store, np.arange(len(store)))
    monkeypatch.setattr(likeness, "AT_ONCE", at_once)
    plain = Store.read
    monkeypatch.setattr(Store, "read", lambda self, chosen: (read.append(len(chosen)), plain(self, chosen))[1])
    np.testing.assert_array_equal(thumbnails(store, np.arange(len(store))), whole)
    assert max(read) == rows
