"""A study in jobs of its own: by submitit's processes of this machine, and what is said where a job cannot run."""

import os
import signal
import sys
import time
from functools import partial

import pytest

from medaug_cli.errors import Interrupted, MedaugError, MissingPlugin, UsageError
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


def test_jobs_of_this_machine_have_time_unless_a_limit_is_given(tmp_path):
    def minutes(settings):
        return launching._executor("local", tmp_path / "jobs", settings)._executor.parameters["timeout_min"]

    assert minutes({}) >= 60 * 24
    assert minutes({"timeout_min": "5"}) == 5


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN])
def test_jobs_of_this_machine_end_with_what_started_them(tmp_path, quick, capfd, handler):
    before = signal.signal(signal.SIGINT, handler)
    try:
        stop_two(tmp_path)
        assert signal.getsignal(signal.SIGINT) == handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert "Traceback" not in "".join(capfd.readouterr())


def stop_two(tmp_path):
    """Stop the run of two sleeping jobs when both have begun; wait until they have ended."""

    def sleep(part):
        import os
        import time

        (tmp_path / f"{part}.pid").write_text(str(os.getpid()), encoding="utf-8")
        time.sleep(600)

    def stop(share, words):
        if len(list(tmp_path.glob("*.pid"))) == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        run_parts(sleep, 2, cluster="local", folder=tmp_path / "jobs", settings={}, report=stop)
    pids = [int(path.read_text(encoding="utf-8") or 0) for path in tmp_path.glob("*.pid")]
    until = time.monotonic() + 60
    while any(alive(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in pids)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("raised", [SystemExit(144), RuntimeError("not requeued")])
def test_what_a_clusters_signal_raises_is_taken_for_no_fault_of_a_plugin(monkeypatch, raised):
    def handler(number, frame):
        raise raised

    def train(part):
        try:
            os.kill(os.getpid(), signal.SIGUSR2)
            time.sleep(60)
        except (Exception, SystemExit):
            pytest.fail("the signal did not come through")

    before = signal.signal(signal.SIGUSR2, handler)
    try:
        with pytest.raises(type(raised)) as caught:
            Training(train)(0)
        assert caught.value is raised
        assert signal.getsignal(signal.SIGUSR2) is handler
    finally:
        signal.signal(signal.SIGUSR2, before)


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
