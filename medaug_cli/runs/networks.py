"""Fit a network of a task: a detector, a classifier, a segmenter, or a stranger's."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli import registry
from medaug_cli.answers import answered
from medaug_cli.boxes import with_patients
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.runs.beside import NOTHING_EXTERNAL, External, beside_metadata, left_out_words
from medaug_cli.runs.fitting import (
    RunOptions,
    Setup,
    announce,
    asked_or_begun,
    asked_or_begun_budget,
    budget_words,
    check_capable,
    claimed,
    finish,
    metadata_of,
    patients_of,
    plan_of_run,
    refuse_broken,
    size_words,
    warn_of_mirrors,
    warn_of_specks,
)
from medaug_cli.runs.folder import RunFolder, command_of
from medaug_cli.runs.loading import check_whole, load_network
from medaug_cli.runs.metadata import NetworkMetadata
from medaug_cli.runs.starting import refuse_held_out
from medaug_cli.runs.training import Budget, TrainingRun
from medaug_cli.store import (
    Store,
    StoreExamples,
    not_outlined_words,
    open_store,
    training_examples,
    unannotated_words,
)
from medaug_cli.store.external import check_annotations
from medaug_cli.tasks.classification import Classification
from medaug_cli.tasks.detection import Detection
from medaug_cli.tasks.segmentation import Segmentation
from medaug_cli.tasks.task import Task
from medaug_cli.words import counted

DEFAULT_STEPS = 2000.0


def train_network(
    task: Task,
    store_path: Path,
    name: str | None,
    options: RunOptions,
    *,
    synthetic: Sequence[Path] = (),
    ratio: float | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    minutes: float | None = None,
    synthetic_only: bool = False,
    start: Path | None = None,
    external: External = NOTHING_EXTERNAL,
) -> Path:
    """Fit a network of a task on the real training images of a store, mixed with synthetic ones, and publish it.

    The number of optimiser steps does not depend on `synthetic` or `external`: an epoch is a pass over as
    many images as there are real ones. Without a name it is that of the run to resume, with its settings unless
    others are given and for as long unless another budget is, or the default. With `start` the weights of that
    network are trained further, under its name and with its settings unless others are given. Raises BadInput where
    that has seen a patient whom the store holds out.
    """
    store, others = options.opened(store_path), [open_store(path) for path in synthetic]
    before = None if start is None else load_network(start, task.kind)[1]
    if before is None:
        name, settings = asked_or_begun(task.kind, name, options)
    else:
        refuse_held_out(str(start), before.training_patients, store)
        name, settings = name or before.name, {**({} if name else before.settings), **options.settings}
    plugin = registry.build(task.kind, name, settings)
    usable = task.usable(store)
    if not usable.any():
        raise BadInput(task.wanting(store))
    task.check(store, others)
    if synthetic_only and isinstance(task, Classification):
        _check_classes(store, others)
    if external.stores and synthetic_only:
        raise UsageError("--synthetic-only uses no scans; leave --external out")
    beside = external.opened(store)
    parts = [(each, _annotated(task, store, each)) for each in beside.external]
    data = training_examples(
        store, others, usable, ratio, synthetic_only, external=parts, external_share=external.share
    )
    setup = Setup.of(options, name, plugin.capabilities)
    if start is not None and before is not None:
        _continue(plugin, name, before, kind=task.kind, start=start, store=store, device=setup.device)
    check_capable(name, plugin.capabilities, store)
    real = int((usable & (store.splits == "train")).sum())
    units, minutes = asked_or_begun_budget(options, "steps", _steps(plugin, real, steps, epochs), minutes)
    if units is None and minutes is None:
        units = plugin.capabilities.default_budget or DEFAULT_STEPS
    steps = None if units is None else int(units)
    extra: dict[str, Any] = {
        "steps": steps,
        "minutes": minutes,
        "ratio": ratio,
        "synthetic": [other.hash for other in others],
    }
    extra |= external.plan(beside)
    if synthetic_only:
        extra["synthetic_only"] = True
    if before is not None:
        extra["start"] = before.weights
    plan = plan_of_run(
        command_of(task.kind), name, plugin=plugin, store=store, options=options, setup=setup, extra=extra
    )
    with claimed(
        plan, options, [store_path, *synthetic, *external.stores, *([] if start is None else [start])]
    ) as folder:
        if not folder.finished:
            fitted_on = _Fitted(
                task,
                store,
                synthetic=others,
                external=beside.external,
                ratio=ratio,
                synthetic_only=synthetic_only,
                before=before,
            )
            _fit_network(
                folder,
                name,
                plugin=plugin,
                data=data,
                options=options,
                setup=setup,
                on=fitted_on,
                budget=Budget(steps, minutes),
            )
        else:
            check_whole(folder.out, task.kind)
        return folder.out


def _annotated(task: Task, real: Store, external: Store) -> np.ndarray:
    """Return the training images of an external store that a task can learn from; raise BadInput where none is."""
    check_annotations(real, external)
    usable = task.usable(external)
    chosen = np.flatnonzero(usable & (external.splits == "train"))
    if not len(chosen):
        raise BadInput(task.wanting(external))
    unknown = [name for name in external.class_names if name not in real.class_names]
    of_unknown = [
        i for i in chosen if external.classes[i] >= 0 and external.class_names[external.classes[i]] in unknown
    ]
    if isinstance(task, Classification) and of_unknown:
        raise BadInput(
            f"{external.path} has the class {unknown[0]!r}, and {real.path} has {', '.join(real.class_names)}; "
            "give the same names by preprocess --classes"
        )
    return chosen


train_detector = partial(train_network, Detection())


@dataclass(frozen=True)
class _Fitted:
    """What a network is fitted on."""

    task: Task
    store: Store
    synthetic: Sequence[Store]
    external: Sequence[Store]
    ratio: float | None
    synthetic_only: bool
    before: NetworkMetadata | None  # of the network that it goes on from


def _check_classes(real: Store, synthetic: Sequence[Store]) -> None:
    """Raise BadInput where synthetic images, which are all that is learnt from, lack a class of the real ones."""
    shown = {store.class_names[k] for store in synthetic for k in np.unique(store.classes)}
    missing = [name for name in real.class_names if name not in shown]
    if missing:
        raise BadInput(
            f"{' and '.join(str(store.path) for store in synthetic)} has no image of the class {missing[0]!r}, and "
            "--synthetic-only leaves the real ones out"
        )


def _fit_network(
    folder: RunFolder, name: str, plugin: Any, data: StoreExamples, options: RunOptions, setup: "Setup", on: _Fitted,
    budget: Budget,
) -> None:  # fmt: skip
    store, others, before = on.store, on.synthetic, on.before
    steps = None if budget.units is None else int(budget.units)
    by_lesions = not isinstance(on.task, Classification)  # which asks for a class, and for no lesion
    words = unannotated_words(store, "train") if by_lesions else []
    words += not_outlined_words(store, "train") if isinstance(on.task, Segmentation) else []
    words += left_out_words(data, on.external)
    announce(
        options,
        setup,
        words,
        f"{name} on {_images_words(store, data, others)}, "
        f"{size_words(store)}, "
        f"{budget_words(steps, 'steps', budget.minutes)}",
    )
    scorer = _Scorer(on.task, store, name)
    if options.group.leads:
        warn_of_mirrors(options.announce, store, plugin)
        if isinstance(on.task, Detection):
            warn_of_specks(options.announce, store)
        if reason := scorer.cannot():
            patience = " and patience stops nothing" if getattr(plugin, "patience", 0) else ""
            options.announce(f"{reason}: the weights of the last step are kept{patience}")
    run = TrainingRun(
        folder.work,
        setup.device,
        precision=setup.precision,
        seed=options.seed,
        workers=options.workers,
        budget=budget,
        checkpoint_seconds=options.checkpoint_seconds,
        report=options.report,
        score=scorer.score,
        group=options.group,
    )
    plugin.fit(data, run)
    refuse_broken(plugin)
    described = metadata_of(
        on.task.kind, name, plugin=plugin, store=store, data=data, options=options, precision=setup.precision
    )
    parts = [{"hash": s.hash, "images": len(s), "generators": [g.name for g in s.info.generators]} for s in others]
    described |= {"steps": run.done, "synthetic": parts, "ratio": on.ratio, "validation": scorer.best}
    described["external"] = beside_metadata(data)["external"]
    described |= {"synthetic_only": on.synthetic_only, "prepared": dict(store.info.settings)}
    if before is not None:
        described["start"] = before.weights
        described["training_patients"] = with_patients(before.training_patients, patients_of(store, data))
        described["synthetic"] = [part.model_dump() for part in before.synthetic] + parts
    options.group.lead(lambda: finish(folder, on.task.kind, plugin, described))


def _images_words(store: Store, data: StoreExamples, synthetic: Sequence[Store]) -> str:
    """Say how many real, external and synthetic images there are."""
    scans = [(own is store, len(ix)) for own, ix in data.parts if own not in synthetic]
    real, external = (sum(count for own, count in scans if own is is_own) for is_own in (True, False))
    beside = f", {external} external" if external else ""
    return f"{real} real{beside} and {counted(sum(map(len, synthetic)), 'synthetic image')}"


def _continue(
    plugin: Any, name: str, metadata: NetworkMetadata, kind: str, start: Path, store: Store, device: str
) -> None:
    """Load the weights of the network in `start` into `plugin`; raise where they do not fit it or the store."""
    from safetensors.torch import load

    if metadata.name != name:
        raise UsageError(f"--start {start}: it holds a {metadata.name}, from which {name} cannot start")
    if not plugin.capabilities.continues:
        raise UsageError(f"--start {start}: {name} cannot continue from trained weights")
    form, spec = metadata.form.spec(), store.spec
    if form != spec:
        raise BadInput(f"{start} was fitted on images of {form}; {store.path} has {spec}")
    for names in ("class_names", "mask_names"):
        own, now = (list(getattr(each, names)) for each in (form, spec))
        if own != now and sorted(own) == sorted(now):
            raise BadInput(
                f"--start {start}: it knows {', '.join(own)}, and {store.path} names them in another order "
                f"({', '.join(now)}); its answers would change their meaning"
            )
    plugin.load_state_dict(load((start / f"{kind}.safetensors").read_bytes()), spec, device)


class _Scorer:
    """Scores what a plugin says of the validation split of a store."""

    def __init__(self, task: Task, store: Store, name: str):
        self.task, self.store, self.name = task, store, name
        self.chosen = np.flatnonzero(task.usable(store) & (store.splits == "val"))
        self.lacks = task.measurable(store, self.chosen) if len(self.chosen) else "no image"
        self.best: dict[str, float] = {}

    def cannot(self) -> str | None:
        """Say why nothing can be measured on the validation split; None where it can."""
        return self.lacks and f"{self.store.path} has {self.lacks} in its validation split"

    def score(self, predict: Callable) -> dict[str, float]:
        if self.lacks:
            return {}
        images = (self.store.read([int(i)])[0] for i in self.chosen)
        answers = list(answered(self.task.kind, self.name, predict(images), len(self.chosen), self.store.spec))
        score = self.task.score(self.store, self.chosen, answers)
        if not self.best or score["score"] > self.best["score"]:
            self.best = score
        return score


def _steps(plugin: Any, real: int, steps: int | None, epochs: float | None) -> int | None:
    """Return how many steps are asked for, of them or of passes over the real images; None where neither is."""
    if steps is not None and epochs is not None:
        raise UsageError("--steps and --epochs exclude each other; give one of them")
    return steps if epochs is None else math.ceil(epochs * real / getattr(plugin, "batch", 16))
