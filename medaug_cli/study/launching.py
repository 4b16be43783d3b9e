"""Share a study among the jobs of a cluster by submitit: each trains a part; who started them waits, and compares."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medaug_cli.errors import MedaugError, MissingPlugin, UsageError
from medaug_cli.processes import cores
from medaug_cli.words import counted

JOBS = 8  # of a cluster, where nobody says how many
LOCAL = ("local", "debug")  # what submitit calls this machine
LONG = 60 * 24 * 30  # minutes: without a word it would stop local jobs after two
POLL_SECONDS = 5.0
SHOWN = 160  # letters of what a job died of


@dataclass(frozen=True)
class Training:
    """What a job does; where the cluster stops it, submitit queues it again, and it continues where it was."""

    train: Callable[[int], Any]

    def __call__(self, part: int) -> None:
        with _stoppable():
            self.train(part)

    def checkpoint(self, part: int) -> Any:
        """Return what is queued when the time of a job is up, or its machine is taken away."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, part)


def run_parts(
    train: Callable[[int], Any],
    parts: int,
    *,
    cluster: str,
    folder: Path,
    settings: Mapping[str, str],
    say: Callable[[str], None] = lambda sentence: None,
    report: Callable[[float, str], None] = lambda share, words: None,
) -> None:
    """Run `train(part)` in a job each and wait until all have ended; `folder` takes their logs and pickled calls.

    Raises MissingPlugin where submitit is not installed, UsageError for a setting that it does not know and for a
    cluster that is not there, MedaugError where a job fails.
    """
    executor = _executor(cluster, folder, settings)
    with _local(folder / "jobs.log") if cluster in LOCAL else nullcontext():
        jobs = executor.map_array(Training(train), range(parts))
    try:
        _wait(jobs, cluster, folder, say, report)
    except BaseException:
        for job in jobs if cluster in LOCAL else ():  # those of a cluster go on
            job.cancel(check=False)
        raise


def jobs_on(cluster: str) -> int:
    """Return how many jobs a study is shared among where nobody says."""
    if cluster not in LOCAL:
        return JOBS
    return cores()


def _wait(
    jobs: Sequence[Any], cluster: str, folder: Path, say: Callable[[str], None], report: Callable[[float, str], None]
) -> None:
    parts = len(jobs)
    names = dict.fromkeys(str(job.job_id).partition("_")[0] for job in jobs)
    say(f"{counted(parts, 'job')} on {cluster} ({', '.join(names)}); logs in {folder}")
    waiting = dict(enumerate(jobs))
    while waiting:
        for part, job in list(waiting.items()):
            if job.done():
                del waiting[part]
        ended = parts - len(waiting)
        report(ended / parts, f"{ended} of {parts} jobs")
        if waiting:
            time.sleep(POLL_SECONDS)
    _check(jobs)


class _Stopped(BaseException):
    """The cluster stops a job; no Exception, so that nothing that handles the faults of plugins takes it for one."""

    def __init__(self, raised: BaseException):
        super().__init__(str(raised))
        self.raised = raised


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let what the handler of a cluster's signal raises come through to submitit, wherever the signal arrives."""

    def passing(handler: Callable[[int, Any], Any]) -> Callable[[int, Any], None]:
        def handle(number: int, frame: Any) -> None:
            try:
                handler(number, frame)
            except (Exception, SystemExit) as error:
                raise _Stopped(error) from error

        return handle

    found = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    handlers = {number: handler for number, handler in found.items() if callable(handler)}
    for number, handler in handlers.items():
        signal.signal(number, passing(handler))
    try:
        yield
    except _Stopped as stopped:
        raise stopped.raised from None
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def _local(log: Path) -> Iterator[None]:
    """Let processes that are started in the block write to a file, not to this one's terminal or pipe, and hear SIGINT.

    By that they are ended; where this one ignores it, as below nohup, so would they.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    if ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    streams = (sys.stdout, sys.stderr)
    for stream in streams:
        stream.flush()
    own = {number: os.dup(number) for number in (1, 2)}
    with log.open("ab") as file:
        for number in own:
            os.dup2(file.fileno(), number)
    try:
        yield
    finally:
        for number, copy in own.items():
            os.dup2(copy, number)
            os.close(copy)
        if ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _executor(cluster: str, folder: Path, settings: Mapping[str, str]) -> Any:
    """Return submitit's executor of a cluster, with the settings of its jobs."""
    try:
        import submitit
    except ImportError as error:
        raise MissingPlugin(f"--launcher needs the extra packages of medaug[cluster] ({error})") from error
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
    except RuntimeError as error:
        raise UsageError(f"--launcher {cluster}: not available here ({error})") from error
    asked: dict[str, Any] = {"timeout_min": LONG} if cluster in LOCAL else {}
    asked |= {key: _value(text) for key, text in settings.items()}
    try:
        executor.update_parameters(name="medaug-study", **asked)
    except (NameError, AssertionError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"--launcher-set: {reason[: 2 * SHOWN]}") from error
    return executor


def _value(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _check(jobs: Sequence[Any]) -> None:
    """Raise MedaugError for the first job that failed, with its log."""
    failed = [(part, error) for part, job in enumerate(jobs) if (error := job.exception()) is not None]
    if failed:
        part, error = failed[0]
        lines = [line.strip() for line in (jobs[part].stderr() or str(error)).splitlines() if line.strip()]
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise MedaugError(
            f"job {part} of {len(jobs)} failed{more}: {lines[-1][:SHOWN] if lines else type(error).__name__}; its log "
            f"is {jobs[part].paths.stderr}; the same command continues where the jobs stopped"
        )
