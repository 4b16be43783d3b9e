"""Judge the networks of a study on held-out patients, and publish what came out."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli.errors import UsageError
from medaug_cli.evaluation.whole_images import MOST_PICTURES
from medaug_cli.files import canonical, finish_publishing, new_files, parse_json, publish_text, write_json
from medaug_cli.locks import alone, remove_dead_locks
from medaug_cli.store import Store, open_store
from medaug_cli.study import found_boxes
from medaug_cli.study.analysis import ArmResult, FractionResult, StudyReport
from medaug_cli.study.arms import folder_name
from medaug_cli.study.comparing import Judged, compare_arms, larger_is_better, settings
from medaug_cli.study.rounds import deals_of, rounds_of
from medaug_cli.study.running import train_all
from medaug_cli.study.showing import Shown, detections, nearest_pairs, row
from medaug_cli.study.subsets import training_images
from medaug_cli.study.trials import StudyOptions, Trial, fitted_store, part_name, part_store, synthetic_store
from medaug_cli.tasks.detection import IOUS

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
        opened = _record_opening(options, store)
        where = "all folds" if options.folds is not None else f"the {options.split} split"
        options.announce(f"comparing on {where}, opened for {opened} plan{'s' * (opened > 1)} here")
        report = compare_arms(options, store, opened)
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
            raise UsageError(f"{path} exists and was not written by medaug study; choose another --out")


def _record_opening(options: StudyOptions, store: Store) -> int:
    """Write down for which plan the split is opened, before it is; return how many plans that makes."""
    path = options.out / OPENED
    before = parse_json(path) if path.exists() else []
    now = {"split": options.split, **json.loads(canonical(settings(options, deals_of(options, store))))}
    if now not in before:
        before.append(now)
        publish_text(path, json.dumps(before, indent=1) + "\n")
    return sum(plan["split"] == options.split for plan in before)


def _publish(options: StudyOptions, report: StudyReport, store: Store) -> None:
    from medaug_cli.study.page import card, difference_rows, study_html, study_rows

    judged = Judged(options, rounds_of(options, store))
    shown = {f"{part.fraction:g}": _shown(options, judged, part) for part in report.fractions}
    for part in report.fractions:
        for arm, facts in _cards(options, judged, part):
            path = options.out / part_name(part.fraction) / f"card {folder_name(arm.arm)}.md"
            publish_text(path, card(report, part, arm, facts))
    rows, differences, page = BESIDE
    with new_files(options.out / REPORT) as folder:
        publish_text(folder / rows, study_rows(report))
        publish_text(folder / differences, difference_rows(report))
        publish_text(folder / page, study_html(report, shown))
        write_json(folder / REPORT, report.model_dump(mode="json"))


def _first(options: StudyOptions, judged: Judged, part: FractionResult, arm: ArmResult) -> Trial:
    return judged.trial(part.fraction, next(each for each in options.arms if each.name == arm.arm))


def _shown(options: StudyOptions, judged: Judged, part: FractionResult) -> list[Shown]:
    """Return the pictures of one share of the patients: images, nearest pairs, answers; in folds of the first fold."""
    real = open_store(part_store(options, _first(options, judged, part, part.arms[0])))
    train, masks = training_images(real, options.task), options.task.needs == "mask"
    found = [row("Real training images, chosen by seed", real, train, options.seed, masks)]
    for arm in part.arms:
        trial = _first(options, judged, part, arm)
        if trial.arm.generator is None or not arm.chosen or trial.arm.changed:
            continue
        drawn = open_store(synthetic_store(options, trial))
        found.append(row(f"{arm.arm}, chosen by seed", drawn, np.arange(len(drawn)), options.seed, masks))
        if arm.learnt and arm.similarity:
            title = f"{arm.arm}: the images nearest to a training image (by pixels), above those images"
            seen = open_store(fitted_store(options, trial))
            found.append(nearest_pairs(title, drawn, seen, arm.similarity[0].nearest))
    return found + _answers(options, judged, part)


def _answers(options: StudyOptions, judged: Judged, part: FractionResult) -> list[Shown]:
    """Return what real-only and the best other arm answer, first seed; detectors at one false positive per slice."""
    number, split = options.task.headline, judged.first
    claimed = [arm for arm in part.arms[1:] if part.claim is not None and arm.arm == part.claim.arm]
    pick = max if larger_is_better(options, number) else min
    best = pick(claimed or part.arms[1:], key=lambda arm: arm.mean[number])
    chosen = {arm.arm: split.each(_first(options, judged, part, arm)) for arm in (part.arms[0], best)}
    answers = {name: split.answers(each) for name, each in chosen.items()}
    if matched := found_boxes.matched_of(answers):
        return detections(split.store, split.indices, matched, IOUS[0])
    found = {name: split.found(each) for name, each in chosen.items()}
    figures = options.task.figures(split.store, split.indices, answers, found, MOST_PICTURES)
    return [Shown(f"{each.title}. {each.note}", each.uri) for each in figures]


def _cards(options: StudyOptions, judged: Judged, part: FractionResult) -> Iterator[tuple[ArmResult, dict[str, Any]]]:
    """Yield each chosen generated arm with what its card says of its images, in folds of those of the first fold."""
    for arm in (arm for arm in part.arms if arm.learnt and arm.chosen):
        drawn = open_store(synthetic_store(options, _first(options, judged, part, arm)))
        origin = drawn.info.generators[0]
        yield arm, {
            "images": len(drawn), "size": "x".join(map(str, drawn.spec.spatial)), "generator": origin.name,
            "version": origin.version, "hash": origin.hash, "seed": drawn.info.seed,
        }  # fmt: skip
