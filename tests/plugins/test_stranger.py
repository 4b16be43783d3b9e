"""Plugins of others: installed as a distribution of its own, broken, or under a name that is taken."""

import importlib
import json
from pathlib import Path

import pytest
from conftest import make_store
from distributions import install, medaug, write_distribution

from medaug_cli import registry
from medaug_cli.store import open_store

BLOBS = Path(__file__).parents[2] / "examples" / "medaug-blobs"


def listed(folder, *options, plugins=()):
    rows = json.loads(medaug(folder, "plugins", *options, "--json", plugins=plugins))["plugins"]
    return {(row["kind"], row["name"], row["distribution"]): row for row in rows}


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    for heavy in ("timm", "torchvision"):  # once, before the forks that load every plugin
        importlib.import_module(heavy)
    return install(tmp_path_factory.mktemp("installed"), BLOBS)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    make_store(folder / "real.h5")
    return folder


def test_a_stranger_trains_and_draws(blobs, place):
    told = json.loads(medaug(
        place, "train-gan", "real.h5", "--generator", "blobs", "--kimg", "0.2", "--set", "brightness=0.5", "--device",
        "cpu", "--json", plugins=[blobs],
    ))  # fmt: skip
    assert told == {"generator": "gan"}
    made = json.loads((place / "gan" / "generator.json").read_text(encoding="utf-8"))
    assert (made["name"], made["distribution"], made["distribution_version"]) == ("blobs", "medaug-blobs", "1.0")
    assert made["settings"] == {"brightness": 0.5, "waves": 5}
    medaug(place, "synthesize", "--n", "20", "--device", "cpu", plugins=[blobs])
    store = open_store(place / "synthetic.h5")
    assert set(store.sources) == {"blobs"}
    assert len(store) == 20
    images = store.read(range(20))
    for image, boxes in zip(images, store.boxes, strict=True):
        assert image[0][_middle(boxes[0])] - _outside(image[0], boxes) > 0.1


def test_a_stranger_keeps_the_contract(blobs, place):
    told = json.loads(medaug(place, "plugins", "check", "blobs", "--json", plugins=[blobs]))
    assert told["ok"], told
    assert {"resume", "seeds", "channels"} <= {one["name"] for one in told["checks"]}


def test_a_stranger_is_listed_and_shown(blobs, place):
    row = listed(place, plugins=[blobs])["generator", "blobs", "medaug-blobs"]
    assert (row["version"], row["state"], row["reason"]) == ("1.0", "installed", "")
    assert listed(place, "--load", plugins=[blobs])["generator", "blobs", "medaug-blobs"]["state"] == "ok"
    text = medaug(place, "plugins", "show", "blobs", plugins=[blobs])
    assert "--set brightness=0.3   How much brighter a blob is (float from 0.0 to 1.0)" in text
    assert ("generator", "blobs", "medaug-blobs") not in listed(place)
    ours = "boxgan, copy-paste, cpggan, duplicate, inpaint, pggan, pggan-class, procedural, regions"
    assert f"installed: {ours}" in medaug(place, "train-gan", "real.h5", "--generator", "blobs", code=4)


def test_a_setting_it_does_not_have_is_named(blobs, place):
    arguments = ("train-gan", "real.h5", "--generator", "blobs", "--out", "g2", "--set")
    said = medaug(place, *arguments, "brightnes=1", plugins=[blobs], code=2)
    assert "did you mean 'brightness'" in said
    assert "0.0 to 1.0" in medaug(place, *arguments, "brightness=2", plugins=[blobs], code=2)
    assert not (place / "g2").exists()


NEEDS = "import numpy\nimport a_library_that_nobody_has\n\nclass Needy: ...\n"
HIDDEN = "import importlib\nimportlib.import_module('a_library_that_nobody_has')\n"


@pytest.mark.parametrize(("code", "state", "reason"), [
    (NEEDS, "does not load", "it imports a_library_that_nobody_has, which is not installed"),
    (HIDDEN, "installed", ""),
])  # fmt: skip
def test_what_does_not_import_is_listed_beside_the_others(blobs, place, tmp_path, code, state, reason):
    plugins = [blobs, write_distribution(tmp_path, "broken-scans", code, {"needy": "Needy"})]
    rows = listed(place, plugins=plugins)
    needy = rows["generator", "needy", "broken-scans"]
    assert (needy["state"], needy["reason"]) == (state, reason)
    assert rows["generator", "blobs", "medaug-blobs"]["state"] == "installed"


def test_one_that_does_not_import_is_named_with_the_reason_and_breaks_nothing_else(blobs, place, tmp_path):
    plugins = [blobs, write_distribution(tmp_path, "broken-scans", HIDDEN, {"needy": "Needy"})]
    loaded = listed(place, "--load", plugins=plugins)
    assert loaded["generator", "needy", "broken-scans"]["state"] == "does not load"
    assert "No module named 'a_library_that_nobody_has'" in loaded["generator", "needy", "broken-scans"]["reason"]
    assert loaded["generator", "blobs", "medaug-blobs"]["state"] == "ok"
    said = medaug(place, "train-gan", "real.h5", "--generator", "needy", "--out", "g3", plugins=plugins, code=4)
    assert "'needy' of broken-scans does not load (ModuleNotFoundError: No module named 'a_library" in said
    told = medaug(place, "plugins", "check", "needy", "--json", plugins=plugins, code=1)
    assert "a_library_that_nobody_has" in json.loads(told)["checks"][0]["sentence"]
    train = ("train-gan", "real.h5", "--generator", "blobs", "--kimg", "0.01", "--out", "g5", "--device", "cpu")
    assert medaug(place, *train, plugins=plugins)


def test_two_with_one_name(blobs, place, tmp_path):
    plugins = [blobs, write_distribution(tmp_path, "other-blobs", "class Blobs: ...\n", {"blobs": "Blobs"})]
    rows = listed(place, plugins=plugins)
    for distribution in ("medaug-blobs", "other-blobs"):
        row = rows["generator", "blobs", distribution]
        assert row["state"] == "name clash"
        assert "medaug-blobs and other-blobs both bring a generator named 'blobs'" in row["reason"]
    assert rows["generator", "cpggan", "medaug"]["state"] == "installed"
    said = medaug(place, "train-gan", "real.h5", "--generator", "blobs", "--out", "g4", plugins=plugins, code=4)
    assert "uninstall one of them" in said
    assert "both bring" in medaug(place, "plugins", "show", "blobs", plugins=plugins, code=4)


def test_an_unknown_name_lists_what_is_there(blobs, place):
    said = medaug(place, "plugins", "check", "blob", plugins=[blobs], code=4)
    generators = ", ".join(sorted({"blobs", *registry.names("generator")}))
    detectors = ", ".join(registry.names("detector"))
    assert f"did you mean 'blobs'? installed: generators {generators}; detectors {detectors}" in said


def test_the_readme_block_is_the_whole_registration():
    readme, project = (
        (BLOBS / "README.md").read_text(encoding="utf-8"),
        (BLOBS / "pyproject.toml").read_text(encoding="utf-8"),
    )
    block = readme.split("```toml\n")[1].split("```")[0]
    assert block in project


def _middle(box):
    left, top, right, bottom = box
    return int((top + bottom) / 2), int((left + right) / 2)


def _outside(image, boxes):
    """Return the mean of the pixels that no box touches."""
    kept = [
        image[y, x]
        for y in range(image.shape[0])
        for x in range(image.shape[1])
        if not any(b[0] - 1 < x < b[2] and b[1] - 1 < y < b[3] for b in boxes)
    ]
    return sum(kept) / len(kept)
