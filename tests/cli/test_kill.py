"""Every writing command, stopped as by SIGKILL before calls that change a file, and started twice at once."""

import shutil

import numpy as np
import pytest
from forking import changes_of, dying, medaug, together
from typer.testing import CliRunner
from writing_commands import WRITING

from medaug_cli.cli import app

pytestmark = pytest.mark.usefixtures("tiny_plugins", "undrawn")
BETWEEN = 1  # moments at which a command is stopped on its way; benchmarks/kills.py tries others
LAST = 2  # calls that change a file, before a command ends: it publishes there
ROUNDS = 1  # of two commands at once
SLOW_TO_RUN = {"tsne"}  # seconds each: benchmarks/kills.py has it


def said(folder):
    return (folder / "said.txt").read_text(encoding="utf-8")


def moments(count):
    """Return at which of so many calls to stop a command: some spread over its run, and those before its end."""
    end = max(0, count - LAST)
    spread = np.linspace(0, end, BETWEEN + 2, dtype=int)[1:-1].tolist()
    return sorted({*spread, *range(end, count)})


def warm_up(writing, folder, monkeypatch):
    """Run a command in this process, so that its forks find everything loaded, and remove what it wrote."""
    with monkeypatch.context() as inside:
        inside.chdir(folder)
        assert CliRunner().invoke(app, [*writing.command]).exit_code == 0
    writing.clear(folder)


@pytest.mark.parametrize("name", [name for name in WRITING if name not in SLOW_TO_RUN])
def test_a_killed_command_leaves_all_or_nothing_and_goes_on(name, tmp_path, monkeypatch):
    writing = WRITING[name]
    writing.prepare(tmp_path)
    warm_up(writing, tmp_path, monkeypatch)
    arguments = [*writing.command]
    stops = moments(changes_of(arguments, tmp_path))
    whole = writing.results(tmp_path)
    for at in stops:
        writing.clear(tmp_path)
        assert medaug(arguments, tmp_path, prepare=dying(at)) == -9
        assert writing.results(tmp_path) in (None, whole)
        assert medaug([*arguments, writing.again], tmp_path) == 0, said(tmp_path)
        assert writing.results(tmp_path) == whole
        assert writing.leftovers(tmp_path) == []


@pytest.mark.parametrize("name", ["train-gan", "filter", "store export"])
def test_an_old_result_is_whole_until_a_new_one_is(name, tmp_path):
    writing = WRITING[name]
    writing.prepare(tmp_path)
    arguments = [*writing.command, *writing.other, "--overwrite"]
    assert medaug(writing.command, tmp_path) == 0, said(tmp_path)
    old = writing.results(tmp_path)
    kept = shutil.copytree(tmp_path, tmp_path.with_name(f"{tmp_path.name}-kept"))
    stops = moments(changes_of(arguments, tmp_path))
    new = writing.results(tmp_path)
    assert new != old
    for at in stops:
        shutil.rmtree(tmp_path)
        shutil.copytree(kept, tmp_path)
        assert medaug(arguments, tmp_path, prepare=dying(at)) == -9
        assert writing.results(tmp_path) in (old, new)
        assert medaug(arguments, tmp_path) == 0, said(tmp_path)
        assert writing.results(tmp_path) == new
        assert writing.leftovers(tmp_path) == []


@pytest.mark.parametrize("more", ["--resume", "--overwrite"])
@pytest.mark.parametrize("name", ["train-gan", "preprocess", "store export"])
def test_two_at_once_do_not_mix(name, more, tmp_path):
    writing = WRITING[name]
    if more == "--resume" and writing.again != "--resume":
        pytest.skip("it does not resume")
    writing.prepare(tmp_path)
    whole = []
    for other in ((), writing.other):
        assert medaug([*writing.command, *other], tmp_path) == 0, said(tmp_path)
        whole.append(writing.results(tmp_path))
        writing.clear(tmp_path)
    for _ in range(ROUNDS):
        codes, words = together(
            [*writing.command, more], [*writing.command, *writing.other * (more == "--overwrite"), more], tmp_path
        )
        assert 0 in codes, words
        for code, word in zip(codes, words, strict=True):
            assert code == 0 or "is being written by another medaug" in word.strip().splitlines()[-1], word
            assert "Traceback" not in word
        assert writing.results(tmp_path) in whole
        assert writing.leftovers(tmp_path) == []
        writing.clear(tmp_path)
