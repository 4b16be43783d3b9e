"""Run a study: every step is kept by its content, so that a study that was stopped goes on where it was."""

import math
import os
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli import registry
from medaug_cli.devices import resolve_device
from medaug_cli.errors import UsageError
from medaug_cli.files import remove
from medaug_cli.lesion_filter import FilterOptions, sift
from medaug_cli.locks import alone
from medaug_cli.results import LONGEST, OtherSettings
from medaug_cli.runs import RunOptions, check_capable, train_each_class, train_generator, train_network
from medaug_cli.runs.folder import plan_in
from medaug_cli.runs.starting import opened_start
from medaug_cli.store import Store, open_store
from medaug_cli.study.arms import BASELINE, folder_name, refuse_twins
from medaug_cli.study.kept import settle_kept
from medaug_cli.study.known import refuse_unknowing
from medaug_cli.study.leaks import refuse_leaks
from medaug_cli.study.measurable import check_measurable, judged_images, telling_patients
from medaug_cli.study.power import power_lines
from medaug_cli.study.rounds import Round, keep_deals, of_deals, rounds_of, span
from medaug_cli.study.subsets import chosen_patients, subset
from medaug_cli.study.teaching import refuse_other_images
from medaug_cli.study.timing import estimate
from medaug_cli.study.trials import (
    SEEDS,
    StudyOptions,
    Trial,
    baseline_of,
    drawn_for,
    drawn_images,
    first_folder,
    fitted_store,
    labelled_store,
    missing,
    network_settings,
    part,
    part_name,
    part_store,
    plan,
    seed_of,
    steps_of,
    synthetic_folder,
    synthetic_store,
    trained_folder,
)
from medaug_cli.study.unannotated import labeller, pseudo_labelled, rest_of, with_rest
from medaug_cli.synthesis import SynthesisOptions, synthesize
from medaug_cli.words import counted, duration, percent


def train_all(options: StudyOptions) -> bool:
    """Train the networks of this part; return whether those of all parts are there.

    Raises UsageError for a plan that compares nothing or a store that leaks.
    """
    _check(options)
    store = open_store(options.store)
    rounds = rounds_of(options, store)
    kind = options.task.kind
    check_capable(options.network, registry.capabilities(kind, options.network), store)
    for name in {arm.generator: None for arm in options.arms if arm.generator}:
        check_capable(name, registry.capabilities("generator", name), store)
    for each in rounds:
        refuse_unknowing(options, each.taught)
    refuse_leaks(rounds)
    if options.train_annotations is not None:
        refuse_other_images(rounds[0].store, rounds[0].taught)
    for start in {arm.start for arm in options.arms} - {None}:
        for each in rounds:
            opened_start(str(start)).check(each.store)
    refuse_no_rest(options, rounds)
    _refuse_equal_shares(options, rounds)
    remarks = check_measurable(options, rounds)
    every = list(plan(options, rounds))
    gone = settle_kept(options, every)
    trials = part(options, every)
    options.announce(describe(options, rounds, trials, gone))
    for sentence in [*power_of(options, rounds), *remarks]:
        options.announce(sentence)
    if options.dry_run:
        return False
    keep_deals(options, store)
    left, begun = missing(options, trials), time.monotonic()
    for done, trial in enumerate(left, 1):
        options.report((done - 1) / len(left), *where(options, trial))
        place = options.out / trial.folder / folder_name(trial.together[1])
        with alone(place, wait=True):  # another process may be at it
            try:
                _train(_within(options, trial, done - 1, len(left)), trial)
            except OtherSettings as error:
                raise error.in_study() from error
        minutes = (time.monotonic() - begun) / done * (len(left) - done) / 60
        options.announce(f"{done} of {len(left)} {kind}s are trained, {about(minutes)} left")
    others = missing(options, every)
    if others:
        are = "is" if len(others) == 1 else "are"
        options.announce(f"this part is done; {counted(len(others), kind)} of other parts {are} not there yet")
        return False
    _keep_stores(options, every)
    return True


def where(options: StudyOptions, trial: Trial) -> tuple[str, str]:
    """Return "arm 2 of 6 (boxgan)" and "seed 1 of 3", with the fold and, of several, the share of the patients."""
    arm = f"arm {list(options.arms).index(trial.arm) + 1} of {len(options.arms)} ({trial.arm.name})"
    of = f" of {100 * trial.fraction:g} % of patients" if len(options.fractions) > 1 else ""
    fold = f"{trial.round.name}, " if trial.round.fold else ""
    return arm, f"{fold}seed {trial.seed + 1} of {options.seeds}{of}"


def _within(options: StudyOptions, trial: Trial, before: int, trials: int) -> StudyOptions:
    """Return options whose report takes the share of one trial's network, after `before` of `trials`."""

    def report(share: float, arm: str, seed: str) -> None:
        options.report((before + share) / trials, arm, seed)  # the networks alone: a generator takes no share

    return replace(options, report=report)


def power_of(options: StudyOptions, rounds: Sequence[Round]) -> list[str]:
    """Say what the plan can show."""
    trained = {
        fraction: float(np.mean(training_patients(options, rounds, fraction))) for fraction in sorted(options.fractions)
    }
    first = of_deals(rounds)[0]
    judged = np.concatenate([judged_images(each.store, options.task, options.split) for each in first])
    tested = telling_patients(first[0].store, options.task, judged)
    return power_lines(options, trained, len(tested), len(first))


def describe(
    options: StudyOptions, rounds: Sequence[Round], trials: Sequence[Trial], gone: Collection[Path] = ()
) -> str:
    """Say what will be done, and about how long it takes; `gone` is what a dry run would have removed."""
    left = missing(options, trials, gone)
    needed = {trial.together: trial for trial in left if trial.arm.generator}
    generators = [
        each.arm
        for each in needed.values()
        if not (folder := synthetic_folder(options, each) / "gan").exists()
        or any(folder.is_relative_to(path) for path in gone)
    ]
    there = f", {len(needed) - len(generators)} of them trained" if len(generators) < len(needed) else ""
    shares = ", ".join(
        f"{percent(fraction)} ({span(training_patients(options, rounds, fraction), 'patient')})"
        for fraction in sorted(options.fractions)
    )
    judged = f"judged on the {options.split} split of {options.store}"
    if rounds[0].fold:
        judged = f"every patient of {options.store} tested once in {len(rounds) // options.repeat} folds"
        judged += f", dealt {options.repeat} times" if options.repeat > 1 else ""
    if options.train_annotations is not None:
        judged += f"; learning from the annotations of {options.train_annotations}"
    of = f" of part {options.part_id} of {options.num_parts}" if options.num_parts > 1 else ""
    sentence = (
        f"{counted(len(trials), options.task.kind)} ({options.network}){of}, {len(trials) - len(left)} of them trained"
        f", and {counted(len(needed), 'generator')}{there}: arms {', '.join(arm.name for arm in options.arms)}; "
        f"training patients {shares}; {counted(options.seeds, 'seed')}; {judged}"
    )
    if not left:
        return sentence
    networks = sum(trial.arm.steps for trial in left)
    options.report(0.0, "trial steps of each plugin", "")
    minutes = estimate(options, rounds[0].store, networks, generators)
    return f"{sentence}; {about(minutes)} by a short measurement"


def about(minutes: float) -> str:
    """Return "about 12 min", "about 3 days", or "less than a minute"."""
    if minutes < 1:
        return "less than a minute"
    return f"about {duration(60 * minutes) if minutes >= 1.5 else '1 min'}"


def training_patients(options: StudyOptions, rounds: Sequence[Round], fraction: float) -> list[int]:
    """Return how many patients each round trains on."""
    return [len(chosen_patients(each.taught, options.task, fraction, options.seed)) for each in rounds]


def refuse_no_rest(options: StudyOptions, rounds: Sequence[Round]) -> None:
    """Raise UsageError where an arm takes images without annotation and at some share there is none."""
    if not any(arm.unannotated or arm.pseudo for arm in options.arms):
        return
    for each in rounds:
        for fraction in options.fractions:
            if not len(rest_of(each.taught, options.task, fraction, options.seed)):
                where = f" of {each.name}" if each.fold else ""
                raise UsageError(
                    f"--unannotated rest: with --fraction {fraction:g} of {options.store} no training image{where} is "
                    "left without annotation; take a smaller share"
                )


def _refuse_equal_shares(options: StudyOptions, rounds: Sequence[Round]) -> None:
    for one, other in pairwise(sorted(options.fractions)):
        counts = [training_patients(options, rounds, fraction) for fraction in (one, other)]
        if counts[0] == counts[1]:
            raise UsageError(
                f"--fraction {one:g} and {other:g} of {options.store} are the same {span(counts[0], 'patient')}; leave "
                "one of them out"
            )


def _check(options: StudyOptions) -> None:
    if not options.fractions or not all(0 < fraction <= 1 for fraction in options.fractions):
        raise UsageError("--fraction is a share of the training patients, above 0 and at most 1")
    for one, other in pairwise(sorted(options.fractions)):
        if part_name(one) == part_name(other):
            raise UsageError(f"--fraction {one} and {other} would share the folder {part_name(one)}; leave one out")
    if not 1 <= options.seeds <= SEEDS:
        raise UsageError(f"--seeds {options.seeds}: expected 1 to {SEEDS}")
    _check_numbers(options)
    if options.split not in ("val", "test"):
        raise UsageError(f"--split {options.split}: a study is judged on val or test")
    if options.folds is not None and options.split != "test":
        raise UsageError("--split val: a study in folds tests every patient once; leave --split out")
    if options.folds is None and options.repeat != 1:
        raise UsageError("--repeat needs --folds")
    if options.pilot is not None and options.spread is not None:
        raise UsageError("--pilot and --spread exclude each other; give one of them")
    if options.repeat < 1:
        raise UsageError(f"--repeat {options.repeat}: expected one or more")
    if not 0 <= options.part_id < options.num_parts:
        raise UsageError(
            f"--part-id {options.part_id}: with --num-parts {options.num_parts} it is 0 to {options.num_parts - 1}"
        )
    above = next(each for each in (options.out, *options.out.absolute().parents) if each.exists())
    if not above.is_dir():
        where = "" if above == options.out else f", and {options.out} would be in it"
        raise UsageError(f"{above} is a file{where}; choose another --out")
    refuse_twins(options.arms, options.ratio, options.n)
    for arm in options.arms:
        if (length := len(os.fsencode(f"{arm.folder}, first.parts"))) > LONGEST:
            raise UsageError(
                f"--arm {arm.name[:40]}...: the name is too long for a folder by {length - LONGEST} bytes; "
                "give the settings that all arms share with --gan-set or --set"
            )
    able = registry.network_capabilities(options.task.kind, options.network).continues
    fine_tuned = next((arm.name for arm in options.arms if arm.use == "pretrain"), None)
    if fine_tuned and not able:
        raise UsageError(f"--arm {fine_tuned}: {options.network} cannot continue from trained weights")


def _check_numbers(options: StudyOptions) -> None:
    """Raise UsageError for a number with which some arm could not be trained, or would be with another."""
    if not 0 < options.ratio < math.inf:
        raise UsageError(f"--ratio {options.ratio:g}: expected a positive number of synthetic images for each real one")
    if options.n is not None and options.n < 1:
        raise UsageError(f"--n {options.n}: expected one synthetic image or more")
    if not 0 <= options.jitter < 1:
        raise UsageError(f"--jitter {options.jitter:g}: expected a share from 0 to 1")
    if options.kimg is not None and not 0 < options.kimg < math.inf:
        raise UsageError(f"--kimg {options.kimg:g}: expected a positive number of thousand images")
    for arm in options.arms:
        least = 2 if arm.use == "pretrain" or arm.steps < 1 else 1
        if options.steps is not None and options.steps < least:
            raise UsageError(f"--steps {options.steps}: too few for --arm {arm.name}; expected {least} or more")
    generators = dict.fromkeys(arm.generator for arm in options.arms if arm.generator)
    for name in options.generator_settings:
        if name not in registry.names("generator"):
            there = ", ".join(generators) or "none"
            raise UsageError(f"--gan-set {name}: no such generator is installed; those of the arms are {there}")
        if name not in generators:
            options.announce(f"--gan-set {name}: no arm has that generator, so its settings change nothing")


def _train(options: StudyOptions, trial: Trial) -> Path:
    """Train the network of a trial, and first what it needs; keep what is there already."""
    store = _own_patients(options, trial)
    if trial.arm.pseudo:
        return _train_pseudo(options, store, trial)
    synthetic = _synthetic(options, store, trial) if trial.arm.generator else []
    arm, out = trial.arm, trained_folder(options, trial)
    steps = steps_of(options, arm)
    ratio = (arm.ratio or options.ratio) if synthetic else None
    if arm.use == "mixed":
        return _network(options, store, trial, out, steps, synthetic=synthetic, ratio=ratio)
    if arm.use == "only":
        return _network(options, store, trial, out, steps, synthetic=synthetic, synthetic_only=True)
    first = first_folder(out)
    _network(options, store, trial, first, steps // 2, synthetic=synthetic, synthetic_only=True)
    return _network(options, store, trial, out, steps - steps // 2, start=first)


def _own_patients(options: StudyOptions, trial: Trial) -> Store:
    """Return the store of the patients that a trial is trained on, made where it is not there."""
    path, each = part_store(options, trial), trial.round
    with alone(path, wait=True):
        return subset(each.taught, options.task, trial.fraction, options.seed, path, each.store)


def _keep_stores(options: StudyOptions, trials: Sequence[Trial]) -> None:
    """Make the stores again that somebody has removed since networks were trained on them; the page shows them.

    Raises UsageError where the study's store is another one by now.
    """
    for trial in trials:
        if part_store(options, trial).exists() and fitted_store(options, trial).exists():
            continue
        store, trained = _own_patients(options, trial), trained_folder(options, baseline_of(options, trial))
        if store.hash != plan_in(trained)["store_hash"]:
            remove(store.path)
            raise UsageError(f"{options.store} is not what {trained} was trained on; choose another --out")
        _fitted_on(options, store, trial)


def _train_pseudo(options: StudyOptions, store: Store, trial: Trial) -> Path:
    """Train real-only where it is not there yet, let it annotate the other training images, and train again."""
    baseline = baseline_of(options, trial)
    first = trained_folder(options, baseline)
    with alone(options.out / trial.folder / folder_name(baseline.together[1]), wait=True):
        if not (first / f"{options.task.kind}.json").exists():
            _train(options, baseline)
    path = labelled_store(options, trial)
    task, whole = options.task, trial.round.taught
    indices = rest_of(whole, task, trial.fraction, options.seed)
    by = labeller(task, first, store, resolve_device(options.device))
    made = pseudo_labelled(whole, store, indices.tolist(), by, options.seed, path)
    options.announce(
        f"{trial.arm.name}: {len(made) - len(store)} of {len(indices)} images without annotation get one "
        f"from {BASELINE} (threshold {by.threshold:.3g})"
    )
    return _network(options, made, trial, trained_folder(options, trial), steps_of(options, trial.arm))


def _network(options: StudyOptions, store: Store, trial: Trial, out: Path, steps: int, **mixture: Any) -> Path:
    halves, before = (2, "start" in mixture) if trial.arm.use == "pretrain" else (1, False)
    run = RunOptions(
        out, network_settings(options, trial.arm), seed_of(options, trial), options.device, options.precision,
        resume=True, checkpoint_seconds=options.checkpoint_seconds,
        report=lambda progress: options.report((before + progress.fraction) / halves, *where(options, trial)),
    )  # fmt: skip
    return train_network(options.task, store.path, options.network, run, steps=steps, **mixture)


def _fitted_on(options: StudyOptions, store: Store, trial: Trial) -> Store:
    """Return what a generator is fitted on: the trial's patients, and where it sees them the images of the others."""
    path = fitted_store(options, trial)
    if path == store.path:
        return store
    with alone(path, wait=True):
        return with_rest(trial.round.taught, store, options.task, trial.fraction, options.seed, path)


def _synthetic(options: StudyOptions, store: Store, trial: Trial) -> list[Path]:
    """Fit the generator of a trial on its patients and draw its images; return their store."""
    generator = str(trial.arm.generator)
    place, wanted = synthetic_folder(options, trial), synthetic_store(options, trial)
    arm, of_seed = where(options, trial)
    run = RunOptions(
        place / "gan", trial.arm.generator_settings(options.generator_settings), seed_of(options, trial),
        options.device, options.precision, resume=True, checkpoint_seconds=options.checkpoint_seconds,
        report=lambda progress: options.report(0.0, arm, f"{of_seed}, generator {100 * progress.fraction:.0f} %"),
    )  # fmt: skip
    fitted_on = _fitted_on(options, store, trial).path
    if trial.arm.each_class:
        gan = train_each_class(fitted_on, generator, run, options.kimg)
    else:
        gan = train_generator(fitted_on, generator, run, options.kimg, start=trial.arm.start)
    n = drawn_images(options, trial)
    drawn = place / f"drawn-{n}.h5"
    asked = drawn_for(options, trial)
    synthesize(
        SynthesisOptions(
            n,
            gan,
            drawn,
            **asked,
            jitter=options.jitter,
            seed=seed_of(options, trial),
            device=options.device,
            resume=True,
        )
    )
    if trial.arm.filtered:
        sift(FilterOptions(drawn, wanted, by=trial.arm.filtered, real=store.path, device=options.device, resume=True))
    return [wanted]
