"""Let a trained network of any task answer on some images of a store."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli.answers import answered
from medaug_cli.errors import BadInput
from medaug_cli.runs import NetworkMetadata, check_network, load_network
from medaug_cli.store import Store
from medaug_cli.tasks.task import Task


def load_for(
    task: Task, name: str, folder: Path, store: Store, indices: np.ndarray, split: str, device: str
) -> tuple[Any, NetworkMetadata]:
    """Return a network and what it says of itself; raise BadInput where it cannot be judged fairly on these images."""
    network, metadata = load_network(folder, task.kind, device)
    _check_names(task, name, metadata, store)
    check_network(f"{task.kind} {name}", metadata, store, indices, split)
    return network, metadata


def predicted(
    task: Task,
    name: str,
    network: Any,
    store: Store,
    indices: np.ndarray,
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> list[Any]:
    """Return one answer per image, an array or a tuple of arrays; raise BrokenContract where there is none."""
    found: list[Any] = []
    images = (store.read([int(i)])[0] for i in indices)
    for answer in answered(task.kind, name, network.predict(images), len(indices), store.spec):
        found.append(tuple(map(np.asarray, answer)) if isinstance(answer, tuple) else np.asarray(answer))
        progress(name, len(found), len(indices))
    return found


def _check_names(task: Task, name: str, metadata: NetworkMetadata, store: Store) -> None:
    if not task.names:
        return
    own, there = (list(getattr(spec, task.names)) for spec in (metadata.form.spec(), store.spec))
    if own != there:
        raise BadInput(
            f"{task.kind} {name} knows {', '.join(own) or 'no names'}; {store.path} has {', '.join(there) or 'none'}: "
            "they must be the same, in the same order"
        )
