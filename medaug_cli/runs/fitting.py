"""Fit a generator, or a network of a task: plan, run, save, publish."""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli import __version__, registry
from medaug_cli.devices import resolve_device, resolve_precision
from medaug_cli.errors import BadInput, MedaugError, UsageError
from medaug_cli.plugin import Capabilities, as_drawn, image_seed
from medaug_cli.processes import ALONE, Group
from medaug_cli.runs.folder import RunFolder, run_claimed
from medaug_cli.runs.loading import load_network, save_plugin
from medaug_cli.runs.metadata import Form, NetworkMetadata
from medaug_cli.runs.training import Budget, Progress, TrainingRun
from medaug_cli.store import (
    Store,
    StoreExamples,
    digest_patient,
    generator_examples,
    open_store,
    training_examples,
    unannotated_words,
)
from medaug_cli.tasks.classification import Classification
from medaug_cli.tasks.detection import Detection
from medaug_cli.tasks.task import Task

GRID = 16
DEFAULT_KIMG, DEFAULT_STEPS = 200.0, 2000.0


@dataclass(frozen=True)
class RunOptions:
    """What every training command takes."""

    out: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    workers: int = 0
    resume: bool = False
    overwrite: bool = False
    checkpoint_seconds: float = 60.0
    report: Callable[[Progress], None] = lambda progress: None
    announce: Callable[[str], None] = lambda sentence: None
    group: Group = ALONE


def train_generator(
    store_path: Path, name: str, options: RunOptions, kimg: float | None = None, minutes: float | None = None
) -> Path:
    """Fit a generator on the real training images of a store and publish its folder."""
    store = open_store(store_path)
    plugin = registry.build("generator", name, options.settings)
    data = generator_examples(store)
    check_capable(name, plugin.capabilities, store)
    if kimg is None and minutes is None:
        kimg = plugin.capabilities.default_budget or DEFAULT_KIMG
    setup = _Setup.of(options, name, plugin.capabilities)
    plan = _plan("train-gan", name, plugin, store, options, setup, {"kimg": kimg, "minutes": minutes})
    with _claimed(plan, options, [store_path]) as folder:
        if not folder.finished:
            _fit_generator(folder, name, plugin, store, data, options, setup, kimg, minutes)
        return folder.out


def _fit_generator(
    folder: RunFolder, name: str, plugin: Any, store: Store, data: StoreExamples, options: RunOptions, setup: "_Setup",
    kimg: float | None, minutes: float | None,
) -> None:  # fmt: skip
    budget = Budget(None if kimg is None else kimg * 1000, minutes)
    asked = _words(kimg, "thousand images", minutes) if plugin.capabilities.learns else "in one pass"
    _announce(
        options,
        setup,
        unannotated_words(store, "train"),
        f"{name} on {len(data)} images of {len(set(data.patients))} training patients, {_size(store)}, {asked}",
    )
    if options.group.leads:
        warn_of_specks(options.announce, store)
    if plugin.capabilities.keeps_images and options.group.leads:
        options.announce("its weights will hold the training images: share them only where you may share the scans")
    grid = _Grid(folder.work / "samples", plugin, data, options.seed)
    run = TrainingRun(
        folder.work, setup.device, setup.precision, options.seed, options.workers, budget,
        options.checkpoint_seconds, options.report, grid.draw, group=options.group,
    )  # fmt: skip
    plugin.fit(data, run)
    if plugin.capabilities.learns:
        refuse_broken(plugin)
    options.group.lead(lambda: grid.draw(run.done))
    described = _metadata("generator", name, plugin, store, data, options, setup.precision)
    described |= {"condition": plugin.capabilities.condition, "images_shown": run.done}
    options.group.lead(lambda: _finish(folder, "generator", plugin, described))


def train_network(
    task: Task,
    store_path: Path,
    name: str,
    options: RunOptions,
    *,
    synthetic: Sequence[Path] = (),
    ratio: float | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    minutes: float | None = None,
    synthetic_only: bool = False,
    start: Path | None = None,
) -> Path:
    """Fit a network of a task on the real training images of a store, mixed with synthetic ones, and publish it.

    The number of optimiser steps does not depend on `synthetic`: an epoch is a pass over as many
    images as there are real ones. With `start` the weights of that network are trained further.
    """
    store, others = open_store(store_path), [open_store(path) for path in synthetic]
    plugin = registry.build(task.kind, name, options.settings)
    usable = task.usable(store)
    if not usable.any():
        raise BadInput(task.wanting(store))
    task.check(store, others)
    data = training_examples(store, others, usable, ratio, synthetic_only)
    setup = _Setup.of(options, name, plugin.capabilities)
    before = None if start is None else _continued(plugin, name, task.kind, start, store, setup.device)
    check_capable(name, plugin.capabilities, store)
    real = int((usable & (store.splits == "train")).sum())
    steps = _steps(plugin, real, steps, epochs, minutes)
    extra: dict[str, Any] = {
        "steps": steps,
        "minutes": minutes,
        "ratio": ratio,
        "synthetic": [other.hash for other in others],
    }
    if synthetic_only:
        extra["synthetic_only"] = True
    if before is not None:
        extra["start"] = before.weights
    plan = _plan(f"train-{task.kind}", name, plugin, store, options, setup, extra)
    with _claimed(plan, options, [store_path, *synthetic, *([] if start is None else [start])]) as folder:
        if not folder.finished:
            fitted_on = _Fitted(task, store, others, ratio, synthetic_only, before)
            _fit_network(folder, name, plugin, data, options, setup, fitted_on, Budget(steps, minutes))
        return folder.out


def train_detector(
    store_path: Path,
    name: str,
    options: RunOptions,
    synthetic: Sequence[Path] = (),
    ratio: float | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    minutes: float | None = None,
    synthetic_only: bool = False,
    start: Path | None = None,
) -> Path:
    """Fit a detector; see `train_network`."""
    return train_network(
        Detection(),
        store_path,
        name,
        options,
        synthetic=synthetic,
        ratio=ratio,
        steps=steps,
        epochs=epochs,
        minutes=minutes,
        synthetic_only=synthetic_only,
        start=start,
    )


@dataclass(frozen=True)
class _Fitted:
    """What a network is fitted on."""

    task: Task
    store: Store
    synthetic: Sequence[Store]
    ratio: float | None
    synthetic_only: bool
    before: NetworkMetadata | None  # of the network that it goes on from


def _fit_network(
    folder: RunFolder, name: str, plugin: Any, data: StoreExamples, options: RunOptions, setup: "_Setup", on: _Fitted,
    budget: Budget,
) -> None:  # fmt: skip
    store, others, before = on.store, on.synthetic, on.before
    steps = None if budget.units is None else int(budget.units)
    by_lesions = not isinstance(on.task, Classification)  # which asks for a class, and for no lesion
    words = unannotated_words(store, "train") if by_lesions else []
    _announce(
        options,
        setup,
        words,
        f"{name} on {int((~data.synthetic).sum())} real and {sum(map(len, others))} synthetic images, {_size(store)}, "
        f"{_words(steps, 'steps', budget.minutes)}",
    )
    scorer = _Scorer(on.task, store)
    if options.group.leads:
        if isinstance(on.task, Detection):
            warn_of_specks(options.announce, store)
        if reason := scorer.cannot():
            patience = " and patience stops nothing" if getattr(plugin, "patience", 0) else ""
            options.announce(f"{reason}: the weights of the last step are kept{patience}")
    run = TrainingRun(
        folder.work, setup.device, setup.precision, options.seed, options.workers, budget,
        options.checkpoint_seconds, options.report, score=scorer.score, group=options.group,
    )  # fmt: skip
    plugin.fit(data, run)
    refuse_broken(plugin)
    described = _metadata(on.task.kind, name, plugin, store, data, options, setup.precision)
    parts = [{"hash": s.hash, "images": len(s), "generators": [g.name for g in s.info.generators]} for s in others]
    described |= {"steps": run.done, "synthetic": parts, "ratio": on.ratio, "validation": scorer.best}
    described |= {"synthetic_only": on.synthetic_only}
    if before is not None:
        described["start"] = before.weights
        described["training_patients"] = sorted({*described["training_patients"], *before.training_patients})
        described["synthetic"] = [part.model_dump() for part in before.synthetic] + parts
    options.group.lead(lambda: _finish(folder, on.task.kind, plugin, described))


def _continued(
    plugin: Any, name: str, kind: str, start: Path, store: Store, device: str
) -> NetworkMetadata:
    """Load the weights of the network in `start` into `plugin`; raise where they do not fit it or the store."""
    from safetensors.torch import load

    _, metadata = load_network(start, kind)
    if metadata.name != name or not plugin.capabilities.continues:
        able = name if not plugin.capabilities.continues else metadata.name
        raise UsageError(f"--start {start}: it holds a {metadata.name}; {able} cannot go on from it as {name}")
    form, spec = metadata.form.spec(), store.spec
    if form != spec:
        raise BadInput(f"{start} was fitted on images of another form than {store.path} holds")
    plugin.load_state_dict(load((start / f"{kind}.safetensors").read_bytes()), spec, device)
    return metadata


@dataclass(frozen=True)
class _Setup:
    device: str
    precision: Any

    @classmethod
    def of(cls, options: RunOptions, name: str, able: Capabilities) -> "_Setup":
        if options.group.world > 1 and not able.shares:
            raise UsageError(f"{name} trains in one process, {options.group.world} were started; start one")
        device = resolve_device(options.device, options.group.local)
        if options.group.world > 1 and device == "mps":
            raise UsageError("processes that train together meet on cpu or cuda devices, not on mps")
        return cls(device, resolve_precision(options.precision, device))


@contextmanager
def _claimed(plan: dict[str, Any], options: RunOptions, reads: list[Path]) -> Iterator[RunFolder]:
    """Let the first process keep others from this run while the block runs; yield its folder in every process."""
    options.group.check_alike(plan)
    with ExitStack() as held:
        claim = run_claimed(options.out, plan, options.resume, options.overwrite, reads)
        yield options.group.lead(lambda: held.enter_context(claim))


def _announce(options: RunOptions, setup: _Setup, left_out: Sequence[str], sentence: str) -> None:
    if options.group.leads:
        for words in left_out:
            options.announce(words)
        several = f" in {options.group.world} processes" if options.group.world > 1 else ""
        options.announce(f"{sentence}, on {setup.device} at {setup.precision}{several}")


class _Grid:
    """Draws the same conditions and seeds again and again, so that training can be watched."""

    def __init__(self, folder: Path, plugin: Any, data: StoreExamples, seed: int):
        chosen = np.random.default_rng(seed).permutation(len(data))[:GRID]
        self.folder, self.plugin = folder, plugin
        self.conditions = [data.condition(int(i)) for i in chosen]
        self.seeds = [image_seed(seed, i) for i in range(len(self.conditions))]

    def draw(self, done: int) -> None:
        from medaug_cli.figures.grid import save_grid

        self.folder.mkdir(exist_ok=True)
        drawn = map(as_drawn, self.plugin.sample(self.conditions, self.seeds), self.conditions)
        images, boxes = zip(*((each.image, each.boxes) for each in drawn), strict=True)
        save_grid(self.folder / f"{done:010d}.png", images, boxes)


class _Scorer:
    """Scores what a plugin says of the validation split of a store."""

    def __init__(self, task: Task, store: Store):
        self.task, self.store = task, store
        self.chosen = np.flatnonzero(task.usable(store) & (store.splits == "val"))
        self.lacks = task.measurable(store, self.chosen) if len(self.chosen) else "no image"
        self.best: dict[str, float] = {}

    def cannot(self) -> str | None:
        """Say why nothing can be measured on the validation split; None where it can."""
        return self.lacks and f"{self.store.path} has {self.lacks} in its validation split"

    def score(self, predict: Callable) -> dict[str, float]:
        if self.lacks:
            return {}
        answers = list(predict(self.store.read([int(i)])[0] for i in self.chosen))
        score = self.task.score(self.store, self.chosen, answers)
        if not self.best or score["score"] > self.best["score"]:
            self.best = score
        return score


def warn_of_specks(announce: Callable[[str], None], store: Store) -> None:
    """Say how many training boxes are narrower than a pixel: a network of this size cannot see them."""
    d, train = store.spec.dims, store.indices("train")
    boxes = np.concatenate([np.empty((0, 2 * d)), *(store.boxes[i] for i in train)])
    small = int(((boxes[:, d:] - boxes[:, :d]).min(1) < 1).sum()) if len(boxes) else 0
    if small:
        announce(
            f"{small} of {len(boxes)} training boxes of {store.path} are narrower than a pixel at {_size(store)}: "
            "they cannot be learnt; preprocess the scans at a larger --size"
        )


def _steps(plugin: Any, real: int, steps: int | None, epochs: float | None, minutes: float | None) -> int | None:
    if steps is not None and epochs is not None:
        raise UsageError("--steps and --epochs say the same in two ways; give one of them")
    if epochs is not None:
        return math.ceil(epochs * real / getattr(plugin, "batch", 16))
    if steps is None and minutes is None:
        return int(plugin.capabilities.default_budget or DEFAULT_STEPS)
    return steps


def check_capable(name: str, able: Capabilities, store: Store) -> None:
    """Raise BadInput where a plugin cannot work on images of a store's form."""
    spec = store.spec
    if spec.dims not in able.dims:
        raise BadInput(
            f"{store.path} holds {spec.dims}D images; {name} takes {' or '.join(f'{d}D' for d in able.dims)}"
        )
    if spec.channels not in able.channels:
        choices = " or ".join(map(str, able.channels))
        raise BadInput(f"{store.path} holds images of {spec.channels} channels; {name} takes {choices}")
    if able.power_of_two and any(length & (length - 1) for length in spec.spatial):
        raise BadInput(f"{store.path} holds images of {_size(store)}; {name} needs powers of two (preprocess --size)")
    if able.condition == "mask" and store.masks is None:
        raise BadInput(f"{store.path} holds no masks, and {name} is conditioned on them (preprocess --masks)")


def _plan(
    command: str, name: str, plugin: Any, store: Store, options: RunOptions, setup: _Setup, extra: dict[str, Any]
) -> dict[str, Any]:
    there = os.path.relpath(store.path.resolve(), options.out.resolve())  # a project may be moved, or copied
    return {
        "command": command, "plugin": name, "settings": asdict(plugin), "store": there,
        "store_hash": store.hash, "seed": options.seed, "device": setup.device.partition(":")[0],
        "precision": setup.precision, **extra,
    }  # fmt: skip


def _metadata(
    kind: str, name: str, plugin: Any, store: Store, data: StoreExamples, options: RunOptions, precision: str
) -> dict[str, Any]:
    origin = registry.find(kind, name)
    spec, real = store.spec, ~data.synthetic
    images = int(real.sum()) or len(store.indices("train"))  # of synthetic images alone: those behind them
    patients = {store.patients[i] for i in store.indices("train", unannotated=True)}
    return {
        "tool_version": __version__, "name": name, "distribution": origin.distribution,
        "distribution_version": origin.version, "settings": asdict(plugin),
        "form": Form(channels=spec.channels, spatial=list(spec.spatial), label_names=list(spec.label_names),
                     bits=16 if store.images.dtype == np.uint16 else 8,
                     class_names=list(spec.class_names), mask_names=list(spec.mask_names)),
        "seed": options.seed, "precision": precision, "training_store": store.hash, "training_images": images,
        "training_patients": sorted(map(digest_patient, patients)),
    }  # fmt: skip


def refuse_broken(plugin: Any) -> None:
    """Raise MedaugError where a weight is not a finite number, as after a run that broke down in its last steps."""
    for name, value in plugin.state_dict().items():
        if not np.isfinite(np.asarray(value.detach().float().cpu() if hasattr(value, "detach") else value)).all():
            raise MedaugError(
                f"training broke down: the weights {name} are not finite numbers; "
                "try a smaller learning rate (--set lr=...) or --precision 32"
            )


def _finish(folder: RunFolder, kind: str, plugin: Any, metadata: dict[str, Any]) -> None:
    save_plugin(folder.work, kind, plugin, metadata)
    folder.publish()


def _size(store: Store) -> str:
    return "x".join(map(str, store.spec.spatial))


def _words(units: float | None, name: str, minutes: float | None) -> str:
    parts = [f"{units:g} {name}"] if units is not None else []
    parts += [f"{minutes:g} minutes"] if minutes is not None else []
    return " or ".join(parts)
