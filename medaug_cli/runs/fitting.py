"""Fit a generator; and what every training run has: plan, set-up, metadata, publishing."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np

from medaug_cli import __version__, registry
from medaug_cli.answers import drawn_by
from medaug_cli.boxes import with_patients
from medaug_cli.devices import Precision, resolve_device, resolve_precision
from medaug_cli.errors import BadInput, MedaugError, UsageError
from medaug_cli.files import parse_json
from medaug_cli.plugin import Capabilities, GeneratorCapabilities, Known, image_seed, knowledge
from medaug_cli.processes import ALONE, Group
from medaug_cli.runs.beside import (
    NOTHING_EXTERNAL,
    External,
    beside_metadata,
    beside_words,
    check_beside,
    check_share,
    left_out_words,
    real_patients,
)
from medaug_cli.runs.by_class import of_one_class
from medaug_cli.runs.folder import PLAN, RunFolder, command_of, run_claimed
from medaug_cli.runs.loading import check_whole, save_plugin
from medaug_cli.runs.metadata import Form
from medaug_cli.runs.starting import Start, opened_start
from medaug_cli.runs.training import Budget, Progress, TrainingRun
from medaug_cli.store import (
    Store,
    StoreExamples,
    generator_examples,
    open_store,
    unannotated_words,
)
from medaug_cli.store.folds import Fold
from medaug_cli.words import counted

GRID = 16
DEFAULT_KIMG = 200.0
OF_LEARNING = ("kimg", "minutes", "precision")  # of a plan: what changes nothing where nothing is learnt


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
    fold: Fold | None = None  # its training patients, in place of those of the store's own split
    report: Callable[[Progress], None] = lambda progress: None
    announce: Callable[[str], None] = lambda sentence: None
    group: Group = ALONE

    def opened(self, path: Path) -> Store:
        """Open the store to train on, with the splits of the fold where there is one."""
        store = open_store(path)
        return store if self.fold is None else self.fold.of(store)


def train_generator(
    store_path: Path,
    name: str | None,
    options: RunOptions,
    kimg: float | None = None,
    minutes: float | None = None,
    *,
    only: str | None = None,
    external: External = NOTHING_EXTERNAL,
    start: str | Path | None = None,
) -> Path:
    """Fit a generator on the real training images of a store, or on those of `only` one class, and publish its folder.

    `train_each_class` fits one for every class. Without a name it is that of the run to resume, with its settings
    unless others are given, or the default. With `start`, a folder or the name of installed weights, training starts
    from it, with its kind and settings unless others are given. Raises UsageError for a class that the store
    does not have, BadInput for `external` images and weights that may not or cannot be learnt from.
    """
    store = options.opened(store_path)
    before = None if start is None else opened_start(start)
    if before is None:
        name, settings = asked_or_begun("generator", name, options)
        plugin = registry.build("generator", name, settings)
    else:
        before.check(store)
        name, plugin = before.built(name, options.settings)
    beside = external.opened(store)
    known = known_of(plugin, store, only)
    check_beside(name, plugin.capabilities, known, store=store, beside=beside)
    data = generator_examples(store, known, only, unannotated=plugin.capabilities.unannotated, beside=beside)
    check_share(name, plugin.capabilities, data, beside)
    check_capable(name, plugin.capabilities, store)
    kimg, minutes = asked_or_begun_budget(options, "kimg", kimg, minutes)
    kimg = budget_of(plugin, kimg, minutes)
    setup = Setup.of(options, name, plugin.capabilities)
    extra = {"kimg": kimg, "minutes": minutes} | ({} if only is None else {"class": only}) | external.plan(beside)
    extra |= {} if before is None else {"start": before.metadata.weights}
    plan = plan_of_run("train-gan", name, plugin=plugin, store=store, options=options, setup=setup, extra=extra)
    if not plugin.capabilities.learns:
        plan |= {key: value for key, value in _begun(options).items() if key in OF_LEARNING}
    with claimed(plan, options, [store_path, *external.stores, *([] if before is None else [before.folder])]) as folder:
        if not folder.finished:
            fit_generator(
                folder.work,
                Fitted(
                    name,
                    plugin,
                    store=store,
                    data=data,
                    options=options,
                    setup=setup,
                    kimg=kimg,
                    minutes=minutes,
                    only=only,
                    start=before,
                    external=beside.external,
                ),
            )
            options.group.lead(folder.publish)
        else:
            check_whole(folder.out, "generator")
        return folder.out


def _left_out(store: Store, data: StoreExamples) -> list[str]:
    """Say that images without annotation are left out, where no image of that kind is learnt from."""
    told = np.concatenate([ix for (own, ix), told in zip(data.parts, data.told, strict=True) if told and own is store])
    used = any(own is store and not told for (own, _), told in zip(data.parts, data.told, strict=True))
    return [] if used or not store.annotated[told].all() else unannotated_words(store, "train")


def known_of(plugin: Any, store: Store, only: str | None = None) -> frozenset[Known]:
    """Return what a generator will know of its images, fitted on a store or on `only` one class of it."""
    return knowledge(plugin, store.spec if only is None else of_one_class(store.spec))


def budget_of(plugin: Any, kimg: float | None, minutes: float | None) -> float | None:
    """Return for how many thousand images to train a generator; None where minutes alone count."""
    if kimg is None and minutes is None:
        return plugin.capabilities.default_budget or DEFAULT_KIMG
    return kimg


@dataclass(frozen=True)
class Fitted:
    """A generator, and what it is fitted on."""

    name: str
    plugin: Any
    store: Store
    data: StoreExamples
    options: RunOptions
    setup: "Setup"
    kimg: float | None
    minutes: float | None
    only: str | None = None  # the one class that `data` is of
    start: Start | None = None  # what it begins with
    external: Sequence[Store] = ()  # stores that are learnt from beside


def fit_generator(work: Path, fitted: Fitted) -> None:
    """Fit a generator in a folder, and write it there."""
    plugin, store, data, options, setup = fitted.plugin, fitted.store, fitted.data, fitted.options, fitted.setup
    kimg, minutes = fitted.kimg, fitted.minutes
    images = None if kimg is None else kimg * 1000
    budget = Budget(images, minutes)
    asked = budget_words(images, "images", minutes) if plugin.capabilities.learns else "in one pass"
    of_class = "" if fitted.only is None else f"{fitted.only} "
    announce(
        options,
        setup,
        _left_out(store, data) + left_out_words(data, fitted.external),
        f"{fitted.name} on {counted(int(data.annotated.sum()), of_class + 'image')} of "
        f"{counted(len({data.patients[i] for i in np.flatnonzero(data.annotated)}), 'training patient')}, "
        f"{beside_words(data)}{size_words(store)}, {asked}",
    )
    if options.group.leads:
        warn_of_specks(options.announce, store)
        warn_of_mirrors(options.announce, store, plugin)
    if plugin.capabilities.keeps_images and options.group.leads:
        options.announce("its weights will contain the training images: share them only where you may share the scans")
    grid = _Grid(work / "samples", plugin, data, options.seed)
    run = TrainingRun(
        work,
        setup.device,
        precision=setup.precision,
        seed=options.seed,
        workers=options.workers,
        budget=budget,
        checkpoint_seconds=options.checkpoint_seconds,
        report=options.report,
        on_checkpoint=grid.draw,
        on_fraction=data.at,
        group=options.group,
    )
    if fitted.start is not None and run.state is None:
        said = fitted.start.begin(plugin, data.spec)
        if options.group.leads:
            options.announce(said)
    plugin.fit(data, run)
    if plugin.capabilities.learns:
        refuse_broken(plugin)
    options.group.lead(lambda: grid.draw(run.done))
    described = metadata_of(
        "generator", fitted.name, plugin=plugin, store=store, data=data, options=options, precision=setup.precision
    )
    described |= {"condition": plugin.capabilities.condition, "images_shown": run.done}
    described |= {"draws": [] if fitted.only is None else [fitted.only]} | beside_metadata(data)
    if fitted.start is not None:
        described["start"] = fitted.start.metadata.weights
        seen = fitted.start.metadata.training_patients
        described["training_patients"] = with_patients(seen, patients_of(store, data))
    options.group.lead(lambda: save_plugin(work, "generator", plugin, described))


@dataclass(frozen=True)
class Setup:
    """Where and how precisely a run computes."""

    device: str
    precision: Any

    @classmethod
    def of(cls, options: RunOptions, name: str, able: Capabilities) -> "Setup":
        """Return the setup that the options ask for; raise UsageError where plugin or machine cannot give it.

        What is left to the machine depends on its speed just then: all processes go by the first one's choice, and a
        run that is resumed by what it began with.
        """
        if options.group.world > 1 and not able.shares:
            raise UsageError(f"{name} trains in one process, but {options.group.world} were started; start one")
        device = resolve_device(options.device, options.group.local)
        if options.group.world > 1 and device == "mps":
            raise UsageError("training in several processes works on cpu and cuda devices, not on mps")
        named = _begun_at(options) if options.precision == "auto" else options.precision
        return cls(device, options.group.lead(lambda: resolve_precision(named, device)))


def asked_or_begun(kind: str, name: str | None, options: RunOptions) -> tuple[str, dict[str, Any]]:
    """Return a plugin's name and settings: those asked for or, where no name is, those of the run to resume."""
    if name is not None:
        return name, dict(options.settings)
    begun = _begun(options)
    if begun.get("command") == command_of(kind) and begun.get("plugin") in registry.names(kind):
        return begun["plugin"], {**begun.get("settings", {}), **options.settings}
    return registry.default(kind), dict(options.settings)


def asked_or_begun_budget(
    options: RunOptions, name: str, units: float | None, minutes: float | None
) -> tuple[float | None, float | None]:
    """Return a run's kimg or steps, by `name`, and minutes: what is asked for, or else those of the run to resume."""
    begun = _begun(options)
    if units is None and minutes is None and (begun.get(name) or begun.get("minutes")):
        return begun.get(name), begun.get("minutes")
    return units, minutes


def _begun_at(options: RunOptions) -> str:
    """Return the precision of the run that is resumed, "auto" where there is none yet."""
    precision = _begun(options).get("precision")
    return str(precision) if precision in get_args(Precision) else "auto"


def _begun(options: RunOptions) -> dict[str, Any]:
    """Return the plan of the run that is resumed, an empty one where there is none yet."""
    if options.resume and not options.overwrite:
        for folder in (options.out.with_name(f"{options.out.name}.parts"), options.out):
            with suppress(BadInput):  # a damaged plan is named where it is compared
                plan = parse_json(folder / PLAN) if (folder / PLAN).is_file() else None
                if isinstance(plan, dict):
                    return plan
    return {}


@contextmanager
def claimed(plan: dict[str, Any], options: RunOptions, reads: list[Path]) -> Iterator[RunFolder]:
    """Let the first process keep others from this run while the block runs; yield its folder in every process."""
    options.group.check_alike(plan)
    with ExitStack() as held:
        claim = run_claimed(options.out, plan, options.resume, options.overwrite, reads)
        yield options.group.lead(lambda: held.enter_context(claim))


def announce(options: RunOptions, setup: Setup, left_out: Sequence[str], sentence: str) -> None:
    """Say what is left out of a run, and what it will do; once, where several processes work together."""
    if options.group.leads:
        for words in left_out:
            options.announce(words)
        several = f" in {options.group.world} processes" if options.group.world > 1 else ""
        options.announce(f"{sentence}, on {setup.device}, precision {setup.precision}{several}")


class _Grid:
    """Draws the same conditions and seeds again and again, so that training can be watched."""

    def __init__(self, folder: Path, plugin: Any, data: StoreExamples, seed: int):
        annotated = np.flatnonzero(data.annotated)  # the others have no condition
        chosen = annotated[np.random.default_rng(seed).permutation(len(annotated))[:GRID]]
        self.folder, self.plugin, self.spec, self.known = folder, plugin, data.spec, knowledge(plugin, data.spec)
        self.conditions = [data.condition(int(i)) for i in chosen]
        self.seeds = [image_seed(seed, i) for i in range(len(self.conditions))]

    def draw(self, done: int) -> None:
        from medaug_cli.figures.grid import save_grid

        self.folder.mkdir(exist_ok=True)
        images = self.plugin.sample(self.conditions, self.seeds)
        drawn = [
            drawn_by(type(self.plugin).__name__, image, condition, self.spec, self.known)
            for image, condition in zip(images, self.conditions, strict=True)
        ]
        masks = [each.mask for each in drawn]
        save_grid(
            self.folder / f"{done:010d}.png",
            [each.image for each in drawn],
            [each.boxes for each in drawn],
            masks=None if any(mask is None for mask in masks) else masks,
        )


def warn_of_specks(announce: Callable[[str], None], store: Store) -> None:
    """Say how many training boxes are narrower than a pixel: a network of this size cannot see them."""
    d, train = store.spec.dims, store.indices("train")
    boxes = np.concatenate([np.empty((0, 2 * d)), *(store.boxes[i] for i in train)])
    small = int(((boxes[:, d:] - boxes[:, :d]).min(1) < 1).sum()) if len(boxes) else 0
    if small:
        announce(
            f"{small} of {len(boxes)} training boxes of {store.path} are narrower than a pixel at {size_words(store)}: "
            "they cannot be learnt; preprocess the scans at a larger --size"
        )


def warn_of_mirrors(announce: Callable[[str], None], store: Store, plugin: Any) -> None:
    """Say that mirror images are learnt from where the scans' left and right differ (preprocess --modality xray)."""
    if store.info.settings.get("mirrored") is False and getattr(plugin, "flip", False):
        announce(
            f"left and right differ in the scans of {store.path}, and training mirrors them; --set flip=false turns "
            f"that off"
        )


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
        size = size_words(store)
        raise BadInput(f"{store.path} holds images of {size}; {name} needs powers of two (preprocess --size)")
    if isinstance(able, GeneratorCapabilities) and able.condition == "mask" and store.masks is None:
        raise BadInput(f"{store.path} holds no masks, and {name} is conditioned on them (preprocess --masks)")


def plan_of_run(
    command: str, name: str, plugin: Any, store: Store, options: RunOptions, setup: Setup, extra: dict[str, Any]
) -> dict[str, Any]:
    """Return what must be the same for a run to go on, or to be what was asked for."""
    there = os.path.relpath(store.path.resolve(), options.out.resolve())  # a project may be moved, or copied
    return {
        "command": command, "plugin": name, "settings": asdict(plugin), "store": there,
        "store_hash": store.hash, "seed": options.seed, "device": setup.device.partition(":")[0],
        "precision": setup.precision, **({} if options.fold is None else {"fold": options.fold.name}), **extra,
    }  # fmt: skip


def metadata_of(
    kind: str, name: str, plugin: Any, store: Store, data: StoreExamples, options: RunOptions, precision: str
) -> dict[str, Any]:
    """Return what the JSON file beside the weights says of any kind of plugin."""
    origin = registry.find(kind, name)
    spec, real = store.spec, ~data.synthetic
    images = int(real.sum()) or len(store.indices("train"))  # of synthetic images alone: those behind them
    return {
        "tool_version": __version__, "name": name, "distribution": origin.distribution,
        "distribution_version": origin.version, "settings": asdict(plugin),
        "form": Form(channels=spec.channels, spatial=list(spec.spatial), label_names=list(spec.label_names),
                     bits=16 if store.images.dtype == np.uint16 else 8,
                     class_names=list(spec.class_names), mask_names=list(spec.mask_names), masks=spec.masks),
        "seed": options.seed, "precision": precision, "training_store": store.hash, "training_images": images,
        "training_patients": with_patients((), patients_of(store, data)),
        "fold": None if options.fold is None else options.fold.name,
    }  # fmt: skip


def patients_of(store: Store, data: StoreExamples) -> set[str]:
    """Return whom a run has seen: the training patients of its store, and those of the scans beside it."""
    return {store.patients[i] for i in store.indices("train", unannotated=True)} | real_patients(data)


def refuse_broken(plugin: Any) -> None:
    """Raise MedaugError where a weight is not a finite number, as after a run that broke down in its last steps."""
    for name, value in plugin.state_dict().items():
        if not np.isfinite(np.asarray(value.detach().float().cpu() if hasattr(value, "detach") else value)).all():
            raise MedaugError(
                f"training diverged: the weights {name} are not finite numbers; "
                "try a smaller learning rate (--set lr=...) or --precision 32"
            )


def finish(folder: RunFolder, kind: str, plugin: Any, metadata: dict[str, Any]) -> None:
    """Write the weights with their metadata, and publish the folder."""
    save_plugin(folder.work, kind, plugin, metadata)
    folder.publish()


def size_words(store: Store) -> str:
    """Say how large the images of a store are."""
    return "x".join(map(str, store.spec.spatial))


def budget_words(units: float | None, name: str, minutes: float | None) -> str:
    """Say how long a run is to be, as in `2,000 steps or 5 minutes`."""
    parts = [f"{units:,.10g} {name.removesuffix('s') if units == 1 else name}"] if units is not None else []
    parts += [f"{minutes:g} minute{'' if minutes == 1 else 's'}"] if minutes is not None else []
    return " or ".join(parts)
