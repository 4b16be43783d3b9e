"""Work shared among processes: results in order, and no more of them in memory than are in flight."""

import itertools
import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from medaug_cli.errors import MedaugError
from medaug_cli.processes import cores

Job = TypeVar("Job")
Result = TypeVar("Result")
AHEAD = 2  # jobs in flight for each worker
MANY = 32  # jobs from which workers are worth their start
LOOK = 1.0  # seconds between a worker's looks whether its parent is there


def chosen_workers(asked: int, jobs: int) -> int:
    """Return how many processes work: as many as asked for, else one a core where there are many jobs."""
    return min(asked or (cores() if jobs >= MANY else 1), max(1, jobs))


def in_order(work: Callable[[Job], Result], jobs: Iterable[Job], workers: int) -> Iterator[Result]:
    """Yield work(job) for each job, in order; one job a worker at a time.

    Raises MedaugError where a worker ends without a word.
    """
    if workers < 2:
        yield from map(work, jobs)
        return
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("forkserver"), _begin, (os.getpid(),))
    waiting, flying = iter(jobs), deque[Future[Result]]()
    try:
        flying.extend(pool.submit(work, job) for job in itertools.islice(waiting, workers * AHEAD))
        while flying:
            yield flying.popleft().result()
            flying.extend(pool.submit(work, job) for job in itertools.islice(waiting, 1))
    except BrokenProcessPool as error:
        raise MedaugError(
            "a worker process died, as happens when memory runs out; continue with --resume and fewer --workers"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(parent: int) -> None:
    """Use one thread, and end when the process that asked for the work has ended."""
    import SimpleITK as sitk

    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while True:
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            os._exit(1)
        except PermissionError:
            pass
        time.sleep(LOOK)
