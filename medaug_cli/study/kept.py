"""What a study has kept is used again only where all that it depends on is as it is asked for now."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medaug_cli import registry
from medaug_cli.errors import UsageError
from medaug_cli.files import canonical, parse_json
from medaug_cli.runs.fitting import DEFAULT_KIMG
from medaug_cli.runs.folder import PLAN
from medaug_cli.store import open_store
from medaug_cli.store.writing import parts_folder
from medaug_cli.tasks.task import tasks

if TYPE_CHECKING:
    from medaug_cli.study.running import StudyOptions, Trial

Asked = Mapping[str, Any]


def refuse_other_settings(options: "StudyOptions", trials: "list[Trial]") -> None:
    """Raise UsageError where a finished step in the study's folder was made with other settings.

    Arms of unequal training cannot be compared, and a report may not name settings that were not used.
    """
    from medaug_cli.study.running import part_store, synthetic_folder, trained_folder

    kind = options.task.kind
    for other in tasks().values():
        places = (f"{folds}patients*/seed*/{other.kind}s" for folds in ("", "fold-*/", "deal-*/fold-*/"))
        if other.kind != kind and any(any(options.out.glob(each)) for each in places):
            raise UsageError(f"{options.out} holds a study of {other.name}; choose another --out")

    for path, hash_ in {part_store(options, trial): trial.round.store.hash for trial in trials}.items():
        if path.exists() and hash_ not in (part := open_store(path)).info.inputs.values():
            _refuse(path.parent, "training images", ", ".join(part.info.inputs), f"{options.store} as it is now")
    for trial in trials:
        folder, gan = trained_folder(options, trial), synthetic_folder(options, trial) / "gan"
        for place in (folder, parts_folder(folder)):
            if (place / PLAN).is_file():
                asked = network_asked(options, trial)
                _same(place, parse_json(place / PLAN), asked, kind=kind, name=options.network)
        if trial.arm.generator and (gan / PLAN).is_file():
            asked = generator_asked(options, trial)
            _same(gan, parse_json(gan / PLAN), asked, kind="generator", name=trial.arm.generator)
        if trial.arm.generator and (folder / PLAN).is_file():
            _check_synthetic(options, trial, folder, parse_json(folder / PLAN))


def network_asked(options: "StudyOptions", trial: "Trial") -> dict[str, Any]:
    """Return what the plan of a trial's network must say."""
    from medaug_cli.study.running import network_settings, steps_of

    arm, steps = trial.arm, steps_of(options, trial.arm)
    asked: dict[str, Any] = {
        "plugin": options.network,
        "settings": asdict(registry.build(options.task.kind, options.network, network_settings(options, arm))),
        "seed": trial.seed,
        "steps": steps - steps // 2 if arm.use == "pretrain" else steps,
        "ratio": (arm.ratio or options.ratio) if arm.generator and arm.use == "mixed" else None,
    }
    return asked | ({} if options.precision == "auto" else {"precision": options.precision})


def generator_asked(options: "StudyOptions", trial: "Trial") -> dict[str, Any]:
    """Return what the plan of a trial's generator must say."""
    name = str(trial.arm.generator)
    default = registry.capabilities("generator", name).default_budget or DEFAULT_KIMG
    return {
        "plugin": name,
        "settings": asdict(trial.arm.built(options.generator_settings)),
        "seed": trial.seed,
        "kimg": default if options.kimg is None else options.kimg,
    }


def _check_synthetic(options: "StudyOptions", trial: "Trial", folder: Path, plan: Mapping[str, Any]) -> None:
    from medaug_cli.study.running import part_store, synthetic_store

    path = synthetic_store(options, trial, open_store(part_store(options, trial)))
    if not path.exists():
        _refuse(folder, "synthetic images", "others", path.name)
    drawn = open_store(path)
    if trial.arm.use != "pretrain" and [drawn.hash] != plan.get("synthetic"):
        _refuse(folder, "synthetic images", "others", path.name)
    source = (
        open_store(path.parents[1] / f"drawn-{path.parent.name.partition('-')[2]}.h5")
        if trial.arm.filtered
        else drawn
    )
    if source.info.settings.get("jitter") != options.jitter:
        _refuse(path.parent, "jitter", source.info.settings.get("jitter"), options.jitter)


def _same(folder: Path, plan: Mapping[str, Any], asked: Asked, kind: str, name: str) -> None:
    """Raise UsageError at the first difference; a setting that an older version lacked must be at its default."""
    asked = json.loads(canonical(asked))
    for key, value in asked.items():
        if key == "settings":
            _same_settings(folder, plan.get("settings", {}), value, kind, name)
        elif plan.get(key) != value:
            _refuse(folder, key, plan.get(key), value)


def _same_settings(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any], kind: str, name: str) -> None:
    defaults = dict(_defaults(kind, name))
    for key, value in now.items():
        old = before.get(key, defaults.get(key))
        if old != value:
            _refuse(folder, key, old, value)


def _defaults(kind: str, name: str) -> Iterator[tuple[str, Any]]:
    plugin = registry.build(kind, name, {})
    values = json.loads(canonical(asdict(plugin)))
    return ((field.name, values[field.name]) for field in fields(plugin))


def _refuse(folder: Path, what: str, before: object, now: object) -> None:
    raise UsageError(
        f"{folder} was made with other settings ({what}: {before} there, {now} asked for), and unequal arms cannot be "
        "compared; choose another --out, or remove that folder to make it anew"
    )
