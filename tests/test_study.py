"""A study: nested patients, every step kept, and verdicts that find what is planted and nothing else."""

import csv
import json
from itertools import pairwise

import numpy as np
import pytest
from conftest import make_store
from test_kill import medaug

from medaug_cli.errors import MissingPlugin, UsageError
from medaug_cli.metrics.operating import Cohort, Scored
from medaug_cli.store import open_store
from medaug_cli.study import StudyOptions, parse_arm, run_study
from medaug_cli.study.analysis import compare_arms, verdict
from medaug_cli.study.arms import parse_arms
from medaug_cli.study.subsets import chosen_patients, subset

pytestmark = pytest.mark.usefixtures("tiny_plugins")


@pytest.fixture
def real(tmp_path):
    make_store(tmp_path / "real.h5", n=60)
    return tmp_path / "real.h5"


def options(real, arms=("tiny",), **changed):
    chosen = {
        "detector": "tiny", "steps": 4, "kimg": 0.02, "seeds": 2, "resamples": 100, "device": "cpu",
        "precision": "32", **changed,
    }  # fmt: skip
    return StudyOptions(real, parse_arms(list(arms)), real.parent / "study", **chosen)


def test_a_smaller_share_lies_in_every_larger_one(real, tmp_path):
    store = open_store(real)
    shares = [chosen_patients(store, fraction, 0) for fraction in (0.25, 0.5, 0.75, 1.0)]
    assert [len(share) for share in shares] == [1, 2, 3, 4]
    assert all(a < b for a, b in pairwise(shares))
    part = subset(store, 0.5, 0, tmp_path / "part/real.h5")
    assert {part.patients[i] for i in part.indices("train")} == shares[1]
    for split in ("val", "test"):
        ours, theirs = part.indices(split), store.indices(split)
        assert [part.ids[i] for i in ours] == [store.ids[i] for i in theirs]
        assert (part.images[ours] == store.images[theirs]).all()


def test_a_study_leaves_numbers_rows_and_a_page(real):
    report = run_study(options(real, fractions=(0.5, 1.0)))
    folder = real.parent / "study"
    said = json.loads((folder / "study.json").read_text())
    assert [part["patients"] for part in said["fractions"]] == [2, 4]
    assert [arm.arm for arm in report.fractions[0].arms] == ["real-only", "tiny"]
    assert report.fractions[0].arms[0].against_real_only == {}
    rows = list(csv.DictReader((folder / "study.csv").read_text().splitlines()))
    assert len(rows) == 2 * 2 * 2 * len(report.fractions[0].arms[0].mean)
    page = (folder / "study.html").read_text()
    assert "Do synthetic images help?" in page
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


def test_a_dry_run_says_what_would_be_done_and_does_nothing(real):
    said = []
    assert run_study(options(real, fractions=(0.5, 1.0), dry_run=True, announce=said.append)) is None
    assert "8 detectors (tiny) and 4 generators" in said[0]
    assert "50% (2 patients), 100% (4 patients)" in said[0]
    assert not (real.parent / "study").exists()


def test_killed_at_ten_moments_it_ends_the_same(real, tmp_path):
    arguments = [
        "study", "real.h5", "--arm", "tiny", "--detector", "tiny", "--steps", "8", "--set", "pause=0.01", "--kimg",
        "0.02", "--seeds", "2", "--resamples", "100", "--device", "cpu", "--precision", "32", "--out",
    ]  # fmt: skip
    assert medaug([*arguments, "whole"], tmp_path) == 0, (tmp_path / "said.txt").read_text()
    whole = (tmp_path / "whole/study.json").read_bytes()
    for moment in np.random.default_rng(0).uniform(0.1, 0.9, 10):
        medaug([*arguments, "killed"], tmp_path, kill_after=moment)
    assert medaug([*arguments, "killed"], tmp_path) == 0, (tmp_path / "said.txt").read_text()
    assert (tmp_path / "killed/study.json").read_bytes() == whole
    assert not list((tmp_path / "killed").rglob("*.parts"))


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"fractions": (0.0,)}, "--fraction"),
        ({"seeds": 0}, "--seeds"),
        ({"ratio": 0}, "--ratio"),
        ({"split": "train"}, "--split"),
    ],
)
def test_what_cannot_be_studied_is_named(real, changed, word):
    with pytest.raises(UsageError, match=word):
        run_study(options(real, **changed))
    assert not (real.parent / "study").exists()


def test_arms_are_named_by_their_generator():
    assert parse_arm("tiny+filter").filtered
    assert parse_arm("tiny+filter").generator == "tiny"
    with pytest.raises(MissingPlugin, match="boxgan"):
        parse_arm("boxgam")
    with pytest.raises(UsageError, match="at least one arm"):
        parse_arms([])
    with pytest.raises(UsageError, match="twice"):
        parse_arms(["tiny", "tiny"])


PATIENTS, SLICES = 30, 5


def cohort():
    ones = np.ones((PATIENTS, 1), np.int64) * SLICES
    names = tuple(f"p{i:02d}" for i in range(PATIENTS))
    return Cohort(names, ones[:, 0], ones, np.repeat(np.arange(PATIENTS), SLICES))


def detector(seed, ability, difficulty):
    """Return a made-up detector: a box on each slice that is found or not, and three false alarms a slice."""
    rng = np.random.default_rng(seed)
    units = np.repeat(np.arange(PATIENTS), SLICES)
    found = rng.random(len(units)) < 1 / (1 + np.exp(-(ability + difficulty[units])))
    scores = np.concatenate([rng.normal(1.5, 1, found.sum()), rng.normal(0, 1, 3 * len(units))])
    owners = np.concatenate([units[found], np.repeat(units, 3)])
    hit = np.arange(len(scores)) < found.sum()
    order = np.argsort(-scores)
    labels = np.zeros(len(scores), np.int64)
    return Scored(scores[order], labels, owners[order], np.stack([hit[order]] * 2, 1), (0.5, 0.25))


def studied(number, gain):
    difficulty = np.random.default_rng(number).normal(0, 1, PATIENTS)
    arms = {
        name: [detector(1000 * number + 10 * k + s, ability, difficulty) for s in range(3)]
        for k, (name, ability) in enumerate((("real-only", 0.3), ("arm", 0.3 + gain)))
    }
    return compare_arms(arms, cohort(), (0.5,), 0.001, 300, 0)[1].against_real_only


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
