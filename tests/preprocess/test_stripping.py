"""Brain extraction as a recipe asks for it: what given masks, failing strippers and doubtful slices come to."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image
from support.tiny_scans import PLAIN, made, reported

from medaug_cli.brain import extraction
from medaug_cli.errors import BadInput
from medaug_cli.plugin import Capabilities
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
