"""A run's folder: collected beside its final place, continued after a kill, published by rename."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medaug_cli import registry
from medaug_cli.errors import BadInput, MissingPlugin, UsageError
from medaug_cli.files import (
    canonical,
    parse_json,
    publish_folder,
    publish_text,
    remove,
    remove_folder,
    remove_stale,
    remove_temporaries,
    restore_folder,
)
from medaug_cli.locks import alone
from medaug_cli.results import Kind, OtherSettings, changes, check_folder, check_place, refuse_stranger

PLAN = "plan.json"
BUDGET = ("kimg", "minutes", "steps")  # a run may be continued with more of these
ELSEWHERE = ("store", "device")  # where the store lies and the device may change; the store's content may not
NAMES = (PLAN, "metrics.jsonl", "checkpoints/*.pt")  # of every run
OF_GENERATOR = ("generator.json", "generator.safetensors", "samples/*.png")


def _made_by(command: str, folder: Path) -> bool:
    try:
        plan = parse_json(folder / PLAN)
    except BadInput:
        return False
    return isinstance(plan, dict) and plan.get("command") == command


def _run_kind(command: str, words: str, *names: str) -> Kind:
    return Kind(command, words, (*NAMES, *names), lambda folder: _made_by(command, folder))


KINDS = {
    kind.command: kind
    for kind in (
        _run_kind("train-gan", "a generator", *OF_GENERATOR, *(f"class-*/{name}" for name in (*NAMES, *OF_GENERATOR))),
    )
}


def kind_of(command: str) -> Kind:
    """Return the kind of folder that a training command makes: `train-classifier` one with a classifier."""
    what = command.removeprefix("train-")
    names = (f"{what}.json", f"{what}.safetensors", "found-*.npz")  # the last of a study: answers that it keeps
    return KINDS.get(command) or _run_kind(command, f"a {what}", *names)


def command_of(kind: str) -> str:
    """Return the command that trains plugins of a kind: `train-classifier` for a classifier."""
    return "train-gan" if kind == "generator" else f"train-{kind}"


@dataclass
class RunFolder:
    """`work` is where a run writes; `finished` tells that `out` already holds what was asked for."""

    out: Path
    work: Path
    command: str
    finished: bool

    def publish(self) -> None:
        """Put the finished run in its place."""
        remove_temporaries(self.work)
        if self.out.exists():
            refuse_stranger(self.out, kind_of(self.command))
        publish_folder(self.work, self.out)


@contextmanager
def run_claimed(
    out: Path, plan: dict[str, Any], resume: bool, overwrite: bool, reads: list[Path]
) -> Iterator[RunFolder]:
    """Keep other processes from this run while the block runs; yield the folder to work in.

    With `resume`, unfinished work of the same plan goes on, a finished run is left as it is, and one
    that is asked for more kimg, minutes or steps goes on from where it ended. What was asked for in vain,
    before anything was trained, leaves nothing behind. Raises UsageError where work exists and neither
    `resume` nor `overwrite` was said, MedaugError where another process is at it.
    """
    check_place(out)
    place = Path(os.path.realpath(out)) if out.is_symlink() else out
    with alone(place):
        restore_folder(place)
        remove_stale(place)
        folder = _opened(place, json.loads(canonical(plan)), resume, overwrite, reads)
        try:
            yield folder
        except (BadInput, MissingPlugin, UsageError):
            if not folder.finished and not any(folder.work.rglob("checkpoints/*.pt")):
                remove_folder(folder.work, folder.out)
            raise


def _opened(out: Path, plan: dict[str, Any], resume: bool, overwrite: bool, reads: list[Path]) -> RunFolder:
    kind, work = kind_of(plan["command"]), out.with_name(f"{out.name}.parts")
    if out.exists() and resume and not overwrite:
        before = _plan_of(out, kind)
        if _what_matters(before) == _what_matters(plan):
            if _is_older(work, out, kind):  # what this run had replaced when it was killed
                remove_folder(work, out)
            return RunFolder(out, out, kind.command, finished=True)
        _same_but_budget(f"{out} was made", before, plan)
        if not work.exists():
            _copy(out, work, kind)
    else:
        check_folder(out, kind, overwrite, reads)
    _check_work(work, kind, resume, overwrite, plan)
    work.mkdir(parents=True, exist_ok=True)
    remove_temporaries(work)
    publish_text(work / PLAN, json.dumps(plan, indent=1))
    return RunFolder(out, work, kind.command, finished=False)


def _check_work(work: Path, kind: Kind, resume: bool, overwrite: bool, plan: dict[str, Any]) -> None:
    """Check unfinished work that is already there; remove it where the run starts over."""
    if not work.exists() and not work.is_symlink():
        return
    refuse_stranger(work, kind)
    if not (work / PLAN).exists() or overwrite:
        remove_folder(work, work.with_name(work.name.removesuffix(".parts")))
    elif not resume:
        raise UsageError(f"{work} holds unfinished work; continue with --resume, or start over with --overwrite")
    else:
        _same_but_budget(f"{work} was begun", _plan_of(work, kind), plan)


def _copy(out: Path, work: Path, kind: Kind) -> None:
    """Begin further work with a copy of what a finished run wrote, but for its result."""
    copy = work.with_name(f".{work.name}.tmp")
    remove(copy)
    shutil.copytree(out, copy, ignore=shutil.ignore_patterns(f"{_named(kind)}.*", "found-*.npz", ".*"))
    copy.rename(work)


def _is_older(work: Path, out: Path, kind: Kind) -> bool:
    """Tell whether `work` is a finished run that `out` has taken the place of."""
    name = f"{_named(kind)}.json"
    try:
        return (work / name).stat().st_mtime_ns < (out / name).stat().st_mtime_ns
    except OSError:
        return False


def _named(kind: Kind) -> str:
    """Return what a run makes, as its files are called: detector."""
    return kind.words.split()[-1]


def _plan_of(folder: Path, kind: Kind) -> dict[str, Any]:
    if not kind.proof(folder):
        raise UsageError(f"{folder} exists and is not {kind.words} that medaug made; choose another --out")
    return plan_in(folder)


def plan_in(folder: Path) -> dict[str, Any]:
    """Return the plan of a run; a setting that the version which began it lacked stands at its default.

    So a plugin's new setting must change nothing where it is not given.
    """
    plan: dict[str, Any] = parse_json(folder / PLAN)
    command, name = str(plan.get("command")), plan.get("plugin")
    kind = "generator" if command == "train-gan" else command.removeprefix("train-")
    if kind in registry.kinds() and name in registry.names(kind):
        usual = json.loads(canonical(asdict(registry.build(kind, name, {}))))
        plan["settings"] = usual | plan.get("settings", {})
    return plan


def _what_matters(plan: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in plan.items() if key not in ELSEWHERE}


def _same_but_budget(what: str, before: dict[str, Any], plan: dict[str, Any]) -> None:
    other = before.get("plugin") != plan.get("plugin")  # whose settings are others anyway
    changed = changes(before, plan, (*BUDGET, *ELSEWHERE, *(("settings",) if other else ())))
    if changed:
        raise OtherSettings(what, ", ".join(changed))
