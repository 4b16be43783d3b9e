"""What a plan can show: its smallest difference, what more patients or seeds buy, and where the spread comes from."""

import math
import runpy
from pathlib import Path

import numpy as np
import pytest
from conftest import make_store
from tiny import CountAnswers, Counting

from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import write_json
from medaug_cli.metrics.resampling import verdict
from medaug_cli.study import StudyOptions, run_study
from medaug_cli.study.analysis import Comparison, FractionResult, StudyReport
from medaug_cli.study.arms import parse_arms
from medaug_cli.study.power import KNOWN, Plan, Spread, parse_spread, spread_between, spread_of_pilot
from medaug_cli.tasks.task import task_named

SPREAD = Spread(0.2, 0.04, "here", tested=27)


def test_the_smallest_difference_is_that_of_the_normal_approximation():
    plan = Plan(27, 3)
    assert plan.error(SPREAD) == pytest.approx(math.sqrt(0.2**2 / 27 + 2 * 0.04**2 / 3))
    assert plan.smallest(SPREAD) == pytest.approx((1.959964 + 0.841621) * plan.error(SPREAD), rel=1e-5)
    assert plan.power(SPREAD, plan.smallest(SPREAD)) == pytest.approx(0.8)
    assert plan.power(SPREAD, 0.0) == pytest.approx(0.025)
    strict = Plan(27, 3, comparisons=6)
    assert strict.power(SPREAD, plan.smallest(SPREAD, 6)) == pytest.approx(0.8)


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_half_an_interval_is_what_a_study_prints(seeds):
    arms = arms_of(np.random.default_rng(seeds), 24, patients=2.0, trainings=0.3, seeds=seeds)
    found = [own.against_real_only["error"].interval for own in report_of(arms).fractions[0].arms[1:]]
    halves = [(high - low) / 2 for low, high in found]
    assert np.median(halves) == pytest.approx(Plan(40, seeds).half_width(Spread(2.0, 0.3, "", tested=40)), rel=0.2)


@pytest.mark.parametrize("known", [spread for spreads in KNOWN.values() for spread in spreads])
def test_more_patients_seeds_and_folds_buy_something(known):
    plan = Plan(27, 3)
    assert Plan(54, 3).smallest(known) < plan.smallest(known)
    assert Plan(110, 3, 5).smallest(known) < plan.smallest(known) / 1.7
    seeds = Plan(27, 6).smallest(known)
    assert seeds < plan.smallest(known) if known.trainings else seeds == plan.smallest(known)
    assert Plan(27, 3, comparisons=8).smallest(known) == plan.smallest(known)
    assert known.source.startswith("docs/results/study-")


def report_of(arms, task="counting"):
    arm_results = Comparison(arms, 40, Counting.measures, 1000, 0).results()
    part = FractionResult(fraction=1, patients=50, images=100, arms=arm_results)
    return StudyReport(
        tool_version="0", settings={}, data={}, split="test", opened=1, slices=40, patients=40, task=task,
        fractions=[part],
    )  # fmt: skip


def arms_of(rng, count, patients, trainings, seeds):
    """Return arms whose differences have known spreads over patients, and a spread over trainings of one sign."""
    own = {f"arm {k}": rng.normal(10, patients / math.sqrt(2), 40) for k in range(count)}
    own = {("real-only" if k == "arm 0" else k): each for k, each in own.items()}
    numbers = np.arange(40)
    return {
        name: [CountAnswers(each + rng.normal(0, trainings), numbers) for _ in range(seeds)]
        for name, each in own.items()
    }


def test_a_pilot_gives_back_the_spread_that_made_it(tmp_path):
    arms = arms_of(np.random.default_rng(1), 24, patients=2.0, trainings=0.3, seeds=3)
    write_json(tmp_path / "study.json", report_of(arms).model_dump(mode="json"))
    for path in (tmp_path, tmp_path / "study.json"):
        found = spread_of_pilot(path, "error", "counting", 50)
        assert found.patients == pytest.approx(2.0, rel=0.3)
        assert found.trainings == pytest.approx(0.3, rel=0.25)
        assert (found.tested, found.networks, found.trained) == (40, 1, 50)
    with pytest.raises(BadInput, match="is a study of counting; expected a pilot of detection"):
        spread_of_pilot(tmp_path, "error", "detection", 50)


def test_one_seed_says_nothing_of_trainings(tmp_path):
    arms = arms_of(np.random.default_rng(2), 12, patients=2.0, trainings=0.0, seeds=1)
    write_json(tmp_path / "study.json", report_of(arms).model_dump(mode="json"))
    found = spread_of_pilot(tmp_path, "error", "counting", 50)
    assert found.patients == pytest.approx(2.0, rel=0.3)
    assert found.trainings is None
    assert "one seed" in found.source


def test_a_pilot_without_any_difference_says_nothing():
    for seeds in ([[0.5], [0.5]], [[0.1 + 0.2, 0.3], [0.3, 0.3]]):
        with pytest.raises(BadInput, match="pilot: arms and seeds do not differ, so the spread is not known"):
            spread_between([(0.0, 0.0)], seeds, source="pilot", tested=20)


def test_an_interval_that_trainings_explain_counts_for_patients():
    found = spread_between([(-0.196, 0.196)], [[0.1, 0.5], [0.2, 0.6]], source="pilot", tested=25)
    assert found.patients == pytest.approx(0.1 * 5, rel=1e-3)
    assert found.trainings == pytest.approx(np.std([0.1, 0.5], ddof=1))


@pytest.mark.parametrize("text", ["", "a", "0", "-1", "0.1,", "0.1,-2", "nan", "0.1,0.2,0.3", "inf"])
def test_spreads_that_make_no_sense_are_named(text):
    with pytest.raises(UsageError, match=r"expected the standard deviation over patients, as in 0\.16"):
        parse_spread(text)


def test_a_stated_spread_is_taken():
    assert (parse_spread("0.16,0.03").patients, parse_spread("0.16,0.03").trainings) == (0.16, 0.03)
    assert parse_spread("0.16").trainings is None


@pytest.mark.usefixtures("tiny_plugins")
@pytest.mark.parametrize(
    ("task", "changed", "words"),
    [
        ("counting", {}, "power: no spread is known for counting; give one by --pilot STUDY or --spread"),
        ("counting", {"spread": Spread(2.0, 0.5, "")}, "error of the count is found with 80 % power"),
        ("counting", {"spread": Spread(2.0, None, "")}, "unknown over training runs: it takes a larger difference"),
        ("detection", {}, "docs/results/study-128, 18 training patients"),
        ("detection", {"seeds": 1}, "; with one seed, intervals do not include the spread over training runs"),
        ("detection", {"seeds": 1, "folds": 2}, "; with one seed, intervals do not include the spread over training"),
        ("detection", {"folds": 2}, "power: with 6 patients in 2 folds and 2 seeds, a difference of"),
    ],
)  # fmt: skip
def test_a_plan_says_what_it_can_show_before_anything_is_trained(tmp_path, task, changed, words):
    records = list(make_store_records())
    real = make_store(tmp_path / "real.h5", records).path
    chosen, said = task_named(task), []
    arm = "quick" if task == "detection" else "~over=0.3"
    asked = {"task": chosen, "network": "tiny", "steps": 2, "seeds": 2, "dry_run": True, "device": "cpu", **changed}
    arms = parse_arms([arm], "tiny", chosen.kind)
    run_study(StudyOptions(real, arms, tmp_path / "study", announce=said.append, **asked))
    [line] = [sentence for sentence in said if sentence.startswith("power:")]
    assert words in line
    alone = "intervals and verdicts cover the spread over patients alone: with one seed"
    assert ("with one seed" in line) == any(alone in each for each in said) == (asked["seeds"] == 1 and "found" in line)


def make_store_records():
    from dataclasses import replace

    from conftest import make_records

    splits = ("train", "train", "val", "test", "test", "test")
    for i, record in enumerate(make_records(24)):
        yield replace(record, patient=f"p{i % 6}", split=splits[i % 6])


def test_studies_in_five_folds_find_what_is_planted_and_nothing_else():
    """Simulate answers with the spread of published runs: 110 patients, three seeds, a gain of 0.05 and one of none."""
    made = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks/power.py"))
    found, missed = (made["verdicts"](made["World"](), Plan(110, 3, 5), gain, 20, 400) for gain in (0.05, 0.0))
    assert found[0] * 20 >= 16
    assert (missed[0] + missed[1]) * 20 <= 1
    assert found[2] <= 0.05  # half of the interval


def test_a_plan_of_its_smallest_difference_finds_it_four_times_of_five():
    """Simulate the means of two arms: the verdict of an interval of that plan is right in 80 % of the studies."""
    plan, rng = Plan(40, 3), np.random.default_rng(0)
    error, gain = plan.error(SPREAD), plan.smallest(SPREAD)
    seen = rng.normal(gain, error, 4000)
    better = [verdict((each - 1.96 * error, each + 1.96 * error), 0.0) == "better" for each in seen]
    assert np.mean(better) == pytest.approx(0.8, abs=0.03)
