"""What a study has kept is used again only where all that it depends on is as it is asked for now.

What is not so is refused or, where that is asked for, made anew with all that depends on it: a setting of the network
leaves generators alone, one of a generator all arms of others.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medaug_cli import registry
from medaug_cli.errors import UsageError
from medaug_cli.files import canonical, parse_json, remove_folder, remove_stale
from medaug_cli.locks import alone
from medaug_cli.runs.fitting import DEFAULT_KIMG
from medaug_cli.runs.folder import PLAN, plan_in
from medaug_cli.runs.starting import opened_start
from medaug_cli.store import open_store
from medaug_cli.store.writing import parts_folder
from medaug_cli.study.own_files import strangers
from medaug_cli.study.teaching import inputs_of
from medaug_cli.study.trials import (
    StudyOptions,
    Trial,
    baseline_of,
    drawn_for,
    drawn_images,
    first_folder,
    labelled_store,
    missing,
    network_settings,
    part_store,
    seed_of,
    steps_of,
    synthetic_folder,
    synthetic_store,
    trained_folder,
)
from medaug_cli.tasks.task import tasks

Asked = Mapping[str, Any]
Change = tuple[str, Any, Any]  # what, as it was, as it is asked for


@dataclass(frozen=True)
class Stale:
    """A step of a study that was made, or begun, with other settings than are asked for."""

    folder: Path
    change: Change
    gone: Sequence[Path]  # what has to be made anew

    def __str__(self) -> str:
        what, before, now = self.change
        return f"{self.folder} was made with other settings ({what}: {before} there, {now} asked for)"


def settle_kept(options: StudyOptions, trials: Sequence[Trial]) -> frozenset[Path]:
    """Remove what was made with other settings where `overwrite` is asked for, and say so; a dry run says it alone.

    Return what a dry run would have removed. Raises UsageError for the first such step otherwise: arms of unequal
    training cannot be compared, and a report may not name settings that were not used.
    """
    _refuse_other_tasks(options)
    if not options.overwrite:
        for stale in _stale(options, trials):
            raise UsageError(
                f"{stale}, and unequal arms cannot be compared; choose another --out, or make that anew with "
                "--overwrite"
            )
    elif options.dry_run:
        found = _foreseen(options, trials)
        for said in dict.fromkeys(map(str, found)):
            options.announce(f"{said}; it would be made anew")
        return frozenset(path for stale in found for path in stale.gone)
    elif options.out.exists():
        with alone(options.out / "study.json", wait=True):  # of several parts the first one removes
            _foreseen(options, trials)
            for stale in _stale(options, trials):
                options.announce(f"{stale}; it is made anew")
                for path in stale.gone:
                    _remove(path)
    return frozenset()


def _foreseen(options: StudyOptions, trials: Sequence[Trial]) -> list[Stale]:
    """Return what would have to be made anew; raise UsageError where a person's own file lies in that."""
    found = list(_stale(options, trials))
    gone = [path for stale in found for path in stale.gone]
    for path in (*gone, *(place for trial in missing(options, trials, gone) for place in _places(options, trial))):
        _refuse_strangers(path)
    return found


def _refuse_other_tasks(options: StudyOptions) -> None:
    for other in tasks().values():
        places = (f"{folds}patients*/seed*/{other.kind}s" for folds in ("", "fold-*/", "deal-*/fold-*/"))
        if other.kind != options.task.kind and any(any(options.out.glob(each)) for each in places):
            raise UsageError(f"{options.out} holds a study of {other.name}; choose another --out")


def _stale(options: StudyOptions, trials: Sequence[Trial]) -> Iterator[Stale]:
    """Yield each step that is not as it is asked for; each is looked for when the one before may have been removed."""
    for path, each in {part_store(options, trial): trial.round for trial in trials}.items():
        if not path.exists():
            continue
        info = open_store(path).info
        now = inputs_of(each.taught, each.store)
        if set(info.inputs.values()) != set(now.values()):
            what = "training images" if len(now) == len(info.inputs) == 1 else "stores"
            change = (what, ", ".join(info.inputs), f"{', '.join(now)} as it is now")
            yield Stale(path.parent, change, [path.parent])
        elif info.seed != options.seed:
            yield Stale(path.parent, ("seed", info.seed, options.seed), [path.parent])
    for trial in trials:
        if trial.arm.generator:
            yield from _stale_generator(options, trial)
            yield from _stale_images(options, trial)
        yield from _stale_network(options, trial)


def _stale_generator(options: StudyOptions, trial: Trial) -> Iterator[Stale]:
    folder = synthetic_folder(options, trial)
    for place in (folder / "gan", parts_folder(folder / "gan")):
        asked = generator_asked(options, trial)
        if change := _change(place, asked):
            yield Stale(place, change, [folder])


def _stale_images(options: StudyOptions, trial: Trial) -> Iterator[Stale]:
    """Yield the images of a trial where they were drawn for other boxes, or for boxes alone."""
    folder, n = synthetic_folder(options, trial), drawn_images(options, trial)
    path = folder / f"drawn-{n}.h5"
    parts = parts_folder(path)
    if path.exists():
        settings = open_store(path).info.settings
    elif (parts / PLAN).is_file():
        settings = parse_json(parts / PLAN)["info"]["settings"]
    else:
        return
    jitter, boxed = settings.get("jitter"), settings.get("boxed", False)
    gone = [path, parts, *folder.glob(f"*-{n}"), *folder.glob(f"*-{n}-*")]
    if jitter != options.jitter:
        yield Stale(path, ("jitter", jitter, options.jitter), gone)
    elif boxed != (asked := bool(drawn_for(options, trial).get("boxed"))):
        words = {False: "boxes alone", True: "their masks and classes too"}
        if trial.arm.each_class:
            words = {False: "all images", True: "images with boxes"}
        yield Stale(path, ("drawn for", words[boxed], words[asked]), gone)


def _stale_network(options: StudyOptions, trial: Trial) -> Iterator[Stale]:
    folder, asked = trained_folder(options, trial), network_asked(options, trial)
    half = {**asked, "steps": steps_of(options, trial.arm) // 2}
    places = _places(options, trial)
    gone = [*places, labelled_store(options, trial)]
    for place in places:
        expected = half if place in places[2:] else asked
        if change := _change(place, expected):
            yield Stale(place, change, gone)
    if change := _changed_labels(options, trial) if trial.arm.pseudo else _changed_images(options, trial):
        yield Stale(folder, change, gone)


def _places(options: StudyOptions, trial: Trial) -> list[Path]:
    """Return where a trial's network stands, or is begun; then those of the one that it begins with, if there is."""
    folder = trained_folder(options, trial)
    folders = [folder, first_folder(folder)] if trial.arm.use == "pretrain" else [folder]
    return [place for each in folders for place in (each, parts_folder(each))]


def network_asked(options: StudyOptions, trial: Trial) -> dict[str, Any]:
    """Return what the plan of a trial's network must say."""
    arm, steps = trial.arm, steps_of(options, trial.arm)
    asked: dict[str, Any] = {
        "plugin": options.network,
        "settings": asdict(registry.build(options.task.kind, options.network, network_settings(options, arm))),
        "seed": seed_of(options, trial),
        "steps": steps - steps // 2 if arm.use == "pretrain" else steps,
        "ratio": (arm.ratio or options.ratio) if arm.generator and arm.use == "mixed" else None,
    }
    return asked | ({} if options.precision == "auto" else {"precision": options.precision})


def generator_asked(options: StudyOptions, trial: Trial) -> dict[str, Any]:
    """Return what the plan of a trial's generator must say; one that does not learn has neither budget nor start."""
    name = str(trial.arm.generator)
    able = registry.generator_capabilities(name)
    asked: dict[str, Any] = {
        "plugin": name,
        "settings": asdict(trial.arm.built(options.generator_settings)),
        "seed": seed_of(options, trial),
    }
    if not able.learns:
        return asked
    asked["kimg"] = (able.default_budget or DEFAULT_KIMG) if options.kimg is None else options.kimg
    if trial.arm.start is not None:
        asked["start"] = opened_start(trial.arm.start).metadata.weights
    return asked | ({} if options.precision == "auto" else {"precision": options.precision})


def _changed_images(options: StudyOptions, trial: Trial) -> Change | None:
    """Return whether a network was trained, or begun, on other synthetic images than are there now."""
    if trial.arm.generator is None:
        return None
    folder = trained_folder(options, trial)
    folder = first_folder(folder) if trial.arm.use == "pretrain" else folder
    plans = [place / PLAN for place in (folder, parts_folder(folder)) if (place / PLAN).is_file()]
    if not plans:
        return None
    path = synthetic_store(options, trial)
    now = [open_store(path).hash] if path.exists() else None
    same = all(parse_json(plan).get("synthetic") == now for plan in plans)
    return None if same else ("synthetic images", "others", path.name)


def _changed_labels(options: StudyOptions, trial: Trial) -> Change | None:
    """Return whether the annotations of an arm come from another network of real images alone than is there now."""
    path, kind = labelled_store(options, trial), options.task.kind
    told = trained_folder(options, baseline_of(options, trial)) / f"{kind}.json"
    if not path.exists() or not (told.is_file() or options.overwrite):
        return None
    before, now = open_store(path).info.settings.get("pseudo_labels"), "none"
    if told.is_file():
        now = parse_json(told)["weights"]
    return None if before == now else ("pseudo-labels", f"of {str(before)[:12]}", f"of {now[:12]}")


def _change(folder: Path, asked: Asked) -> Change | None:
    """Return the first difference to a plan."""
    if not (folder / PLAN).is_file():
        return None
    plan, now = plan_in(folder), json.loads(canonical(asked))
    settings = ((key, plan["settings"].get(key), value) for key, value in now.pop("settings").items())
    others = ((key, plan.get(key), value) for key, value in now.items())
    return next((each for each in (*others, *settings) if each[1] != each[2]), None)


def _refuse_strangers(path: Path) -> None:
    other = next(strangers(path), None)
    if other is not None:
        raise UsageError(f"{other} is not part of the study; move it elsewhere, or choose another --out")


def _remove(path: Path) -> None:
    """Remove a step of a study at once, while no other process is at it; raise UsageError for a file of others."""
    if not path.exists():
        return
    _refuse_strangers(path)
    with alone(path, wait=True):
        remove_stale(path)
        remove_folder(path, path)
