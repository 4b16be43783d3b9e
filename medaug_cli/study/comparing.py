"""Compare the networks of a study: every arm, seed and fold, the differences, and what may be claimed."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli import __version__
from medaug_cli.files import canonical, parse_json
from medaug_cli.metrics.resampling import point
from medaug_cli.runs.folder import PLAN
from medaug_cli.store import Store, open_store
from medaug_cli.store.folds import Folds
from medaug_cli.study import found_boxes
from medaug_cli.study.analysis import (
    ArmResult,
    Claim,
    Comparison,
    Deal,
    FractionResult,
    Pair,
    StudyReport,
    claim,
    claim_of,
)
from medaug_cli.study.answers import Split
from medaug_cli.study.arms import BASELINE, Arm, one_thing_apart
from medaug_cli.study.learning import learning
from medaug_cli.study.measurable import check_measurable, lacks_validation, telling_patients
from medaug_cli.study.rounds import Round, deals_of, of_deals, rounds_of, strata_of
from medaug_cli.study.running import power_of, training_patients
from medaug_cli.study.similarity import pictures
from medaug_cli.study.subsets import chosen_patients, training_images
from medaug_cli.study.teaching import named
from medaug_cli.study.trials import (
    StudyOptions,
    Trial,
    fitted_store,
    part_name,
    part_store,
    plan,
    synthetic_store,
    trained_folder,
)
from medaug_cli.study.unannotated import rest_of
from medaug_cli.tasks.detection import FoundAnswers
from medaug_cli.tasks.task import measure_of
from medaug_cli.words import counted

BEST = "the best generated arm of each fold"
UNEQUAL = {"tool_version": "by medaug", "precision": "with precision"}  # of a network's metadata -> in words


def compare_arms(options: StudyOptions, store: Store, opened: int) -> StudyReport:
    """Return what a study whose networks are all there found."""
    rounds, task = rounds_of(options, store), options.task
    judged, dealt = Judged(options, rounds), deals_of(options, store)
    fractions = [_fraction(options, judged, fraction) for fraction in sorted(options.fractions)]
    counts = task.counts(store, judged.first.indices)
    remarks = [*check_measurable(options, rounds), *_undefined(options, fractions)]
    return StudyReport(
        tool_version=__version__,
        settings=settings(options, dealt),
        data={options.store.name: store.hash},
        split=options.split,
        deals=[_deal(options, split, folds) for split, folds in zip(judged.splits, dealt, strict=False)],
        opened=opened,
        slices=len(judged.first.indices),
        boxes=counts.get("boxes", 0),
        patients=judged.first.patients,
        telling=len(telling_patients(judged.first.store, task, judged.first.indices)),
        task=task.name,
        counts=counts,
        power=power_of(options, rounds),
        remarks=[*remarks, *_of_answers(judged), *_annotated(options, rounds), *_unequal(options, rounds)],
        fractions=fractions,
    )


class Judged:
    """What is judged in a study: one split or, in folds, every patient once a deal; and what arms are chosen on."""

    def __init__(self, options: StudyOptions, rounds: Sequence[Round]):
        self.options, self.rounds = options, rounds
        self.splits = [Split(options, deal, options.split) for deal in of_deals(rounds)]
        self.first = self.splits[0]
        chosen_on = options.split != "val" and not any(lacks_validation(options, each) for each in rounds)
        self.validation = [Split(options, [each], "val") for each in rounds] if chosen_on else []

    def trial(self, fraction: float, arm: Arm, seed: int = 0) -> Trial:
        """Return the trial of the first round."""
        return Trial(self.rounds[0], fraction, seed, arm)

    def repeats(self, fraction: float, arm: Arm) -> dict[str, tuple[Split, tuple[Trial, ...]]]:
        """Return the trainings of an arm by name, each a network in every round of a deal."""
        found = {}
        for deal, split in enumerate(self.splits, 1):
            for seed in range(self.options.seeds):
                name = f"deal {deal}, seed {seed}" if len(self.splits) > 1 else str(seed)
                found[name] = split, split.each(self.trial(fraction, arm, seed))
        return found

    def validated(self, fraction: float, arm: Arm) -> list[float]:
        """Return what the arms of a round are chosen by, round by round: the mean of the task's number over seeds."""
        number = self.options.task.chosen_by or self.options.task.headline
        return [
            float(np.mean([
                point(split.answers(split.each(self.trial(fraction, arm, seed))), split.patients)[number]
                for seed in range(self.options.seeds)
            ]))
            for split in self.validation
        ]  # fmt: skip


def _deal(options: StudyOptions, split: Split, folds: Folds) -> Deal:
    patients = [len({split.store.patients[i] for i in part}) for part in split.parts]
    counts = [options.task.counts(split.store, part) for part in split.parts]
    return Deal(seed=folds.seed, patients=patients, images=[len(part) for part in split.parts], counts=counts)


def _undefined(options: StudyOptions, fractions: Sequence[FractionResult]) -> list[str]:
    """Say which numbers are missing, for they cannot be had of every network or rest on one patient."""
    measures = options.task.measures
    every = [name for name, measure in measures.items() if measure.compared]
    lacking = [name for name in every if any(name not in part.arms[0].mean for part in fractions)]
    known = [name for name in every if name not in lacking]
    alone = [name for name in known if any(part.arms[1].against_real_only.get(name) is None for part in fractions)]
    said = [f"{measures[name].words} is not available: not every network has it" for name in lacking]
    if len(alone) < len(known):  # else all is of one patient, which is said before anything is trained
        said += [f"{measures[name].words} has no interval and no verdict: it rests on one patient" for name in alone]
    return said


def _of_answers(judged: "Judged") -> list[str]:
    """Return what the task says of the answers of every arm's first networks."""
    options, answers = judged.options, {}
    for fraction in sorted(options.fractions):
        share = f"{100 * fraction:g} % of patients, " if len(options.fractions) > 1 else ""
        for arm in options.arms:
            trials = judged.first.each(judged.trial(fraction, arm))
            answers[f"{share}seed 0, {arm.name}"] = judged.first.answers(trials)
    return [sentence.removesuffix(".") for sentence in options.task.remarks(answers)]


def _annotated(options: StudyOptions, rounds: Sequence[Round]) -> list[str]:
    """Say how many images each network of real images alone has annotated for an arm that learns from those, too."""
    found: dict[str, list[str]] = {}
    for trial in plan(options, rounds):
        if trial.arm.pseudo:
            told = parse_json(trained_folder(options, trial) / f"{options.task.kind}.json")["training_images"]
            store, task = trial.round.taught, options.task
            own = training_images(store, task, chosen_patients(store, task, trial.fraction, options.seed))
            rest = len(rest_of(store, task, trial.fraction, options.seed))
            share = f"{100 * trial.fraction:g} % of patients" if len(options.fractions) > 1 else ""
            where = ", ".join(filter(None, (share, trial.round.name, f"seed {trial.seed}")))
            found.setdefault(trial.arm.name, []).append(f"{told - len(own)} of {rest} ({where})")
    return [f"images that {BASELINE} annotated for {name}: {'; '.join(counts)}" for name, counts in found.items()]


def _unequal(options: StudyOptions, rounds: Sequence[Round]) -> list[str]:
    """Say where networks were trained unequally, as in a study that goes on after an update or on another machine."""
    folders = [trained_folder(options, trial) for trial in plan(options, rounds)]
    described = [parse_json(folder / f"{options.task.kind}.json") for folder in folders]
    found = {words: sorted({str(each[key]) for each in described}) for key, words in UNEQUAL.items()}
    said = [
        f"networks were trained {words} {' and '.join(values)}: a difference of arms may come from that"
        for words, values in found.items()
        if len(values) > 1
    ]
    planned = [parse_json(folder / PLAN)["steps"] for folder in folders]
    patient = [each["steps"] < steps for each, steps in zip(described, planned, strict=True) if may_stop(each)]
    if any(patient):
        said.append(
            f"{sum(patient)} of {counted(len(described), options.task.kind)} stopped before the last step, as their "
            "patience asks for: arms were not trained for the same number of steps"
        )
    return said


def may_stop(described: Mapping[str, Any]) -> bool:
    """Tell from its metadata whether a network may end before its last step."""
    return bool(described["settings"].get("patience"))


def _fraction(options: StudyOptions, judged: Judged, fraction: float) -> FractionResult:
    trained = {arm.name: judged.repeats(fraction, arm) for arm in options.arms}
    answers = {name: [split.answers(each) for split, each in own.values()] for name, own in trained.items()}
    measured = Comparison(
        answers,
        judged.first.patients,
        options.task.measures,
        options.resamples,
        options.seed,
        strata=strata_of(judged.rounds, judged.first.names),
        labels=list(next(iter(trained.values()))),
    )
    learnt, rivals = ([arm.name for arm in options.arms if getattr(arm, what)] for what in ("learnt", "rivals"))
    arms = measured.results(learnt, rivals)
    validated = {arm.name: judged.validated(fraction, arm) for arm in options.arms} if judged.validation else {}
    part = open_store(part_store(options, judged.trial(fraction, options.arms[0])))
    seen: set[Path] = set()
    for result, arm in zip(arms, options.arms, strict=True):
        options.report(0.99, f"{part_name(fraction)}, {arm.name}")
        for name, (split, each) in trained[arm.name].items():
            for fold, numbers in split.of_each(each).items():
                result.folds.setdefault(fold, {})[name] = numbers
        if isinstance(answers[arm.name][0], FoundAnswers):
            result.froc = found_boxes.curves(measured.systems[arm.name])
            result.sizes = found_boxes.sizes(answers[arm.name])
        result.learning = learning(options, (trial for _, each in trained[arm.name].values() for trial in each))
        if validated:
            result.validation = float(np.mean(validated[arm.name]))
        trial = judged.trial(fraction, arm)
        drawn = synthetic_store(options, trial) if arm.generator else None
        if drawn is not None and not (arm.changed and drawn in seen):  # another network, the same images
            result.similarity = pictures(open_store(fitted_store(options, trial)), drawn, options.seed)
            seen.add(drawn)
    _choose(options, arms)
    counts = training_patients(options, judged.rounds, fraction)
    return FractionResult(
        fraction=fraction,
        patients=round(sum(counts) / len(counts)),
        images=len(training_images(part, options.task)),
        each_fold=counts if judged.rounds[0].fold else [],
        arms=arms,
        claim=_claim(options, judged, fraction, measured=measured, arms=arms, validated=validated),
        pairs=_pairs(options, measured),
    )


def _claim(
    options: StudyOptions,
    judged: Judged,
    fraction: float,
    *,
    measured: Comparison,
    arms: Sequence[ArmResult],
    validated: Mapping[str, Sequence[float]],
) -> Claim | None:
    """Return what may be said of generated images: in folds, of the arm that each fold's own validation chooses.

    Validation patients of a fold are tested in another one, so one choice for all folds would have seen every answer.
    Where there is a choice and no validation, or validation itself is judged, nothing may be said: the best of several
    on the images that are judged is best by chance, too.
    """
    number = options.task.headline
    rivals = [arm for arm in options.arms if arm.rivals]
    if len(rivals) > 1 and not validated:
        return None
    if not judged.rounds[0].fold or len(rivals) < 2:
        return claim(arms, number, larger_is_better(options, number))
    pick = max if larger_is_better(options, options.task.chosen_by or number) else min
    chosen = {
        each: pick(rivals, key=lambda arm: validated[arm.name][place]) for place, each in enumerate(judged.rounds)
    }
    answers = [
        split.answers([judged.trial(fraction, chosen[each], seed).at(each) for each in split.rounds])
        for split in judged.splits
        for seed in range(options.seeds)
    ]
    against = [BASELINE, *(arm.name for arm in options.arms if arm.name != BASELINE and not arm.learnt)]
    found = measured.of_other(BEST, answers, against)
    return claim_of(
        BEST, number, dict(zip(against, found, strict=True)), {each.name: arm.name for each, arm in chosen.items()}
    )


def _pairs(options: StudyOptions, measured: Comparison) -> list[Pair]:
    """Return the differences of arms that differ in one thing."""
    apart = one_thing_apart(options.arms, options.ratio)
    found = measured.differences([(earlier.name, later.name) for later, earlier, _ in apart])
    return [
        Pair(arm=later.name, against=earlier.name, changed=words, numbers=numbers)
        for (later, earlier, words), numbers in zip(apart, found, strict=True)
    ]


def larger_is_better(options: StudyOptions, number: str) -> bool:
    """Tell whether the largest value of a number is the best one."""
    return measure_of(options.task.measures, number).larger_is_better


def _choose(options: StudyOptions, arms: Sequence[ArmResult]) -> None:
    """Mark the best arm of each generator on validation; without validation none is put before another."""
    pick = max if larger_is_better(options, options.task.chosen_by or options.task.headline) else min
    families: dict[str, list[ArmResult]] = {}
    for result, arm in zip(arms, options.arms, strict=True):
        families.setdefault(arm.family, []).append(result)
    for family in families.values():
        known = [each for each in family if each.validation is not None]
        best = pick(known, key=lambda each: each.validation or 0.0) if known else None
        for each in family:
            each.chosen = best is None or each is best
    for result, arm in zip(arms, options.arms, strict=True):
        result.chosen &= not (arm.learnt and arm.changed)


def settings(options: StudyOptions, dealt: Sequence[Folds]) -> dict[str, Any]:
    """Return what a study was asked for, as it stands in its report."""
    kind = options.task.kind
    hashes = [hashlib.sha256(canonical(folds.patients).encode()).hexdigest()[:12] for folds in dealt]
    folds = {"folds": dealt[0].folds, "dealt": hashes} if dealt else {}
    return {
        "arms": [arm.name for arm in options.arms], "fractions": [float(f) for f in sorted(options.fractions)],
        "seeds": options.seeds, "n": options.n, "ratio": options.ratio, "jitter": options.jitter,
        kind: options.network, f"{kind}_settings": {k: str(v) for k, v in options.network_settings.items()},
        "generator_settings": {
            name: {k: str(v) for k, v in own.items()} for name, own in sorted(options.generator_settings.items())
        },
        **({"unannotated": "rest"} if options.unannotated else {}),
        **({"train_annotations": named(options.train_annotations)} if options.train_annotations else {}),
        "steps": options.steps, "kimg": options.kimg, "resamples": options.resamples, "seed": options.seed,
        **folds, **options.task.settings(),
    }  # fmt: skip
