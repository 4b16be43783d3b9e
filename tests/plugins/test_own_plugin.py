"""The classifier and the segmenter that docs/own-plugin.md shows keep the contract, as they stand there."""

import re
import sys
import types
from pathlib import Path

import pytest

from medaug_cli.testing import check_classifier, check_segmenter

PAGE = (Path(__file__).parents[2] / "docs/own-plugin.md").read_text(encoding="utf-8")
BLOCKS = dict(zip(("Blobs", "NearestMean", "Brightness"), re.findall(r"```python\n(.*?)```", PAGE, re.S), strict=True))


@pytest.mark.parametrize(("name", "check"), [("NearestMean", check_classifier), ("Brightness", check_segmenter)])
def test_the_plugin_that_is_shown_keeps_the_contract(monkeypatch, name, check):
    module = types.ModuleType(f"shown_{name}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(BLOCKS[name], module.__dict__)
    results = check(getattr(module, name))
    assert [one.sentence for one in results if not one.ok] == []
    assert {"resume", "answers", "reloaded", "batches", "empty images", "channels", "sizes"} <= {
        one.name for one in results
    }
    assert len(BLOCKS[name].split("@dataclass")[1].strip().splitlines()) <= 40
