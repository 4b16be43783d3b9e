"""Share a study among the jobs of a cluster by submitit: each trains a part; who started them waits, and compares."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medaug_cli.errors import MedaugError, MissingPlugin, UsageError
from medaug_cli.words import counted

JOBS = 8  # where nobody says how many
POLL_SECONDS = 5.0
SHOWN = 160  # letters of what a job died of


@dataclass(frozen=True)
class Training:
    """What a job does; where the cluster stops it, submitit queues it again, and it continues where it was."""

    train: Callable[[int], Any]

    def __call__(self, part: int) -> None:
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
    jobs = _executor(cluster, folder, settings).map_array(Training(train), range(parts))
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
    try:
        executor.update_parameters(name="medaug-study", **{key: _value(text) for key, text in settings.items()})
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
