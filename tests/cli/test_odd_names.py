"""Names of files that are no text are taken, and written as text into what is JSON."""

import os

import pytest
from conftest import make_store
from forking import medaug

pytestmark = pytest.mark.usefixtures("tiny_plugins")


def test_names_that_are_no_text(tmp_path):
    odd = os.fsdecode(b"caf\xe9")
    try:
        (tmp_path / odd).mkdir()
    except OSError:
        pytest.skip("this file system takes names of text alone")
    make_store(tmp_path / "real.h5")
    (tmp_path / "real.h5").rename(tmp_path / f"{odd}.h5")
    (tmp_path / odd).rmdir()
    fast = ("--device", "cpu", "--precision", "32")
    for line in (
        ("train-gan", f"{odd}.h5", "--generator", "tiny", "--kimg", "0.01", "--out", odd, *fast),
        ("synthesize", "--n", "16", "--gan", odd, "--out", f"drawn-{odd}.h5"),
        ("filter", f"drawn-{odd}.h5", "--by", "none", "--out", f"kept-{odd}.h5"),
        ("train-detector", f"{odd}.h5", "--detector", "tiny", "--steps", "2", "--out", f"d-{odd}", *fast),
        ("evaluate", f"{odd}.h5", f"d-{odd}", "--resamples", "100", "--overlays", "1", "--out", f"e-{odd}"),
        ("store", "export", f"{odd}.h5", "--format", "coco", "--out", f"x-{odd}"),
        ("store", "info", f"{odd}.h5", "--json"),
        ("turing", "make", f"{odd}.h5", f"drawn-{odd}.h5", "--n", "4", "--split", "all", "--out", f"t-{odd}"),
    ):
        assert medaug(line, tmp_path) == 0, (tmp_path / "said.txt").read_text(encoding="utf-8")
