"""Brain extraction as a recipe asks for it: what given masks, failing strippers and doubtful slices come to."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image
from support.tiny_scans import PLAIN, made, reported, volume

from medaug_cli.brain import extraction
from medaug_cli.errors import BadInput
from medaug_cli.plugin import Capabilities, Extracted
from medaug_cli.testing.strippers import head

CROP = replace(PLAIN, size=64)


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(path)


def test_an_empty_brain_mask_is_doubted_and_the_head_is_kept(tmp_path):
    image, brain, _ = head(2)
    for name, marked in (("a", brain), ("b", brain & False)):
        save(tmp_path / f"scans/{name}.png", image)
        save(tmp_path / f"brains/{name}.png", marked * 255)
    recipe = replace(CROP, strip=str(tmp_path / "brains"))
    store = made(tmp_path, recipe, normals=True)
    assert all(each.any() for each in store.images)
    doubts = {each["id"]: each["reason"] for each in reported(store)["slices"] if each["doubtful"]}
    assert doubts == {"b": "its brain mask marks nothing"}
    with pytest.raises(BadInput, match=r"b\.png: brain extraction is doubtful \(its brain mask marks nothing\)"):
        made(tmp_path, replace(recipe, on_fail="error"), normals=True, overwrite=True)


@dataclass
class Fails:
    """Fail."""

    capabilities: ClassVar[Capabilities] = Capabilities(dims=(2,))

    def extract(self, image, spacing, plane):
        raise ValueError("no luck")


def test_a_stripper_that_fails_names_the_scan(tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "_built", lambda name, settings: Fails())
    save(tmp_path / "scans/b.png", head(2)[0])
    with pytest.raises(BadInput, match=r"scans/b\.png: the stripper 'brain2d' failed \(ValueError: no luck\)"):
        made(tmp_path, replace(CROP, strip="brain2d"), normals=True)


@dataclass
class Unsure:
    """Know where the brain is, and doubt it in slices that are bright."""

    capabilities: ClassVar[Capabilities] = Capabilities(dims=(2,))

    def extract(self, image, spacing, plane):
        return Extracted(head(2)[1][::2, ::2], {"agreement": 1.0 if image.max() < 300 else 0.3})


@pytest.mark.parametrize("bright", [[], [1], [0, 1, 2]])
def test_whole_volumes_of_doubtful_slices_are_left_out_where_asked(tmp_path, monkeypatch, bright):
    monkeypatch.setattr(extraction, "_built", lambda name, settings: Unsure())
    slices = np.stack([head(2)[0][::2, ::2]] * 3)
    slices[bright] *= 3
    volume(tmp_path / "scans/a.nii.gz", slices)
    volume(tmp_path / "scans/b.nii.gz", np.stack([head(2)[0][::2, ::2]] * 3))
    recipe = replace(CROP, strip="brain2d", volume=(8, 32, 32))
    assert len(made(tmp_path, recipe, normals=True)) == 2
    store = made(tmp_path, replace(recipe, on_fail="skip"), normals=True, overwrite=True)
    assert [each["state"] for each in reported(store)["slices"]] == ["skipped" if bright else "kept", "kept"]
    assert ("agree in 0.30" in reported(store)["slices"][0]["reason"]) == bool(bright)
