"""Which task a store is for."""

from pathlib import Path

import numpy as np

from medaug_cli.errors import UsageError
from medaug_cli.store import Store, open_store
from medaug_cli.tasks.task import Task, task_named, tasks


def task_of(path: Path, name: str | None) -> Task:
    """Return the task of that name or, without one, the only one that a store can be trained for and judged on.

    Raises UsageError where there is none, or more than one.
    """
    if name is not None:
        return task_named(name)
    store = open_store(path)
    lacking = {task.name: why for task in tasks().values() if (why := _lacks(task, store)) is not None}
    fitting = sorted(tasks().keys() - lacking)
    if not fitting:
        reasons = "; ".join(f"{task}: {why}" for task, why in sorted(lacking.items()))
        raise UsageError(f"{path} cannot be studied for any task ({reasons})")
    if len(fitting) > 1:
        raise UsageError(f"{path} serves {', '.join(fitting[:-1])} and {fitting[-1]}; choose one with --task")
    return task_named(fitting[0])


def _lacks(task: Task, store: Store) -> str | None:
    train = np.flatnonzero(task.usable(store) & (store.splits == "train"))
    return task.teachable(store, train) if len(train) else task.wanting(store)
