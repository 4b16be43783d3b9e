"""Obedience to masks: drawn images that show what was asked for, that show it elsewhere, and that show nothing."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from classed import publish
from conftest import make_records

from medaug_cli import runs
from medaug_cli.embedding import MapOptions
from medaug_cli.embedding.comparison import compare_sets
from medaug_cli.embedding.obedience import Outliner
from medaug_cli.embedding.statistics import others
from medaug_cli.errors import BadInput
from medaug_cli.store import GeneratorOrigin


class Bright:
    """A segmenter that marks what is bright."""

    def predict(self, images):
        for image in images:
            yield (image.mean(0) > 0.4).astype(np.uint8)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 20])
def test_no_image_of_several_is_judged_by_its_own_mask(count):
    for seed in range(20):
        drawn = others(count, np.random.default_rng(seed))
        assert sorted(drawn) == list(range(count))
        assert (drawn == np.arange(count)).any() == (count == 1)


def test_dice_is_that_of_the_labels_that_are_asked_for():
    asked = np.zeros((8, 8), np.uint8)
    asked[2:6, 2:6] = 1
    asked[2:6, 4:6] = 2
    found = np.zeros((8, 8), np.uint8)
    found[2:6, 2:4] = 1  # all of the first label, nothing of the second
    answers = SimpleNamespace(predict=lambda images: (found for _ in images))
    both = Outliner(answers, 2).obedience([None] * 3, [asked, asked, np.zeros_like(asked)])
    assert (both.dice, both.images) == (0.5, 2)
    assert Outliner(answers, 1).obedience([None], [asked]).dice == pytest.approx(2 * 8 / (16 + 8))
    assert Outliner(answers, 1).obedience([None], [np.zeros_like(asked)]) is None


def synthetic(records, change):
    for i, record in enumerate(records):
        own = replace(record, id=f"s{i}", patient="synthetic-g", split="train", source="g", seed=i)
        yield change(own)


def elsewhere(record):
    return replace(record, mask=np.ascontiguousarray(record.mask[::-1, ::-1]))


def blank(record):
    return replace(record, image=np.full_like(record.image, 30))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    publish(tmp_path / "real.h5", make_records(72, masks=True))
    origin = GeneratorOrigin(name="g", version="1", hash="h", training_store="t", training_patients=[])
    for name, change in (("good", lambda record: record), ("elsewhere", elsewhere), ("blank", blank)):
        records = synthetic(make_records(24, seed=3, masks=True), change)
        publish(tmp_path / f"{name}.h5", records, generators=[origin])
    form = SimpleNamespace(channels=1, spatial=[16, 16], mask_names=[], label_names=["lesion"])
    told = SimpleNamespace(form=form, synthetic=[], training_patients=[])
    monkeypatch.setattr(runs, "load_network", lambda folder, kind, device: (Bright(), told))
    return tmp_path


def compared(folder, *names):
    stores = [folder / f"{name}.h5" for name in names]
    return compare_sets(MapOptions(folder / "real.h5", stores, folder / "map.png", segmenter=folder / "segmenter"))


def test_what_is_drawn_where_it_was_asked_for_is_told_from_what_is_not(folder):
    reference, (good, other, nothing) = compared(folder, "good", "elsewhere", "blank")
    assert reference.obedience.dice > 0.95
    assert reference.obedience.images == 24
    assert good.obedience.dice >= 0.75 * reference.obedience.dice
    assert good.obedience.shuffled < 0.6
    assert other.obedience.dice < 0.4
    assert nothing.obedience.dice == 0


def test_masks_of_other_labels_and_none_are_refused(folder):
    publish(folder / "bare.h5", synthetic(make_records(24, seed=3), lambda record: record))
    with pytest.raises(BadInput, match="holds no masks"):
        compared(folder, "bare")
    records = synthetic(make_records(24, seed=3, masks=True), lambda record: record)
    publish(folder / "core.h5", records, mask_names=["core", "cyst"])
    with pytest.raises(BadInput, match=r"marks one thing, the masks of .* core, cyst"):
        compared(folder, "core")
