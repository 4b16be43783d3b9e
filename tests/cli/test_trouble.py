"""A full disk, a folder that cannot be written, Ctrl-C: one sentence, a code, nothing lost."""

import errno
import os
import resource
import signal
import time
from pathlib import Path

import pytest
from forking import ended, medaug, started

pytestmark = pytest.mark.usefixtures("tiny_plugins")
TRAIN = ["train-gan", "real.h5", "--generator", "tiny", "--kimg", "0.02", "--device", "cpu", "--out", "gan"]
DRAW = ["synthesize", "--n", "400", "--device", "cpu", "--out", "first.h5"]


def said(folder):
    return (folder / "said.txt").read_text(encoding="utf-8")


def full(limit):
    """Return what lets no file grow beyond so many bytes."""

    def before():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return before


def test_a_full_disk(real):
    folder = real.parent
    assert medaug(TRAIN, folder) == 0
    assert medaug(DRAW, folder) == 0
    before = (folder / "first.h5").read_bytes()
    other = [*DRAW, "--overwrite", "--seed", "1"]
    assert medaug(other, folder, prepare=full(30_000)) == 1
    assert "cannot be written" in said(folder)
    assert "Traceback" not in said(folder)
    assert (folder / "first.h5").read_bytes() == before
    assert medaug(other, folder) == 0
    assert not list(folder.glob("*.parts"))
    assert not list(folder.glob(".*.tmp"))


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written(real, number):
    def refuse(self, *arguments, **options):
        raise OSError(number, os.strerror(number), str(self))

    def before():
        Path.mkdir = refuse

    folder = real.parent
    assert medaug(TRAIN, folder, prepare=before) == 1
    assert os.strerror(number) in said(folder)
    assert "gan.parts" in said(folder)
    assert "Traceback" not in said(folder)
    assert {path.name for path in folder.iterdir()} == {"real.h5", "boxes.json", "said.txt"}


def test_ctrl_c_and_going_on(real):
    folder = real.parent
    slow = [*TRAIN, "--kimg", "0.4", "--set", "pause=0.02", "--checkpoint-seconds", "0.05"]
    child = started(slow, folder)
    deadline = time.monotonic() + 60
    while not list(folder.glob("gan.parts/checkpoints/*.pt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(child, signal.SIGINT)
    assert ended(child) == 130, said(folder)
    assert said(folder).strip().splitlines()[-1].startswith("medaug: interrupted")
    assert "Traceback" not in said(folder)
    assert not (folder / "gan").exists()
    assert medaug([*slow, "--resume"], folder) == 0, said(folder)
    assert (folder / "gan/generator.json").exists()
