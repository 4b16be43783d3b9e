"""The weights that come with medaug: small, described, drawing, and fitted on no patient whom the examples hold out."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from medaug_cli.boxes import patients_seen
from medaug_cli.plugin import Condition, as_drawn
from medaug_cli.runs.starting import opened_start
from medaug_cli.weights import card_of, named_weights, weights_folder

EXAMPLES = Path(__file__).parents[2] / "examples"
MOST_BYTES = 8 << 20


def splits_of_slices() -> dict[str, str]:
    """Return the split of each patient of the slices that ship."""
    images = json.loads((EXAMPLES / "data/boxes.json").read_text(encoding="utf-8"))["images"]
    return {image["patient"]: image["split"] for image in images}


def splits_of_nodules() -> dict[str, str]:
    """Return the split of each patient of the cubes that ship."""
    with (EXAMPLES / "nodules/split.csv").open(encoding="utf-8", newline="") as file:
        return {row["patient"]: row["split"] for row in csv.DictReader(file)}


def no_splits() -> dict[str, str]:
    """Return nothing: no picture of the set ships."""
    return {}


SHIPPED = {  # name -> sides of what is drawn, and the splits that agree with it
    "brain-t1c-128": ((128, 128), splits_of_slices),
    "brain-t1c-256": ((256, 256), splits_of_slices),
    "breast-ultrasound-128": ((128, 128), no_splits),
    "nodules-32": ((32, 32, 32), splits_of_nodules),
}


def asked(spatial: tuple[int, ...]) -> Condition:
    """Return a lesion in the middle, a quarter of the image wide."""
    low, high = (np.array(spatial) * share for share in (0.375, 0.625))
    mask = np.zeros(spatial, np.uint8)
    mask[tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))] = 1
    boxes = np.array([[*low[::-1], *high[::-1]]], np.float32)
    return Condition(spatial, boxes, np.zeros(1, np.int64), mask=mask)


def test_all_that_medaug_brings_are_known_here():
    assert {name for name, each in named_weights().items() if each.distribution == "medaug"} == set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_weights_are_small_and_say_what_they_are(name):
    folder = weights_folder(name)
    files = {path.name for path in folder.iterdir() if path.is_file()}
    tensors = {"generator.safetensors", "discriminator.safetensors"}
    assert files == {"__init__.py", "card.json", "generator.json", *tensors}
    assert sum((folder / each).stat().st_size for each in files) < MOST_BYTES
    for each in tensors:
        assert {str(value.dtype) for value in load_file(folder / each).values()} == {"torch.float16"}
    card = card_of(folder)
    assert card is not None
    assert card.hours > 0
    assert card.copies is not None
    assert {"kid", "recall", "coverage"} <= card.measures.keys()
    assert "CC BY" in card.licence
    assert "doi" in card.source


@pytest.mark.parametrize("name", SHIPPED)
def test_a_run_that_begins_with_weights_begins_nothing_anew(name):
    start = opened_start(name)
    _, plugin = start.built(None, {})
    assert "; all of them fit" in start.begin(plugin, start.metadata.form.spec())


@pytest.mark.parametrize("name", SHIPPED)
def test_weights_have_seen_none_whom_the_examples_hold_out(name):
    seen = set(opened_start(name).metadata.training_patients)
    for patient, split in SHIPPED[name][1]().items():
        assert bool(patients_seen([patient], seen)) == (split == "train"), patient


@pytest.mark.parametrize("name", SHIPPED)
def test_weights_draw_images_that_differ_and_show_what_is_asked_for(name):
    spatial = SHIPPED[name][0]
    condition = asked(spatial)
    nothing = Condition(spatial, condition.boxes[:0], condition.labels[:0], mask=np.zeros(spatial, np.uint8))
    start = opened_start(name)
    conditions, seeds = [condition, condition, nothing], [0, 1, 0]
    drawn = zip(start.plugin.sample(conditions, seeds), conditions, strict=True)
    with_lesion, other, without = (as_drawn(image, each).image for image, each in drawn)
    assert with_lesion.shape == (1, *spatial)
    assert with_lesion.std() > 0.05
    assert np.abs(with_lesion - other).mean() > 0.02
    inside = condition.mask > 0
    changed = np.abs(with_lesion - without)[0]
    assert changed[inside].mean() > 2 * changed[~inside].mean()
