"""A study in jobs of its own: by submitit's processes of this machine, and what is said where a job cannot run."""

import sys
from functools import partial

import pytest

from medaug_cli.errors import MedaugError, MissingPlugin, UsageError
from medaug_cli.study import launching
from medaug_cli.study.launching import Training, run_parts

pytest.importorskip("submitit")


def writing(folder):
    """Return what writes a file, and fails in part 2; made here, so that it goes to another process by value."""

    def write(part):
        if part == 2:
            raise ValueError("no room left for part 2")
        (folder / f"part-{part}.txt").write_text(str(part), encoding="utf-8")

    return write


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(launching, "POLL_SECONDS", 0.05)


@pytest.mark.parametrize("parts", [2, 3])
def test_each_part_is_a_job_and_a_failed_one_is_named(tmp_path, quick, parts):
    said, told = [], []
    arguments = {"cluster": "local", "folder": tmp_path / "jobs", "settings": {"timeout_min": "5"}}
    arguments |= {"say": said.append, "report": lambda *words: told.append(words)}
    run = partial(run_parts, writing(tmp_path), parts, **arguments)
    if parts == 3:
        with pytest.raises(MedaugError, match=r"job 2 of 3 failed: .*no room left for part 2.*its log is .*jobs"):
            run()
    else:
        run()
    assert sorted(path.name for path in tmp_path.glob("*.txt")) == ["part-0.txt", "part-1.txt"]
    assert said[0].startswith(f"{parts} jobs on local (")
    assert told[-1] == (1.0, f"{parts} of {parts} jobs")


def test_a_job_that_is_stopped_is_queued_again_as_it_was():
    job = Training(print)
    again = job.checkpoint(3)
    assert (again.function, again.args) == (job, (3,))


@pytest.mark.parametrize(("settings", "said"), [
    ({"timeout_min": "soon"}, 'Parameter "timeout_min" expected type'), ({"colour": "red"}, "need to be prefixed"),
    ({"slurm_colour": "red"}, "Unknown argument 'colour'"), ({"cluster_x": "1"}, "Unknown executor 'cluster'"),
])  # fmt: skip
def test_settings_that_submitit_does_not_know_are_refused(tmp_path, settings, said):
    with pytest.raises(UsageError, match=f"--launcher-set: .*{said}"):
        run_parts(print, 2, cluster="local", folder=tmp_path / "jobs", settings=settings)


def test_a_cluster_that_is_not_there_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="--launcher slurm: not available here"):
        run_parts(print, 2, cluster="slurm", folder=tmp_path / "jobs", settings={})


def test_without_submitit_the_extra_packages_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(MissingPlugin, match=r"medaug\[cluster\]"):
        run_parts(print, 2, cluster="local", folder=tmp_path / "jobs", settings={})
