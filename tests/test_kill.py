"""Every writing command, killed at twenty random moments: nothing published is ever damaged or lost."""

import os
import signal
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch

from medaug_cli.store import open_store

torch.zeros(1)  # imported once, before the forks
pytestmark = pytest.mark.usefixtures("tiny_plugins")
MOMENTS = 20
TRAIN = ("--set", "pause=0.005", "--checkpoint-seconds", "0.02", "--device", "cpu", "--precision", "32")


def medaug(arguments, folder, kill_after=None):
    """Run the command line in a fork of this process, so that its imports are paid once; return its status."""
    child = os.fork()
    if child == 0:
        null, said = os.open(os.devnull, os.O_RDWR), os.open(folder / "said.txt", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        for stream, to in ((0, null), (1, said), (2, said)):
            os.dup2(to, stream)
        os.chdir(folder)
        sys.argv = ["medaug", *arguments]
        try:
            from medaug_cli.cli import main

            main()
        except SystemExit as stop:
            os._exit(stop.code or 0)
        except BaseException:
            os.write(2, traceback.format_exc().encode())
            os._exit(99)
        os._exit(0)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_and_resumed(arguments, folder, results, check=lambda: None):
    """Kill the command at random moments of its run, check what stands there, resume, compare with `results`."""
    start = time.monotonic()
    assert medaug(arguments, folder) == 0
    lasts = time.monotonic() - start
    whole = results()
    assert whole
    for moment in np.random.default_rng(0).uniform(0, lasts, MOMENTS):
        for path in _results_of(arguments, folder):
            _remove(path)
        medaug(arguments, folder, kill_after=moment)
        check()
        assert medaug([*arguments, "--resume"], folder) == 0, (folder / "said.txt").read_text()
        assert results() == whole
        assert not list(folder.glob("*.parts"))


def _results_of(arguments, folder):
    out = folder / arguments[arguments.index("--out") + 1]
    return [out, out.with_name(f"{out.name}.parts")]


def _remove(path):
    import shutil

    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def whole_store(path: Path):
    """Fail if a store stands there that is not whole."""
    if path.exists():
        open_store(path).verify()


def test_train_gan(real, tmp_path):
    arguments = ["train-gan", "real.h5", "--generator", "tiny", "--kimg", "0.1", "--out", "gan", *TRAIN]

    def results():
        samples = sorted((tmp_path / "gan/samples").iterdir())
        return (tmp_path / "gan/generator.safetensors").read_bytes(), samples[-1].read_bytes()

    def check():
        if (tmp_path / "gan").exists():
            results()

    killed_and_resumed(arguments, tmp_path, results, check)


def test_train_detector(real, tmp_path):
    arguments = ["train-detector", "real.h5", "--detector", "tiny", "--steps", "30", "--out", "detector", *TRAIN]

    def results():
        return [(tmp_path / f"detector/detector.{kind}").read_bytes() for kind in ("json", "safetensors")]

    killed_and_resumed(arguments, tmp_path, results)


def test_synthesize(real, tmp_path, monkeypatch):
    monkeypatch.setattr("medaug_cli.synthesis.BLOCK", 40)
    monkeypatch.setattr("medaug_cli.store.writing.SHARD_BYTES", 10_000)
    assert (
        medaug(["train-gan", "real.h5", "--generator", "tiny", "--kimg", "0.02", "--out", "gan", *TRAIN], tmp_path) == 0
    )
    arguments = ["synthesize", "--n", "1000", "--out", "synthetic.h5"]
    killed_and_resumed(
        arguments,
        tmp_path,
        lambda: (tmp_path / "synthetic.h5").read_bytes(),
        lambda: whole_store(tmp_path / "synthetic.h5"),
    )
