"""Scans with a byte changed or cut off: a small, seeded share of benchmarks/fuzz_readers.py."""

import importlib.util
import warnings
from pathlib import Path

import pytest

PLACE = Path(__file__).parents[2] / "benchmarks/fuzz_readers.py"
SPEC = importlib.util.spec_from_file_location("fuzz_readers", PLACE)
fuzz_readers = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(fuzz_readers)
CASES = 36


@pytest.mark.parametrize("form", fuzz_readers.FORMATS)
def test_a_damaged_file_is_refused_or_gives_the_same(form):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's and pydicom's, of files that are damaged
        found = fuzz_readers.fuzz(form, CASES, seed=1)
    assert sum(sum(counts.values()) for counts in found.values()) == CASES
    assert not found["cut"]["pixels"] + found["cut"]["other"]  # what is cut off never becomes another image
    assert found["cut"]["refused"] > 0
    if form in fuzz_readers.CHECKED:
        assert not found["byte"]["pixels"] + found["byte"]["other"]
        assert not found["head"]["pixels"] + found["head"]["other"]
    elif form != "jpg":  # whose coded pixels have no checksum
        assert not found["byte"]["other"]
