"""Fit a generator for each class of images (Frid-Adar et al. 2018 found them better than one told the class)."""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from medaug_cli import registry
from medaug_cli.boxes import safe_id
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import canonical, parse_json, publish_text, remove
from medaug_cli.runs.fitting import (
    Fitted,
    RunOptions,
    Setup,
    asked_or_begun,
    asked_or_begun_budget,
    budget_of,
    check_capable,
    claimed,
    fit_generator,
    known_of,
    metadata_of,
    plan_of_run,
)
from medaug_cli.runs.folder import PLAN, RunFolder
from medaug_cli.runs.loading import check_whole, save_joint
from medaug_cli.runs.metadata import GeneratorMetadata
from medaug_cli.runs.training import Progress
from medaug_cli.store import NORMAL, Store, StoreExamples, conditions_in, generator_examples, kinds_apart, of_kind


def train_each_class(
    store_path: Path, name: str | None, options: RunOptions, kimg: float | None = None, minutes: float | None = None
) -> Path:
    """Fit a generator for each class of a store's real training images, and publish them in one folder.

    The budget is shared among them by their numbers of images. Raises UsageError for a generator that learns nothing.
    """
    store = options.opened(store_path)
    name, settings = asked_or_begun("generator", name, options)
    plugin = registry.build("generator", name, settings)
    if not plugin.capabilities.learns:
        raise UsageError(f"--each-class: {name} is not trained; it already draws each class from images of that class")
    check_capable(name, plugin.capabilities, store)
    data = {kind: _examples(store, plugin, kind) for kind in _kinds(store, plugin, options)}
    kimg, minutes = asked_or_begun_budget(options, "kimg", kimg, minutes)
    kimg = budget_of(plugin, kimg, minutes)
    setup = Setup.of(options, name, plugin.capabilities)
    extra = {"kimg": kimg, "minutes": minutes, "each_class": True}
    plan = plan_of_run("train-gan", name, plugin=plugin, store=store, options=options, setup=setup, extra=extra)
    with claimed(plan, options, [store_path]) as folder:
        if not folder.finished:
            whole = generator_examples(store, known_of(plugin, store))
            joint = Fitted(
                name, plugin, store=store, data=whole, options=options, setup=setup, kimg=kimg, minutes=minutes
            )
            shown = _fit_all(folder, joint, data)
            options.group.lead(lambda: _publish(folder, joint, data, shown))
        else:
            check_whole(folder.out, "generator")
        return folder.out


def _kinds(store: Store, plugin: Any, options: RunOptions) -> list[str]:
    """Return the kinds that have training images; say which classes have none, and how many images are of no kind."""
    train = conditions_in(store, known_of(plugin, store))
    found = kinds_apart(store, train)
    if len(found) < 2:
        raise BadInput(
            f"{store.path} has training images of {', '.join(found) or 'no class'}; --each-class needs two classes"
        )
    if options.group.leads:
        lacking = [kind for kind in store.class_names if kind not in found]
        classless = train[store.classes[train] < 0]
        unknown = len(classless) - len(of_kind(store, classless, NORMAL)) if store.class_names else 0
        if lacking:
            options.announce(f"no generator for {', '.join(lacking)}: {store.path} has no training image of it")
        if unknown:
            options.announce(f"{store.path}: {unknown} training images are of no class and are left out")
    return found


def _examples(store: Store, plugin: Any, kind: str) -> StoreExamples:
    return generator_examples(store, known_of(plugin, store, kind), kind)


def part_name(kind: str) -> str:
    """Return the folder of the generator of a class."""
    return f"class-{safe_id(kind)}"[:100]


def part_names(data: Mapping[str, Any]) -> dict[str, str]:
    """Return the folder of each class, no two alike whatever the names of the classes."""
    names: dict[str, str] = {}
    for kind in data:
        name, number = part_name(kind), 2
        while name.lower() in {taken.lower() for taken in names.values()}:
            name, number = f"{part_name(kind)}-{number}", number + 1
        names[kind] = name
    return names


def _fit_all(folder: RunFolder, joint: Fitted, data: Mapping[str, StoreExamples]) -> int:
    """Fit the generators that are not there yet; return how many images all have been shown."""
    total, before, shown = sum(map(len, data.values())), 0.0, 0
    for (kind, examples), name in zip(data.items(), part_names(data).values(), strict=True):
        share = len(examples) / total
        part = _part(joint, kind, examples, share, before)
        work = folder.work / name
        plan = _plan(part, joint.options.out / name)
        done = joint.options.group.lead(partial(_begun, work, plan))
        if not done:
            try:
                fit_generator(work, part)
            except BadInput as error:
                raise BadInput(f"--each-class, {kind}: {error}") from error
        before += share
        shown += joint.options.group.lead(partial(_images_shown, work))
    return shown


def _part(joint: Fitted, kind: str, examples: StoreExamples, share: float, before: float) -> Fitted:
    """Return what the generator of a class is fitted on, with its share of the budget."""
    report = joint.options.report

    def of_whole(progress: Progress) -> None:
        report(replace(progress, fraction=before + share * progress.fraction))

    return replace(
        joint,
        plugin=registry.build("generator", joint.name, joint.options.settings),
        data=examples,
        options=replace(joint.options, report=of_whole),
        kimg=None if joint.kimg is None else joint.kimg * share,
        minutes=None if joint.minutes is None else joint.minutes * share,
        only=kind,
    )


def _plan(part: Fitted, out: Path) -> dict[str, Any]:
    extra = {"kimg": part.kimg, "minutes": part.minutes, "class": part.only}
    options = replace(part.options, out=out)
    return plan_of_run(
        "train-gan", part.name, plugin=part.plugin, store=part.store, options=options, setup=part.setup, extra=extra
    )


def _begun(work: Path, plan: dict[str, Any]) -> bool:
    """Make the folder of a part ready to be fitted in; return whether it holds what the plan asks for already."""
    plain = json.loads(canonical(plan))
    if (work / "generator.json").is_file():
        if (work / PLAN).is_file() and parse_json(work / PLAN) == plain:
            return True
        remove(work / "generator.json")  # of a smaller budget
    work.mkdir(exist_ok=True)
    publish_text(work / PLAN, json.dumps(plan, indent=1))
    return False


def _publish(folder: RunFolder, joint: Fitted, data: Mapping[str, StoreExamples], shown: int) -> None:
    described = metadata_of(
        "generator",
        joint.name,
        plugin=joint.plugin,
        store=joint.store,
        data=joint.data,
        options=joint.options,
        precision=joint.setup.precision,
    )
    names = part_names(data)
    metadata = GeneratorMetadata(
        **described, weights="", condition=joint.plugin.capabilities.condition, images_shown=shown,
        draws=list(names), parts=names,
    )  # fmt: skip
    save_joint(folder.work, metadata)
    folder.publish()


def _images_shown(work: Path) -> int:
    return int(parse_json(work / "generator.json")["images_shown"])
