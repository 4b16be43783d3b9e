"""A run's folder: collected beside its final place, continued after a kill, published by rename."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medaug_cli.errors import UsageError
from medaug_cli.files import canonical, parse_json, publish_folder, publish_text, refuse_existing, restore_folder

BUDGET = ("kimg", "minutes", "steps")  # a run may be continued with more of these


@dataclass
class RunFolder:
    """`work` is where a run writes; `finished` tells that `out` already holds what was asked for."""

    out: Path
    work: Path
    finished: bool

    def publish(self) -> None:
        publish_folder(self.work, self.out)


def open_run(out: Path, plan: dict[str, Any], resume: bool, overwrite: bool) -> RunFolder:
    """Return the folder to work in.

    With `resume`, unfinished work of the same plan goes on, a finished run is left as it is, and one
    that is asked for more kimg, minutes or steps goes on from where it ended. Raises UsageError where
    work exists and neither `resume` nor `overwrite` was said.
    """
    restore_folder(out)
    work = out.with_name(f"{out.name}.parts")
    plan = json.loads(canonical(plan))
    if out.exists() and resume and not overwrite:
        before = _plan_of(out)
        if before == plan:
            return RunFolder(out, out, finished=True)
        _same_but_budget(out, before, plan)
        if not work.exists():
            copy = out.with_name(f"{out.name}.parts.tmp")
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(out, copy)
            copy.rename(work)
    else:
        refuse_existing(out, overwrite)
    if (work / "plan.json").exists() and not overwrite:
        if not resume:
            raise UsageError(f"{work} holds unfinished work; go on with it by --resume, or start anew with --overwrite")
        _same_but_budget(work, _plan_of(work), plan)
    else:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
    publish_text(work / "plan.json", json.dumps(plan, indent=1))
    return RunFolder(out, work, finished=False)


def _plan_of(folder: Path) -> dict[str, Any]:
    plan = folder / "plan.json"
    if not plan.is_file():
        raise UsageError(f"{folder} exists and is no run of medaug; choose another --out, or replace it by --overwrite")
    return parse_json(plan)


def _same_but_budget(folder: Path, before: dict[str, Any], plan: dict[str, Any]) -> None:
    changed = sorted(key for key in before.keys() | plan.keys() if before.get(key) != plan.get(key))
    changed = [key for key in changed if key not in BUDGET]
    if changed:
        raise UsageError(
            f"{folder} was begun with other settings ({', '.join(changed)}); "
            "use the same ones, choose another --out, or start anew with --overwrite"
        )
