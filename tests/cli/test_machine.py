"""What a machine does to a program: each fault becomes one sentence, and leaves nothing behind."""

import errno
import os
import resource
import signal

import pytest
from forking import medaug
from writing_commands import WRITING

pytestmark = pytest.mark.usefixtures("tiny_plugins")
COMMANDS = ("preprocess", "train-gan", "train-detector", "synthesize", "filter", "store export", "export")


def failing(name, number, at=1):
    """Return what lets a function of `os` fail from its so-manieth call on, as a disk does."""

    def before():
        plain, calls = getattr(os, name), [0]

        def call(*arguments, **more):
            calls[0] += 1
            if calls[0] >= at:
                raise OSError(number, os.strerror(number), str(arguments[0]))
            return plain(*arguments, **more)

        setattr(os, name, call)

    return before


def full_disk(limit):
    def before():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return before


def closed(*streams):
    def before():
        import sys

        for number in streams:
            os.close(number)
            setattr(sys, ("stdin", "stdout", "stderr")[number], None)

    return before


def everything(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != "said.txt"}


FAULTS = {
    "an error as files are flushed": (failing("fsync", errno.EIO), "Input/output error"),
    "an error as files are renamed": (failing("replace", errno.EIO), "Input/output error"),
    "a disk without room": (failing("fsync", errno.ENOSPC), "No space left"),
    "a quota that is used up": (failing("fsync", errno.EDQUOT), "quota"),
    "files that may not grow": (full_disk(700), "File too large"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_fault_of_the_disk_is_one_sentence(name, fault, tmp_path):
    writing, (before, word) = WRITING[name], FAULTS[fault]
    writing.prepare(tmp_path)
    was = everything(tmp_path)
    code = medaug(writing.command, tmp_path, prepare=before)
    left = [path for path in everything(tmp_path) - was if not path.startswith(f"{writing.out}.parts")]
    assert not left
    assert code == 1
    if fault != "files that may not grow":  # nor may what it says
        said = (tmp_path / "said.txt").read_text(encoding="utf-8").strip()
        assert said.splitlines()[-1].startswith("medaug: ")
        assert word in said.splitlines()[-1]
        assert "Traceback" not in said
    assert medaug([*writing.command, "--overwrite"], tmp_path) == 0
    assert writing.leftovers(tmp_path) == []


@pytest.mark.parametrize("streams", [(1,), (0, 1), (0, 1, 2), (2,)])
def test_closed_streams_change_no_file(streams, tmp_path):
    writing = WRITING["synthesize"]
    writing.prepare(tmp_path)
    assert medaug(writing.command, tmp_path) == 0
    whole = writing.results(tmp_path)
    writing.clear(tmp_path)
    assert medaug(writing.command, tmp_path, prepare=closed(*streams)) == 0
    assert writing.results(tmp_path) == whole


INFINITE = (
    "train-gan real.h5 --kimg inf", "train-gan real.h5 --minutes nan", "train-gan real.h5 --checkpoint-seconds nan",
    "train-gan real.h5 --generator tiny --set amount=nan", "train-gan real.h5 --generator tiny --set pause=inf",
    "train-detector real.h5 --ratio nan", "train-detector real.h5 --epochs inf", "synthesize --n 3 --jitter nan",
    "evaluate real.h5 d --iou nan", "evaluate real.h5 d --threshold inf", "filter s.h5 --real-share nan",
    "tsne real.h5 s.h5 --perplexity inf", "study real.h5 --arm tiny --fraction nan",
    "study real.h5 --arm tiny --ratio inf",
    "detect real.h5 d --threshold nan", "preprocess scans --boxes b.csv --regions 32 --region-mm inf",
)  # fmt: skip


@pytest.mark.parametrize("line", INFINITE)
def test_an_option_takes_no_infinite_number(line, real):
    was = everything(real.parent)
    assert medaug(line.split(), real.parent) == 2
    said = (real.parent / "said.txt").read_text(encoding="utf-8")
    assert "finite number" in said or "Input should be" in said
    assert "Traceback" not in said
    assert everything(real.parent) == was
