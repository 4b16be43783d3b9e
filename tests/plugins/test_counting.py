"""A task of a stranger's package: installed as a distribution, trained, evaluated, checked and studied."""

import json
from pathlib import Path

import pytest
from conftest import make_store
from distributions import install, medaug

COUNTING = Path(__file__).parents[2] / "examples" / "medaug-counting"


@pytest.fixture(scope="module")
def counting(tmp_path_factory):
    return install(tmp_path_factory.mktemp("installed"), COUNTING)


@pytest.fixture(scope="module")
def place(counting, tmp_path_factory):
    """Return a folder with a store and two counters that were trained on it."""
    folder = tmp_path_factory.mktemp("work")
    make_store(folder / "real.h5", n=36)
    for name, levels in (("counter", 8), ("other", 2)):
        asked = ("train", "real.h5", "--task", "counting", "--steps", "5", "--out", name, "--set", f"levels={levels}")
        told = medaug(folder, *asked, "--json", plugins=[counting])
        assert json.loads(told) == {"counter": name}
    return folder


def test_it_is_evaluated_with_intervals_and_compared(counting, place):
    said = medaug(place, "evaluate", "real.h5", "counter", "other", "--resamples", "100", "--json", plugins=[counting])
    found = json.loads(said)
    assert (found["task"], found["counts"]) == ("counting", {"lesions": 6})
    first, second = found["rows"]
    assert 0 <= first["values"]["error"]["value"] < 1
    assert set(second["against_first"]) == set() or "error" in second["against_first"]
    page = (place / "evaluation/evaluation.html").read_text(encoding="utf-8")
    assert "Counting results" in page
    assert "<h2>Counts</h2>" in page


def test_its_network_keeps_the_contract(counting, place):
    told = json.loads(medaug(place, "plugins", "check", "ridge", "--json", plugins=[counting]))
    assert told["ok"], told
    assert {"resume", "reloaded", "batches"} <= {one["name"] for one in told["checks"]}
    rows = json.loads(medaug(place, "plugins", "--json", plugins=[counting]))["plugins"]
    assert ("counter", "ridge") in {(row["kind"], row["name"]) for row in rows}
    assert ("counter", "ridge") not in {(row["kind"], row["name"]) for row in json.loads(
        medaug(place, "plugins", "--json"))["plugins"]}  # fmt: skip


def test_it_is_studied(counting, place):
    asked = ("study", "real.h5", "--task", "counting", "--arm", "duplicate", "--seeds", "2", "--steps", "3")
    medaug(place, *asked, "--device", "cpu", "--split", "val", "--resamples", "100", plugins=[counting])
    report = json.loads((place / "study/study.json").read_text(encoding="utf-8"))
    assert report["task"] == "counting"
    arms = {arm["arm"]: arm for arm in report["fractions"][0]["arms"]}
    assert set(arms) == {"real-only", "duplicate"}
    assert len(arms["duplicate"]["seeds"]) == 2


def test_without_the_package_it_is_missed_by_name(counting, place):
    assert "choose one of classification, detection, segmentation" in medaug(
        place, "train", "real.h5", "--task", "counting", "--out", "no", code=2
    )


def test_the_readme_block_is_the_whole_registration():
    block = (COUNTING / "README.md").read_text(encoding="utf-8").split("```toml\n")[1].split("```")[0]
    assert block in (COUNTING / "pyproject.toml").read_text(encoding="utf-8")
