"""The page of a study, its rows for a spreadsheet, and the card of the synthetic images."""

import csv
import io
import re
from base64 import b64encode
from collections import Counter
from functools import partial
from typing import Any

from medaug_cli.figures.pages import filled
from medaug_cli.study import tables
from medaug_cli.study.analysis import ArmResult, Claim, FractionResult, StudyReport
from medaug_cli.study.arms import BASELINE, FORM, UNANNOTATED, split_arm
from medaug_cli.study.figures import differences_svg, froc_svg, gain_svg, learning_svg, seeds_svg, words
from medaug_cli.study.showing import Shown
from medaug_cli.tables import fixed, significant
from medaug_cli.tasks.task import task_named
from medaug_cli.words import counted

OVER_CONTROLS = {
    "better": "is better than",
    "inconclusive": "is not shown to be better than",
    "worse": "is worse than",
}  # what is said of each verdict of a generated arm against a control


def measures(report: StudyReport) -> list[str]:
    """Return the names of the numbers that every arm has, those first that are to be read first."""
    known, main = list(report.fractions[0].arms[0].mean), task_named(report.task).main
    return [*(name for name in main if name in known), *(name for name in known if name not in main)]


def study_rows(report: StudyReport) -> str:
    """Return a CSV with a row for every share of patients, arm, fold, seed and number; all folds together have none."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(["fraction", "patients", "arm", "fold", "seed", "number", "value"])
    for part in report.fractions:
        for arm in part.arms:
            for fold, seeds in [("", arm.seeds), *arm.folds.items()]:
                for seed, values in seeds.items():
                    begin = [f"{part.fraction:g}", part.patients, arm.arm, fold, seed]
                    writer.writerows([*begin, name, f"{value:.6g}"] for name, value in values.items())
    return target.getvalue()


def difference_rows(report: StudyReport) -> str:
    """Return a CSV with a row for every share of patients, arm, arm that it is compared with, and number."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(["fraction", "arm", "against", "number", "difference", "low", "high", "p", "p_holm", "verdict"])
    for part in report.fractions:
        against = [(arm.arm, other, numbers) for arm in part.arms for other, numbers in arm.against.items()]
        for arm, other, numbers in [*against, *((p.arm, p.against, p.numbers) for p in part.pairs)]:
            for name, own in numbers.items():
                if own is not None:
                    values = [f"{v:.6g}" for v in (own.difference, *own.interval, own.p, own.p_holm)]
                    writer.writerow([f"{part.fraction:g}", arm, other, name, *values, own.verdict])
    return target.getvalue()


def study_html(report: StudyReport, shown: dict[str, list[Shown]] | None = None) -> str:
    """Return the page with tables and pictures, in one file that loads nothing."""
    task = task_named(report.task)
    return filled(
        "study/study.html",
        counted=counted,
        report=report,
        task=task,
        names=measures(report),
        words=partial(words, report),
        first=task.headline,
        shown=shown or {},
        drawings=_drawings(report),
        sentence=partial(claim_sentence, report),
        tables=tables,
        baseline=BASELINE,
        judged_on=judged_on(report),
    )


def _drawings(report: StudyReport) -> dict[str, str]:
    first = task_named(report.task).headline
    stem = first.partition("_iou")[0]
    numbers = [first, *(name for name in measures(report) if name.startswith(stem) and name != first)]
    drawings = {f"differences, {words(report, name)}": differences_svg(report, name) for name in numbers}
    drawings |= {f"every seed, {words(report, name)}": seeds_svg(report, name) for name in numbers}
    drawings |= {f"FROC, IoU {iou}": froc_svg(report, iou) for iou in report.fractions[0].arms[0].froc}
    if curves := learning_svg(report):
        drawings["learning curves"] = curves
    if gain := gain_svg(report, first):
        drawings["gain"] = gain
    return {name: f"data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}" for name, svg in drawings.items()}


def claim_sentence(report: StudyReport, part: FractionResult) -> str:
    """Say in words what was found for generated images at one share of the patients."""
    found = part.claim
    if found is None:
        if any(arm.learnt for arm in part.arms):
            return f"With {part.trained('training patient')} nothing can be said: {_why_nothing(report, part)}."
        return f"With {part.trained('training patient')} no generated arm was compared."
    own = found.difference
    start = (
        f"With {part.trained('training patient')} {_chosen(found, part.contested)} changes "
        f"{words(report, found.number)} by {own.words()} against {BASELINE}: {own.verdict}."
    )
    alone = report.settings["seeds"] * max(1, len(report.deals)) == 1 and own.verdict is not None
    caution = "With one seed, a difference may be that of two training runs." if alone else ""
    return " ".join(filter(None, (start, _over_controls(found), caution)))


def _chosen(found: Claim, contested: bool) -> str:
    if not found.choices:
        return f"the generated arm{' that was best on validation' if contested else ''}, {found.arm},"
    folds = Counter(found.choices.values()).most_common()
    return f"{found.arm}, chosen on its validation part ({', '.join(f'{arm} in {n}' for arm, n in folds)}),"


def _why_nothing(report: StudyReport, part: FractionResult) -> str:
    if not any(arm.learnt and arm.chosen for arm in part.arms):
        return "the network of every generated arm has other settings, and a gain may be theirs"
    if part.contested and report.split == "val":
        return "an arm would be chosen on the images that it is judged on"
    if part.contested and any(arm.validation is None for arm in part.arms):
        who = "not every fold can choose an arm on its" if report.deals else "no arm can be chosen on"
        return f"{who} validation patients"
    return "no interval could be had"


def _over_controls(found: Claim) -> str:
    if not found.ahead_of:
        return "No control was trained, so nothing can be said for the generator."
    if all(each.verdict == "better" for each in found.ahead_of.values()):
        return f"It is better than every control ({', '.join(found.ahead_of)})."
    said: dict[str, list[str]] = {verdict: [] for verdict in OVER_CONTROLS}
    for name, each in found.ahead_of.items():
        said[each.verdict].append(name if each.verdict == "better" else f"{name} ({each.difference:+.3f})")
    parts = [f"{OVER_CONTROLS[verdict]} {', '.join(names)}" for verdict, names in said.items() if names]
    return f"It {'; it '.join(parts)}."


def judged_on(report: StudyReport) -> str:
    """Say which images were judged."""
    if not report.deals:
        return f"{report.split} split"
    times = f", dealt {len(report.deals)} times" if len(report.deals) > 1 else ""
    return f"every patient tested once in {len(report.deals[0].patients)} folds{times}"


def _beside(arm: ArmResult) -> str:
    """Say what an arm's generator has seen besides the annotated images of its training patients."""
    found = FORM.fullmatch(split_arm(arm.arm)[0])
    rest = found is not None and found["rest"] == UNANNOTATED
    start = re.search(r"\bstart=([^,\]]+)", found["settings"] or "") if found else None
    also = ["without their annotations, on the images of the other training patients"] if rest else []
    also += [f"before, as the weights of {start[1]} that it began with, on those of others"] if start else []
    return f"and, {' and, '.join(also)}" if also else "alone"


def card(report: StudyReport, part: FractionResult, arm: ArmResult, facts: dict[str, Any]) -> str:
    """Return the card of an arm's synthetic images, as Markdown (after Gebru et al. 2021, Datasheets for Datasets)."""
    patients, of_fold = (part.each_fold[0], " of fold 1") if part.each_fold else (part.patients, "")
    lines = [
        f"# Synthetic images: {arm.arm}", "",
        f"{counted(facts['images'], 'image')} of {facts['size']} pixels, drawn by the generator `{facts['generator']}` "
        f"{facts['version']} (weights {facts['hash'][:12]}), which was fitted on {counted(part.images, 'image')} of "
        f"{counted(patients, 'patient')} of the training split{of_fold} {_beside(arm)}. Every image is synthetic; none "
        "may stand in a validation or test set.", "",
        "## How they were made", "",
        f"Seed {facts['seed']}; each image follows the boxes of a training image, changed by up to "
        f"{report.settings['jitter']:g} of a box. The store names seed, condition and generator of each.", "",
        "## What was measured", "",
        f"- {task_named(report.task).kind.capitalize()}s, {judged_on(report)}, {counted(report.slices, 'image')} of "
        f"{counted(report.patients, 'patient')}: "
        f"{claim_sentence(report, part)}",
    ]  # fmt: skip
    for own in arm.similarity:
        lines.append(
            f"- Features `{own.features}`: KID {significant(own.kid)} (real against real {fixed(own.kid_of_real)}), "
            f"coverage {own.coverage:.2f} (real {fixed(own.coverage_of_real)}); {fixed(own.suspicious)} of the images "
            "lie nearer to a training image than the nearest 1 % of held-out ones, median distance "
            f"{fixed(own.memorisation_ratio)} of theirs."
        )
    lines += [
        "", "## What they are not", "",
        "Evidence of anything in a patient; a replacement for real validation; anonymous by construction. A generator "
        "can repeat what it was fitted on: look at the nearest pairs on the study's page before you share them. For "
        "research only, under the terms of the images that it was fitted on.", "",
    ]  # fmt: skip
    return "\n".join(lines)
