"""Evaluate networks of any task but detection on a split of a store: metrics.json, tables and a page."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli import __version__
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.evaluation.arguments import seed_names, seeds_of
from medaug_cli.evaluation.folder import EVALUATION, METRICS, file_names
from medaug_cli.evaluation.from_store import refuse_unjudged
from medaug_cli.figures.pages import filled
from medaug_cli.files import publish_bytes, publish_text, write_json
from medaug_cli.results import check_folder, folder_claimed, new_folder
from medaug_cli.store import Store, open_store
from medaug_cli.store.folds import Fold, split_words
from medaug_cli.tables import as_csv
from medaug_cli.tasks.report import TaskMetrics, data_note, lone_words, markdown, rows_of, tables
from medaug_cli.tasks.task import Figure, Task, tasks

MOST_PICTURES = 24
Progress = Callable[[str, int, int], None]  # network, images done, images


@dataclass(frozen=True)
class TaskRequest:
    """What is asked of an evaluation of classifiers, segmenters or a stranger's networks."""

    out: Path
    split: str = "test"
    fold: Fold | None = None  # whose splits count in place of the store's own
    resamples: int = 2000
    seed: int = 0
    note: str | None = None
    overwrite: bool = False
    device: str = "auto"
    pictures: int | None = MOST_PICTURES  # of images, in each figure; None: all
    progress: Progress = lambda name, done, total: None

    def most(self, images: int) -> int:
        """Return how many images a figure shows at most."""
        return images if self.pictures is None else self.pictures


@dataclass(frozen=True)
class Judged:
    """What networks, or anyone's predictions, say of images whose truth is known."""

    task: Task
    answers: Mapping[str, Any]  # of each network, or of each seed of a system
    systems: Mapping[str, Sequence[Path]]
    patients: int
    images: int
    data: Mapping[str, str]  # file -> SHA-256
    weights: Mapping[str, str] = field(default_factory=dict)  # network -> SHA-256
    counts: Mapping[str, int] = field(default_factory=dict)
    left_out: int = 0
    split: str | None = None
    resampled: str = "patients"
    figures: Callable[[], list[Figure]] = list
    files: Mapping[str, bytes] = field(default_factory=dict)


def kinds_of(folders: Sequence[Path]) -> set[str]:
    """Return the kinds of network in some folders: detector, classifier, ...; those of installed tasks."""
    kinds = [task.kind for task in tasks().values()]
    return {kind for folder in folders for kind in kinds if (folder / f"{kind}.json").is_file()}


def evaluate_whole_images(store_path: Path, systems: Mapping[str, Sequence[Path]], request: TaskRequest) -> TaskMetrics:
    """Measure networks of one task on a split, and publish the evaluation folder.

    Raises BadInput where nothing of the split can be judged, where networks are of several tasks, or where one was
    fitted on images of another form or on a patient of the split.
    """
    folders = [path for paths in systems.values() for path in paths]
    check_folder(request.out, EVALUATION, request.overwrite, [store_path, *folders])
    task = _task_of(folders)
    own = open_store(store_path)
    store = own if request.fold is None else request.fold.of(own)
    whole = np.flatnonzero(store.splits == request.split)
    if not len(whole):
        has = ", ".join(f"{name} {np.sum(store.splits == name)}" for name in np.unique(store.splits)) or "none"
        raise BadInput(f"{store.path} has no image in the {request.split} split (images: {has})")
    indices = whole[task.usable(store)[whole]]
    if not len(indices):
        raise BadInput(f"nothing can be judged in the {request.split} split: {task.wanting(store)}")
    refuse_unjudged(store, indices, request.split)
    found, weights = _predicted(task, store, indices, systems, request)
    answers = {name: task.answers(store, indices, each) for name, each in found.items()}
    stems = file_names(found)
    judged = Judged(
        task=task,
        answers=answers,
        systems=systems,
        patients=(patients := len({store.patients[i] for i in indices})),
        images=len(indices),
        resampled="patients" if patients < len(indices) else "images",
        data={store_path.name: own.hash},
        weights=weights,
        counts=task.counts(store, indices),
        left_out=len(whole) - len(indices),
        split=split_words(request.split, request.fold),
        figures=lambda: task.figures(store, indices, answers, found, request.most(len(indices))),
        files=task.files(store, indices, {stems[name]: each for name, each in found.items()}),
    )
    return publish_judged(judged, request, [store_path, *folders])


def _task_of(folders: Sequence[Path]) -> Task:
    kinds = kinds_of(folders)
    if len(kinds) != 1:
        raise UsageError(f"these folders hold {' and '.join(sorted(kinds))}; evaluate one kind of network at a time")
    kind = kinds.pop()
    return next(task for task in tasks().values() if task.kind == kind)


def _predicted(
    task: Task, store: Store, indices: np.ndarray, systems: Mapping[str, Sequence[Path]], request: TaskRequest
) -> tuple[dict[str, list[Any]], dict[str, str]]:
    """Return each network's answers and the hash of its weights."""
    from medaug_cli.devices import resolve_device
    from medaug_cli.evaluation.predicting import load_for, predicted

    device = resolve_device(request.device)
    found: dict[str, list[Any]] = {}
    weights: dict[str, str] = {}
    for name, folder in seeds_of(systems).items():
        network, metadata = load_for(
            task, name, folder=folder, store=store, indices=indices, split=request.split, device=device
        )
        weights[name] = metadata.weights
        found[name] = predicted(task, name, network=network, store=store, indices=indices, progress=request.progress)
    return found, weights


def publish_judged(judged: Judged, request: TaskRequest, reads: Sequence[Path]) -> TaskMetrics:
    """Measure, draw and write everything into a new folder, and publish it by rename."""
    metrics = _measured(judged, request)
    shown = tables(metrics, judged.task.measures, judged.task.main)
    page = _page(judged, metrics, shown)
    with (
        folder_claimed(request.out, EVALUATION, request.overwrite, reads) as place,
        new_folder(place, EVALUATION) as work,
    ):
        write_json(work / METRICS, metrics.model_dump(mode="json"))  # nulls too: the schema names them
        publish_text(work / "table.md", markdown(metrics, judged.task.measures, judged.task.main))
        publish_text(work / "table.csv", as_csv(shown))
        publish_text(work / "evaluation.html", page)
        for name, content in judged.files.items():
            publish_bytes(work / name, content)
    return metrics


def _measured(judged: Judged, request: TaskRequest) -> TaskMetrics:
    members = seed_names(judged.systems)
    hashes = {name: [judged.weights[each] for each in own if each in judged.weights] for name, own in members.items()}
    rows = rows_of(
        {name: [judged.answers[each] for each in own] for name, own in members.items()},
        judged.patients,
        resamples=request.resamples,
        seed=request.seed,
        measures=judged.task.measures,
        weights=hashes,
    )
    return TaskMetrics(
        task=judged.task.name,
        tool_version=__version__,
        split=judged.split,
        resampled=judged.resampled,  # type: ignore[arg-type]
        images=judged.images,
        patients=judged.patients,
        counts=dict(judged.counts),
        left_out=judged.left_out,
        remarks=[
            *judged.task.remarks(judged.answers),
            *(lone_words(rows, judged.task.measures, judged.resampled[:-1]) if judged.patients > 1 else []),
        ],
        resamples=request.resamples,
        seed=request.seed,
        data=dict(judged.data),
        note=request.note,
        rows=rows,
    )


def _page(judged: Judged, metrics: TaskMetrics, shown: Sequence[Any]) -> str:
    return filled(
        "figures/task_page.html",
        title=f"{judged.task.name.capitalize()} results",
        data_note=data_note(metrics),
        tables=shown,
        figures=judged.figures(),
        version=__version__,
    )
