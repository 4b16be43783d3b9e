"""A full disk, a folder that cannot be written, Ctrl-C: one sentence, a code, nothing lost."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

MEDAUG = str(Path(sys.executable).with_name("medaug"))
SUPPORT = Path(__file__).parents[1] / "support"


def run_in_child(code, folder, limit=None):
    """Run the command line in a new process after `code`, with files of at most `limit` bytes."""

    def before():
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    script = f"import sys\nsys.path.insert(0, {str(SUPPORT)!r})\n{code}"
    return subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, encoding="utf-8", preexec_fn=before
    )


TINY = """
from importlib.metadata import EntryPoint
from medaug_cli import registry
registry.entry_points = lambda group: [
    e for e in (EntryPoint("tiny", "tiny:TinyGenerator", "medaug.generators"),) if e.group == group]
from medaug_cli.cli import main
"""
TRAIN = "sys.argv = 'medaug train-gan real.h5 --generator tiny --kimg 0.02 --device cpu --out gan'.split()\nmain()\n"
DRAW = "sys.argv = 'medaug synthesize --n 2000 --device cpu {more}'.split()\nmain()\n"


def test_a_full_disk(real):
    folder = real.parent
    assert run_in_child(TINY + TRAIN, folder).returncode == 0
    assert run_in_child(TINY + DRAW.format(more="--out first.h5"), folder).returncode == 0
    before = (folder / "first.h5").read_bytes()
    done = run_in_child(TINY + DRAW.format(more="--out first.h5 --overwrite --seed 1"), folder, limit=30_000)
    assert done.returncode == 1, done.stderr
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert (folder / "first.h5").read_bytes() == before
    again = run_in_child(TINY + DRAW.format(more="--out first.h5 --overwrite --seed 1"), folder)
    assert again.returncode == 0
    assert not list(folder.glob("*.parts"))
    assert not list(folder.glob(".*.tmp"))


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written(real, number):
    folder = real.parent
    refuse = (
        "from pathlib import Path\n"
        f"def refuse(self, *a, **k): raise OSError({number}, {os.strerror(number)!r}, str(self))\n"
        "Path.mkdir = refuse\n"
    )
    done = run_in_child(TINY + refuse + TRAIN, folder)
    assert done.returncode == 1, done.stderr
    assert os.strerror(number) in done.stderr
    assert "gan.parts" in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name for path in folder.iterdir()} == {"real.h5", "boxes.json"}


def test_ctrl_c_and_going_on(real):
    folder = real.parent
    train = TRAIN.replace("--kimg 0.02", "--kimg 0.4 --set pause=0.02 --checkpoint-seconds 0.05")
    script = f"import sys\nsys.path.insert(0, {str(SUPPORT)!r})\n{TINY}{train}"
    child = subprocess.Popen(
        [sys.executable, "-c", script], cwd=folder, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
    deadline = time.monotonic() + 60
    while not list(folder.glob("gan.parts/checkpoints/*.pt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130, said
    assert said.strip().splitlines()[-1].startswith("medaug: interrupted")
    assert "Traceback" not in said
    assert not (folder / "gan").exists()
    resumed = run_in_child(TINY + train.replace("--out gan", "--out gan --resume"), folder)
    assert resumed.returncode == 0, resumed.stderr
    assert (folder / "gan/generator.json").exists()
