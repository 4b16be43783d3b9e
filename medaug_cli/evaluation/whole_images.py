"""Evaluate classifiers and segmenters on a split of a store: metrics.json, table.md, table.csv and a page."""

import io
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli import __version__
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.evaluation.arguments import seed_names, seeds_of
from medaug_cli.evaluation.folder import EVALUATION, METRICS
from medaug_cli.evaluation.from_store import split_indices
from medaug_cli.files import publish_text, write_json
from medaug_cli.results import check_folder, folder_claimed, new_folder
from medaug_cli.store import Store, open_store
from medaug_cli.tables import as_csv
from medaug_cli.tasks.classification import ClassAnswers, Classification
from medaug_cli.tasks.report import TaskMetrics, data_note, markdown, rows_of, tables
from medaug_cli.tasks.segmentation import MaskAnswers, Segmentation, is_label, marked
from medaug_cli.tasks.task import Task, tasks

MOST_PICTURES = 24
CURVE = np.linspace(0, 1, 101)
BAND_RESAMPLES = 300
Progress = Callable[[str, int, int], None]  # network, images done, images


@dataclass(frozen=True)
class TaskRequest:
    """What is asked of an evaluation of classifiers or segmenters."""

    out: Path
    split: str = "test"
    resamples: int = 2000
    seed: int = 0
    note: str | None = None
    overwrite: bool = False
    device: str = "auto"
    progress: Progress = lambda name, done, total: None


def kinds_of(folders: Sequence[Path]) -> set[str]:
    """Return the kinds of network in some folders: detector, classifier, ...; those of installed tasks."""
    kinds = [task.kind for task in tasks().values()]
    return {kind for folder in folders for kind in kinds if (folder / f"{kind}.json").is_file()}


def evaluate_whole_images(store_path: Path, systems: Mapping[str, Sequence[Path]], request: TaskRequest) -> TaskMetrics:
    """Measure classifiers or segmenters on a split, and publish the evaluation folder.

    Raises BadInput where nothing of the split can be judged, where networks are of several tasks, or where one was
    fitted on images of another form or on a patient of the split.
    """
    folders = [path for paths in systems.values() for path in paths]
    check_folder(request.out, EVALUATION, request.overwrite, [store_path, *folders])
    kinds = kinds_of(folders)
    if len(kinds) != 1:
        raise UsageError(f"these folders hold {' and '.join(sorted(kinds))}; evaluate one kind of network at a time")
    kind = kinds.pop()
    task = next(each for each in tasks().values() if each.kind == kind)
    store = open_store(store_path)
    whole = np.flatnonzero(store.splits == request.split)
    if isinstance(task, Segmentation) or not len(whole):
        split_indices(store, request.split)
    indices = whole[task.usable(store)[whole]]
    if not len(indices):
        raise BadInput(f"nothing can be judged in the {request.split} split: {task.wanting(store)}")
    found, weights = _predicted(task, store, indices, systems, request)
    answers = {name: task.answers(store, indices, each) for name, each in found.items()}
    members = seed_names(systems)
    patients = len({store.patients[i] for i in indices})
    by_system = {name: [answers[each] for each in own] for name, own in members.items()}
    hashes = {name: [weights[each] for each in own] for name, own in members.items()}
    rows = rows_of(by_system, patients, request.resamples, request.seed, task.measures, hashes)
    metrics = TaskMetrics(
        task=task.name,
        tool_version=__version__,
        split=request.split,
        images=len(indices),
        patients=patients,
        counts=task.counts(store, indices),
        left_out=len(whole) - len(indices),
        resamples=request.resamples,
        seed=request.seed,
        data={store_path.name: store.hash},
        note=request.note,
        rows=rows,
    )
    _publish(request, task, store, indices, metrics, answers, found, [store_path, *folders])
    return metrics


def _predicted(
    task: Any, store: Store, indices: np.ndarray, systems: Mapping[str, Sequence[Path]], request: TaskRequest
) -> tuple[dict[str, list[np.ndarray]], dict[str, str]]:
    """Return each network's answers and the hash of its weights."""
    from medaug_cli.devices import resolve_device
    from medaug_cli.evaluation.predicting import load_for, predicted

    device = resolve_device(request.device)
    found: dict[str, list[np.ndarray]] = {}
    weights: dict[str, str] = {}
    for name, folder in seeds_of(systems).items():
        network, metadata = load_for(task, name, folder, store, indices, request.split, device)
        weights[name] = metadata.weights
        found[name] = predicted(task, name, network, store, indices, request.progress)
    return found, weights


def _publish(
    request: TaskRequest,
    task: Any,
    store: Store,
    indices: np.ndarray,
    metrics: TaskMetrics,
    answers: Mapping[str, Any],
    found: Mapping[str, Sequence[np.ndarray]],
    reads: Sequence[Path],
) -> None:
    from jinja2 import Environment, PackageLoader

    shown = tables(metrics, task.measures, task.main)
    figures = figures_of(task, store, indices, answers, found)
    environment = Environment(loader=PackageLoader("medaug_cli", "figures"), autoescape=True, trim_blocks=True)
    page = environment.get_template("task_page.html").render(
        title=f"{task.name.capitalize()} results",
        data_note=data_note(metrics),
        tables=shown,
        figures=figures,
        version=__version__,
    )
    with (
        folder_claimed(request.out, EVALUATION, request.overwrite, reads) as place,
        new_folder(place, EVALUATION) as work,
    ):
        write_json(work / METRICS, metrics.model_dump(mode="json"))  # nulls too: the schema names them
        publish_text(work / "table.md", markdown(metrics, task.measures, task.main))
        publish_text(work / "table.csv", as_csv(shown))
        publish_text(work / "evaluation.html", page)


def _figure(title: str, note: str, content: bytes, type: str) -> dict[str, str]:
    kind = "curve" if type == "image/svg+xml" else ""
    return {"title": title, "note": note, "kind": kind, "type": type, "content": b64encode(content).decode()}


def _png(picture: Any) -> bytes:
    target = io.BytesIO()
    picture.save(target, format="PNG", optimize=True)
    return target.getvalue()


def figures_of(
    task: Task, store: Store, indices: np.ndarray, answers: Mapping[str, Any], found: Mapping[str, Sequence[Any]]
) -> list[dict[str, str]]:
    """Return the pictures of a task, each with title, note and source, of networks by name; none for other tasks."""
    if isinstance(task, Classification):
        return _class_figures(store, indices, answers)
    return _mask_figures(store, indices, answers, found) if isinstance(task, Segmentation) else []


def _class_figures(store: Store, indices: np.ndarray, answers: Mapping[str, ClassAnswers]) -> list[dict[str, str]]:
    from medaug_cli.figures.task_figures import calibration_svg, captioned, confusion_svg, roc_svg
    from medaug_cli.metrics.classification import confusion

    names, svg = store.class_names, "image/svg+xml"
    ones = np.ones((1, len(indices)))
    matrices = {name: confusion(each.images, ones)[0] for name, each in answers.items()}
    rocs = {
        label: {name: _roc(each, k) for name, each in answers.items()}
        for k, label in enumerate(names)
        if 0 < (store.classes[indices] == k).sum() < len(indices)
    }
    found = [_figure("Confusion", "Images: rows are the truth.", confusion_svg(matrices, names).encode(), svg)]
    if rocs:
        note = "One class against the rest; bands are 95 % intervals over patients."
        found.append(_figure("ROC", note, roc_svg(rocs).encode(), svg))
    curves = {"predicted class": {name: (_calibration(each), None) for name, each in answers.items()}}
    note = "Of images whose predicted class is given such a probability, the share for which it is right."
    found.append(_figure("Calibration", note, calibration_svg(curves).encode(), svg))
    pictures, captions = _mistakes(store, indices, answers)
    if pictures:
        note = "Not a random choice: the wrong answers that networks were most sure of."
        found.append(_figure("Most confident mistakes", note, _png(captioned(pictures, captions)), "image/png"))
    return found


def _roc(answers: ClassAnswers, k: int) -> Any:
    """Return the curve of a class, and its band over patients."""
    from medaug_cli.metrics.resampling import bootstrap_weights

    scores, positive = answers.images.probabilities[:, k], answers.images.truth == k
    order = np.argsort(-scores, kind="stable")

    def curves(weights: np.ndarray) -> np.ndarray:
        """Return sensitivities (r, 101) at the false positive rates of CURVE."""
        up, down = (np.cumsum(weights[:, order] * mask[order], 1) for mask in (positive, ~positive))
        rows = []
        for hits, wrong in zip(up, down, strict=True):
            if hits[-1] and wrong[-1]:
                ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
                x, y = (np.append(0, each[ends] / each[-1]) for each in (wrong, hits))
                rows.append(np.interp(CURVE, x, y))
        return np.array(rows)

    units = int(answers.patients.max()) + 1
    spread = curves(bootstrap_weights(units, BAND_RESAMPLES, 0)[:, answers.patients])
    low, high = np.quantile(spread, [0.025, 0.975], axis=0) if len(spread) else (CURVE * 0, CURVE * 0 + 1)
    return (CURVE, curves(np.ones((1, len(scores))))[0]), (CURVE, low, high)


def _calibration(answers: ClassAnswers) -> tuple[np.ndarray, np.ndarray]:
    sure = answers.images.probabilities.max(1)
    right = answers.images.predicted == answers.images.truth
    parts = [part for part in np.array_split(np.argsort(sure), min(10, max(1, len(sure) // 8))) if len(part)]
    return np.array([sure[part].mean() for part in parts]), np.array([right[part].mean() for part in parts])


def _mistakes(
    store: Store, indices: np.ndarray, answers: Mapping[str, ClassAnswers]
) -> tuple[list[np.ndarray], list[list[str]]]:
    from medaug_cli.figures.grid import as_picture

    wrong = [
        (float(each.images.probabilities[k].max()), int(each.images.predicted[k]), name, k)
        for name, each in answers.items()
        for k in np.flatnonzero(each.images.predicted != each.images.truth)
    ]
    wrong.sort(key=lambda one: (-one[0], one[2], one[3]))
    pictures, captions = [], []
    for sure, said, name, k in wrong[:MOST_PICTURES]:
        i = int(indices[k])
        pictures.append(as_picture(np.asarray(store.images[i])))
        truth = store.class_names[int(store.classes[i])]
        captions.append([f"{store.ids[i]}, {name}", f"{truth}; said {store.class_names[said]} {sure:.2f}"])
    return pictures, captions


def _mask_figures(
    store: Store, indices: np.ndarray, answers: Mapping[str, MaskAnswers], found: Mapping[str, Sequence[np.ndarray]]
) -> list[dict[str, str]]:
    from medaug_cli.figures.task_figures import captioned, outlined, sizes_svg
    from medaug_cli.metrics.segmentation import dice

    points, scores = {}, []
    for name, each in answers.items():
        rows = [row for own in each.rows.values() for row in own if row.true]
        size = np.array([row.true for row in rows])
        both, said = np.array([row.both for row in rows]), np.array([row.found for row in rows])
        points[name] = size, dice(size, said, both)
        per_image = [
            np.mean([float(dice(own[k].true, own[k].found, own[k].both)) for own in each.rows.values()])
            for k in range(len(indices))
        ]
        scores.append(per_image)
    figures = [_figure("Dice and size", "A dot an image with a lesion.", sizes_svg(points).encode(), "image/svg+xml")]
    order = np.argsort(np.mean(scores, 0), kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, MOST_PICTURES).round().astype(int))
    pictures, captions = [], []
    for k in order[places]:
        i = int(indices[k])
        masks = [marked(store, i, 1), *(is_label(answer[k], 1, store) for answer in found.values())]
        pictures.append(outlined(np.asarray(store.images[i]), masks))
        captions.append([store.ids[i], ", ".join(f"{each[k]:.2f}" for each in scores)])
    colours = zip(("green", "blue", "red", "pink", "light yellow"), found, strict=False)
    named = ", ".join(f"{colour}: {name}" for colour, name in colours)
    note = f"From the worst to the best, evenly; yellow: truth, then {named}"
    figures.append(_figure("Outlines", f"{note}. Numbers are Dice.", _png(captioned(pictures, captions)), "image/png"))
    return figures
