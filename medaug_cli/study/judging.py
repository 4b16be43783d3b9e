"""Judge the networks of a study on held-out patients, and publish what came out."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli import __version__
from medaug_cli.errors import UsageError
from medaug_cli.evaluation.whole_images import MOST_PICTURES
from medaug_cli.files import canonical, finish_publishing, new_files, parse_json, publish_text, write_json
from medaug_cli.locks import alone, remove_dead_locks
from medaug_cli.metrics.resampling import point
from medaug_cli.store import Store, open_store
from medaug_cli.study import found_boxes
from medaug_cli.study.analysis import ArmResult, Comparison, FractionResult, Pair, StudyReport, claim
from medaug_cli.study.answers import Split
from medaug_cli.study.arms import folder_name, one_thing_apart
from medaug_cli.study.measurable import check_measurable
from medaug_cli.study.running import StudyOptions, Trial, part_name, synthetic_store, train_all
from medaug_cli.study.showing import Shown, detections, nearest_pairs, row
from medaug_cli.study.similarity import pictures
from medaug_cli.study.subsets import training_images
from medaug_cli.tasks.detection import IOUS, FoundAnswers
from medaug_cli.tasks.task import measure_of

REPORT, OPENED = "study.json", "opened.json"
BESIDE = ("study.csv", "differences.csv", "study.html")  # published together with the report


def run_study(options: StudyOptions) -> StudyReport | None:
    """Train every arm at every share and seed, compare them on one split, publish study.json and its page.

    Nothing is done twice: the same command goes on with a study that was stopped, or adds arms, shares and seeds to
    one that is finished. Returns None after a dry run, and where detectors of other parts are not there yet. Raises
    UsageError for a plan that compares nothing, BadInput where a generator or detector has seen a patient that it is
    judged on, or a slice is on both sides of the split.
    """
    _refuse_others(options.out)
    if not train_all(options):
        return None
    store = open_store(options.store)
    with alone(options.out / REPORT, wait=True):
        finish_publishing(options.out / REPORT)  # what a killed study had published
        opened = _record_opening(options)
        options.announce(f"comparing on the {options.split} split, opened for {opened} plan{'s' * (opened > 1)} here")
        report = _compare(options, store, opened)
        _publish(options, report, store)
        remove_dead_locks(options.out)
    options.report(1.0, "compared")
    return report


def _refuse_others(out: Path) -> None:
    """Raise UsageError where a file that a study writes is there and is not of a study."""
    opened = out / OPENED
    if opened.exists():
        plans = parse_json(opened)
        if isinstance(plans, list) and all(isinstance(plan, dict) and "split" in plan for plan in plans):
            return
    for path in (opened, *(out / name for name in (REPORT, *BESIDE))):
        if path.exists():
            raise UsageError(f"{path} exists and is not of a study; choose another --out")


def _record_opening(options: StudyOptions) -> int:
    """Write down for which plan the split is opened, before it is; return how many plans that makes."""
    path = options.out / OPENED
    before = parse_json(path) if path.exists() else []
    now = {"split": options.split, **json.loads(canonical(settings(options)))}
    if now not in before:
        before.append(now)
        publish_text(path, json.dumps(before, indent=1) + "\n")
    return sum(plan["split"] == options.split for plan in before)


def _compare(options: StudyOptions, store: Store, opened: int) -> StudyReport:
    judged, task = Split(options, store, options.split), options.task
    chosen_on = None
    val = np.flatnonzero(task.usable(store) & (store.splits == "val"))
    if options.split != "val" and not task.measurable(store, val):
        chosen_on = Split(options, store, "val")
    fractions = [_fraction(options, judged, chosen_on, fraction) for fraction in sorted(options.fractions)]
    counts = task.counts(store, judged.indices)
    return StudyReport(
        tool_version=__version__,
        settings=settings(options),
        data={options.store.name: store.hash},
        split=options.split,
        opened=opened,
        slices=len(judged.indices),
        boxes=counts.get("boxes", 0),
        patients=judged.patients,
        task=task.name,
        counts=counts,
        remarks=check_measurable(options, store) + _undefined(options, fractions),
        fractions=fractions,
    )


def _undefined(options: StudyOptions, fractions: Sequence[FractionResult]) -> list[str]:
    """Say which numbers are missing, for they cannot be had of every network."""
    every = [name for name, measure in options.task.measures.items() if measure.compared]
    lacking = [name for name in every if any(name not in part.arms[0].mean for part in fractions)]
    return [f"{options.task.measures[name].words} is not available: not every network has it" for name in lacking]


def _fraction(options: StudyOptions, judged: Split, chosen_on: Split | None, fraction: float) -> FractionResult:
    trials = {arm.name: [Trial(fraction, seed, arm) for seed in range(options.seeds)] for arm in options.arms}
    answers = {name: [judged.answers(trial) for trial in each] for name, each in trials.items()}
    measured = Comparison(answers, judged.patients, options.task.measures, options.resamples, options.seed)
    learnt, rivals = ([arm.name for arm in options.arms if getattr(arm, what)] for what in ("learnt", "rivals"))
    arms = measured.results(learnt, rivals)
    part = open_store(options.out / part_name(fraction) / "real.h5")
    seen: set[Path] = set()
    for result, arm in zip(arms, options.arms, strict=True):
        options.report(0.99, f"{part_name(fraction)}, {arm.name}")
        if isinstance(answers[arm.name][0], FoundAnswers):
            result.froc = found_boxes.curves(measured.systems[arm.name])
            result.sizes = found_boxes.sizes(answers[arm.name])
        if chosen_on is not None:
            result.validation = _on_validation(options, chosen_on, trials[arm.name])
        drawn = synthetic_store(options, trials[arm.name][0], part) if arm.generator else None
        if drawn is not None and not (arm.changed and drawn in seen):  # another network, the same images
            result.similarity = pictures(part, drawn, options.seed)
            seen.add(drawn)
    _choose(options, arms)
    train = training_images(part, options.task)
    return FractionResult(
        fraction=fraction,
        patients=len({part.patients[i] for i in train}),
        images=len(train),
        arms=arms,
        claim=claim(arms, options.task.headline, _largest(options, options.task.headline)),
        pairs=_pairs(options, measured),
    )


def _pairs(options: StudyOptions, measured: Comparison) -> list[Pair]:
    """Return the differences of arms that differ in one thing."""
    apart = one_thing_apart(options.arms, options.ratio)
    found = measured.differences([(earlier.name, later.name) for later, earlier, _ in apart])
    return [
        Pair(arm=later.name, against=earlier.name, changed=words, numbers=numbers)
        for (later, earlier, words), numbers in zip(apart, found, strict=True)
    ]


def _on_validation(options: StudyOptions, split: Split, trials: Sequence[Trial]) -> float:
    """Return what arms of one generator are chosen by: the mean of the task's number, of detection CPM."""
    number = options.task.chosen_by or options.task.headline
    return float(np.mean([point(split.answers(trial), split.patients)[number] for trial in trials]))


def _largest(options: StudyOptions, number: str) -> bool:
    """Tell whether the largest value of a number is the best one."""
    return measure_of(options.task.measures, number).larger_is_better


def _choose(options: StudyOptions, arms: Sequence[ArmResult]) -> None:
    """Mark the best arm of each generator on validation; without validation none is put before another."""
    pick = max if _largest(options, options.task.chosen_by or options.task.headline) else min
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


def settings(options: StudyOptions) -> dict[str, Any]:
    """Return what a study was asked for, as it stands in its report."""
    kind = options.task.kind
    return {
        "arms": [arm.name for arm in options.arms], "fractions": [float(f) for f in sorted(options.fractions)],
        "seeds": options.seeds, "n": options.n, "ratio": options.ratio, "jitter": options.jitter,
        kind: options.network, f"{kind}_settings": {k: str(v) for k, v in options.network_settings.items()},
        "generator_settings": {
            name: {k: str(v) for k, v in own.items()} for name, own in sorted(options.generator_settings.items())
        },
        "steps": options.steps, "kimg": options.kimg, "resamples": options.resamples, "seed": options.seed,
        **options.task.settings(),
    }  # fmt: skip


def _publish(options: StudyOptions, report: StudyReport, store: Store) -> None:
    from medaug_cli.study.page import card, difference_rows, study_html, study_rows

    judged = Split(options, store, options.split)
    shown = {f"{part.fraction:g}": _shown(options, judged, part) for part in report.fractions}
    for part in report.fractions:
        for arm, facts in _cards(options, part):
            path = options.out / part_name(part.fraction) / f"card {folder_name(arm.arm)}.md"
            publish_text(path, card(report, part, arm, facts))
    rows, differences, page = BESIDE
    with new_files(options.out / REPORT) as folder:
        publish_text(folder / rows, study_rows(report))
        publish_text(folder / differences, difference_rows(report))
        publish_text(folder / page, study_html(report, shown))
        write_json(folder / REPORT, report.model_dump(mode="json"))


def _first(options: StudyOptions, part: FractionResult, arm: ArmResult) -> Trial:
    return Trial(part.fraction, 0, next(each for each in options.arms if each.name == arm.arm))


def _shown(options: StudyOptions, judged: Split, part: FractionResult) -> list[Shown]:
    """Return the pictures of one share of the patients: images, nearest pairs, answers."""
    real = open_store(options.out / part_name(part.fraction) / "real.h5")
    train, masks = training_images(real, options.task), options.task.needs == "mask"
    found = [row("Real training images, chosen by seed", real, train, options.seed, masks)]
    for arm in part.arms:
        trial = _first(options, part, arm)
        if trial.arm.generator is None or not arm.chosen or trial.arm.changed:
            continue
        drawn = open_store(synthetic_store(options, trial, real))
        found.append(row(f"{arm.arm}, chosen by seed", drawn, np.arange(len(drawn)), options.seed, masks))
        if arm.learnt and arm.similarity:
            title = f"{arm.arm}: the images nearest to a training image (by pixels), above those images"
            found.append(nearest_pairs(title, drawn, real, arm.similarity[0].nearest))
    return found + _answers(options, judged, part)


def _answers(options: StudyOptions, judged: Split, part: FractionResult) -> list[Shown]:
    """Return what real-only and the best other arm answer, first seed; detectors each at one false positive a slice."""
    number = options.task.headline
    others = [arm for arm in part.arms[1:] if part.claim is None or arm.arm == part.claim.arm]
    pick = max if _largest(options, number) else min
    best = pick(others, key=lambda arm: arm.mean[number])
    trials = {arm.arm: _first(options, part, arm) for arm in (part.arms[0], best)}
    answers = {name: judged.answers(trial) for name, trial in trials.items()}
    if matched := found_boxes.matched_of(answers):
        return detections(judged.store, judged.indices, matched, IOUS[0])
    found = {name: judged.found(trial) for name, trial in trials.items()}
    figures = options.task.figures(judged.store, judged.indices, answers, found, MOST_PICTURES)
    return [Shown(f"{each.title}. {each.note}", each.uri) for each in figures]


def _cards(options: StudyOptions, part: FractionResult) -> Iterator[tuple[ArmResult, dict[str, Any]]]:
    """Yield each chosen generated arm with what its card says of its images."""
    real = open_store(options.out / part_name(part.fraction) / "real.h5")
    for arm in (arm for arm in part.arms if arm.learnt and arm.chosen):
        drawn = open_store(synthetic_store(options, _first(options, part, arm), real))
        origin = drawn.info.generators[0]
        yield arm, {
            "images": len(drawn), "size": "x".join(map(str, drawn.spec.spatial)), "generator": origin.name,
            "version": origin.version, "hash": origin.hash, "seed": drawn.info.seed,
        }  # fmt: skip
