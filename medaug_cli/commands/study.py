"""`medaug study`: does it help on these data?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from medaug_cli.commands import console, options
from medaug_cli.errors import UsageError

if TYPE_CHECKING:
    from medaug_cli.study import StudyOptions, StudyReport


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What `medaug study` is asked for, in the order of its help."""

    store: options.StoreArgument
    arm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ARM",
            help="A generator, with [KEY=VALUE], /each-class, @RATIO, +filter or +realism, +only or +pretrain after "
            "its name; or early-stopped; or pseudo-label; or a variant of the network, such as mosaic. ~KEY=VALUE "
            "or ~VARIANT after any of them changes the network. Repeat for more; real-only is always included.",
        ),
    ] = None
    task: Annotated[
        str | None,
        typer.Option(
            help="detection, classification, segmentation, or another; default: the one that the store suits."
        ),
    ] = None
    out: Annotated[Path, typer.Option(help="Folder for all results; finished steps in it are not repeated.")] = Path(
        "study"
    )
    fraction: Annotated[
        list[float] | None,
        typer.Option(metavar="SHARE", help="Share of the training patients; repeat for more.  [default: 1]"),
    ] = None
    seeds: Annotated[int, typer.Option(help="Training runs of each arm, one seed each.", min=1)] = 3
    folds: Annotated[
        str | None,
        typer.Option(
            metavar="K|FILE",
            help="Test every patient once, in K folds or in those of a folds.json, ignoring the store's split.",
        ),
    ] = None
    repeat: Annotated[
        int, typer.Option(help="Repeat the cross-validation this many times, with new folds each time.", min=1)
    ] = 1
    unannotated: Annotated[
        Literal["rest"] | None,
        typer.Option(
            help="rest: generators that can, and the arm pseudo-label, also see the training patients left out by "
            "--fraction, without their annotations."
        ),
    ] = None
    train_annotations: Annotated[
        Path | None,
        typer.Option(
            metavar="STORE",
            help="Learn from this store's annotations of the same images, such as rough boxes; those of the first one "
            "still judge.",
        ),
    ] = None
    pilot: Annotated[
        Path | None,
        typer.Option(metavar="STUDY", help="A finished study, from whose spread the power of this one is estimated."),
    ] = None
    spread: Annotated[
        str | None,
        typer.Option(
            metavar="P[,T]",
            help="Or the spread itself: standard deviation over patients, and over training runs of a network.",
        ),
    ] = None
    n: Annotated[int | None, typer.Option(help="Number of synthetic images; default: --ratio times the real ones.")] = (
        None
    )
    ratio: Annotated[float, typer.Option(help="Synthetic images per real image.")] = 1.0
    jitter: Annotated[
        float, typer.Option(help="How far boxes are shifted and zoomed, as a share of their size.", min=0)
    ] = 0.1
    network: Annotated[
        str | None,
        typer.Option(help="Name of a plugin for that task (medaug plugins); default: yolov3, or the only one."),
    ] = None
    detector: Annotated[str | None, typer.Option(help="Short for --task detection --network NAME.")] = None
    steps: Annotated[int | None, typer.Option(help="Optimiser steps for every network.", min=1)] = None
    settings: options.Settings = None
    kimg: Annotated[float | None, typer.Option(help="Train each generator on this many thousand images.")] = None
    gan_settings: Annotated[
        list[str] | None,
        typer.Option("--gan-set", metavar="GENERATOR.KEY=VALUE", help="A setting of a generator; repeat for more."),
    ] = None
    split: Annotated[
        str, typer.Option(help="Split to evaluate on: val while you try things out, test once at the end.")
    ] = "test"
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples for each interval.", min=100)] = 2000
    num_parts: Annotated[
        int | None,
        typer.Option(
            help="Machines, or jobs of --launcher, that share the work in one folder; default: 1, or 8 jobs (local: as "
            "many as there are cores).",
            min=1,
        ),
    ] = None
    part_id: Annotated[int, typer.Option(help="Which of them this is, from 0.", min=0)] = 0
    launcher: Annotated[
        Literal["slurm", "local"] | None,
        typer.Option(
            help="Train in SLURM jobs, or in processes on this machine, --num-parts of them; wait for them, then "
            "compare (needs medaug[cluster])."
        ),
    ] = None
    launcher_settings: Annotated[
        list[str] | None,
        typer.Option(
            "--launcher-set",
            metavar="KEY=VALUE",
            help="A job parameter of submitit, such as timeout_min, gpus_per_node or slurm_partition; repeat for more.",
        ),
    ] = None
    seed: options.Seed = 0
    device: options.Device = "auto"
    precision: options.Precision = "auto"
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Make anew what was made with other settings, and what depends on it; keep the rest."
        ),
    ] = False
    dry_run: options.DryRun = False
    as_json: options.AsJson = False


@options.taken_as(Choices)
def study(chosen: Choices) -> None:
    """Train networks with and without each generator's images, and say which arm is better than real images alone.

    Example: medaug study real.h5 --arm copy-paste --arm boxgan --fraction 0.25 --fraction 1 --out study
    """
    from medaug_cli.study import run_study

    wanted = _options(chosen)
    if chosen.launcher is not None:
        _launch(chosen, wanted)
        wanted = replace(wanted, num_parts=1)
    elif chosen.launcher_settings:
        raise UsageError("--launcher-set needs --launcher")
    planned: list[str] = []

    def plan(sentence: str) -> None:
        planned.append(sentence)
        console.say(sentence)

    if chosen.dry_run:
        wanted = replace(wanted, announce=plan)
    with console.bar("study", 1.0) as bar:
        report = run_study(replace(wanted, report=bar.to))
    out, as_json = chosen.out, chosen.as_json
    if chosen.dry_run:
        console.answer({"study": None, "plan": planned}, as_json, f"{out}: nothing was trained or changed")
    elif report is None:
        console.answer({"study": None}, as_json, f"{out}: no comparison yet")
    elif as_json:
        console.answer(report.model_dump(mode="json"), True, "")
    else:
        _show(report)
        console.say(f"{out}: study.html, study.json, study.csv")


def _launch(chosen: Choices, wanted: "StudyOptions") -> None:
    """Train every part in a job of its own; first look whether the plan can be carried out."""
    from medaug_cli.study import run_study
    from medaug_cli.study.launching import jobs_on, run_parts

    if chosen.part_id:
        raise UsageError("--part-id chooses one part; --launcher runs all of them")
    if chosen.dry_run:
        return
    run_study(replace(wanted, dry_run=True, num_parts=1))
    parts = chosen.num_parts or jobs_on(str(chosen.launcher))
    with console.bar("study", 1.0, paced=False) as bar:
        run_parts(
            partial(_train_part, replace(chosen, num_parts=parts)),
            parts,
            cluster=str(chosen.launcher),
            folder=chosen.out / "jobs",
            settings=options.parse_settings(chosen.launcher_settings, "--launcher-set", "timeout_min=720"),
            say=console.say,
            report=bar.to,
        )


def _train_part(chosen: Choices, part: int) -> None:
    """Train one part; a job of a cluster calls this."""
    from medaug_cli.study.running import train_all

    train_all(_options(replace(chosen, part_id=part)))


def _options(chosen: Choices) -> "StudyOptions":
    from medaug_cli import registry
    from medaug_cli.study import StudyOptions, task_of
    from medaug_cli.study.arms import parse_arms
    from medaug_cli.study.power import parse_spread

    detector = chosen.detector
    if detector is not None and (chosen.network is not None or chosen.task not in (None, "detection")):
        raise UsageError("--detector stands for --task detection --network; give one or the other")
    task = task_of(chosen.store, "detection" if detector is not None else chosen.task)
    network = detector or chosen.network or registry.default(task.kind)
    network_settings = options.parse_settings(chosen.settings)
    generator_settings = _settings_of_generators(chosen.gan_settings)
    return StudyOptions(
        store=chosen.store,
        arms=parse_arms(
            chosen.arm or [],
            network,
            task.kind,
            settings=network_settings,
            generators=generator_settings,
            rest=chosen.unannotated == "rest",
        ),
        out=chosen.out,
        task=task,
        network=network,
        network_settings=network_settings,
        fractions=tuple(dict.fromkeys(chosen.fraction or (1.0,))),
        seeds=chosen.seeds,
        folds=options.parse_folds(chosen.folds),
        unannotated=chosen.unannotated == "rest",
        train_annotations=chosen.train_annotations,
        repeat=chosen.repeat,
        pilot=chosen.pilot,
        spread=None if chosen.spread is None else parse_spread(chosen.spread),
        n=chosen.n,
        ratio=chosen.ratio,
        jitter=chosen.jitter,
        generator_settings=generator_settings,
        steps=chosen.steps,
        kimg=chosen.kimg,
        split=chosen.split,
        resamples=chosen.resamples,
        seed=chosen.seed,
        device=chosen.device,
        precision=chosen.precision,
        num_parts=chosen.num_parts or 1,
        part_id=chosen.part_id,
        overwrite=chosen.overwrite,
        dry_run=chosen.dry_run,
        announce=console.say,
    )


def _settings_of_generators(pairs: Sequence[str] | None) -> dict[str, dict[str, Any]]:
    """Turn ["boxgan.width=8"] into {"boxgan": {"width": "8"}}."""
    settings: dict[str, dict[str, Any]] = {}
    for key, value in options.parse_settings(pairs, "--gan-set", "boxgan.form=mask").items():
        generator, _, setting = key.partition(".")
        if not generator or not setting:
            raise UsageError(f"--gan-set {key}: expected GENERATOR.KEY=VALUE, as in --gan-set boxgan.form=mask")
        settings.setdefault(generator, {})[setting] = value
    return settings


def _show(report: "StudyReport") -> None:
    from medaug_cli.study.page import measures
    from medaug_cli.study.tables import compared, pairs
    from medaug_cli.tasks.task import task_named

    main = task_named(report.task).main
    names = [name for name in measures(report) if name in main]
    for part in report.fractions:
        for name in names:
            console.show(compared(report, part, name, seeds=False))
        if part.pairs:
            console.show(pairs(report, part, names[0]))
