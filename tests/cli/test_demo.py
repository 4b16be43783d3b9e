"""examples/demo.sh as a shell runs it, with a medaug that only notes what it is asked for."""

import os
import subprocess
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "examples/demo.sh"
STEPS = [
    "preprocess", "preprocess", "train-classifier", "synthesize", "filter", "train-detector", "train-detector",
    "train-segmenter", "evaluate", "tsne", "synthesize", "evaluate", "evaluate",
]  # fmt: skip
STUB = """#!/bin/sh
echo "$*" >>"$NOTES"
case " $* " in *" $FAILS "*) echo "medaug: it failed" >&2; exit 3 ;; esac
"""


@pytest.fixture
def demo(tmp_path):
    """Return a function that runs the demo elsewhere; it returns what came of it and what medaug was asked for."""
    (tmp_path / "bin").mkdir()
    for name in ("medaug", "python"):
        (tmp_path / "bin" / name).write_text(STUB, encoding="utf-8")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "some where").mkdir()

    def run(*arguments, fails="nothing"):
        notes = tmp_path / "notes"
        notes.unlink(missing_ok=True)
        path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", str(DEMO), *arguments], cwd=tmp_path / "some where", capture_output=True, text=True,
            encoding="utf-8", check=False, env={**os.environ, "PATH": path, "NOTES": str(notes), "FAILS": fails},
        )  # fmt: skip
        return done, notes.read_text(encoding="utf-8").splitlines() if notes.exists() else []

    return run


def test_it_runs_from_any_folder_in_the_one_that_is_given(demo, tmp_path):
    done, asked = demo("my demo")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "some where/my demo").is_dir()
    assert sorted(each.split()[0] for each in asked[:-1]) == sorted(STEPS)
    assert asked[-1].endswith("examples/page.py .")
    assert "synthesize --gan brain-t1c-128" in "\n".join(asked)
    assert "synthesize --gan nodules-32" in "\n".join(asked)
    assert all("--resume" in each or "--overwrite" in each for each in asked[:-1])


@pytest.mark.parametrize("arguments", [("--from-scratch",), ("x", "--from-scratch"), ("--from-scratch", "x")])
def test_from_scratch_it_draws_with_no_weights_of_others(demo, arguments):
    done, asked = demo(*arguments)
    assert done.returncode == 0, done.stderr
    text = "\n".join(asked)
    assert text.count("train-gan") == 2
    assert text.index("train-gan real.h5 --generator boxgan") < text.index("synthesize --gan gan")
    assert text.index("train-gan nodules/real.h5") < text.index("synthesize --gan nodules/gan")
    assert not {"brain-t1c-128", "nodules-32"} & set(text.split())


@pytest.mark.parametrize(
    ("step", "never"),
    [("preprocess", "synthesize"), ("train-classifier", "train-detector"), ("filter", "train-detector"),
     ("real-only", "evaluate"), ("with-synthetic", "evaluate"), ("train-segmenter", "--out masks"),
     ("tsne", "--out classes"), ("classes", "page.py"), ("masks", "page.py")],
)  # fmt: skip
def test_a_step_that_fails_ends_it_whether_or_not_another_goes_on(demo, step, never):
    done, asked = demo(fails=step)
    assert done.returncode != 0
    assert "medaug: it failed" in done.stderr
    assert not any(never in each for each in asked)


def test_what_is_no_option_is_said(demo):
    done, asked = demo("--from-scrach")
    assert (done.returncode, asked) == (2, [])
    assert "usage: sh" in done.stderr
