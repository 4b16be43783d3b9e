"""The tables of a study, for its page and the terminal."""

from medaug_cli.metrics.differences import PairedDifference, exploratory
from medaug_cli.study.analysis import ArmResult, FractionResult, StudyReport
from medaug_cli.study.arms import BASELINE
from medaug_cli.study.figures import words
from medaug_cli.study.learning import best_point, steps_to
from medaug_cli.study.similarity import MOST
from medaug_cli.tables import DASH, Cell, Table, fixed, probability, table
from medaug_cli.tasks.task import measure_of, task_named
from medaug_cli.words import counted


def table1(report: StudyReport, part: FractionResult) -> Table:
    """Return the numbers of one operating point of each arm: of detection, those of the paper's Table 1."""
    names = list(part.arms[0].table1)
    rows = [[Cell(arm.arm), *(_estimate(report, arm, name) for name in names)] for arm in part.arms]
    notes = ["These are different operating points: read what follows, where false positives are equal."]
    return table(
        task_named(report.task).operating,
        ["arm", *(words(report, name) for name in names)],
        rows if names else [],
        notes if report.task == "detection" else [],
    )


def compared(report: StudyReport, part: FractionResult, name: str, seeds: bool = True) -> Table:
    """Return every arm's mean of a number, each seed's where asked for, and the difference to real-only."""
    header = ["arm", "mean", *(["each seed"] if seeds else []), f"difference to {BASELINE}", "p (Holm)", "verdict"]
    rows, first = list[list[Cell]](), task_named(report.task).headline
    for arm in part.arms:
        each = [Cell(", ".join(fixed(values[name]).text for values in arm.seeds.values()))] if seeds else []
        said = _said(arm.against_real_only.get(name), primary=name == first)
        rows.append([Cell(arm.arm), fixed(arm.mean[name]), *each, *said])
    notes = [] if name == first else [exploratory(words(report, first))]
    return table(f"{part.trained('training patient')}: {words(report, name)}", header, rows, notes)


def folds(report: StudyReport, part: FractionResult, name: str) -> Table:
    """Return a number of every arm in every fold, seed by seed: each fold by itself, with a threshold of its own."""
    names = list(dict.fromkeys(fold for arm in part.arms for fold in arm.folds))
    rows = [
        [Cell(fold), *(Cell(", ".join(fixed(own.get(name)).text for own in arm.folds.get(fold, {}).values()))
                       for arm in part.arms)]
        for fold in names
    ]  # fmt: skip
    notes = ["The mean of the folds need not be the number of all their answers together, which counts."]
    header = ["fold", *(arm.arm for arm in part.arms)]
    return table(f"Every fold and seed: {words(report, name)}", header, rows, notes if rows else [])


def deals(report: StudyReport) -> Table:
    """Return what is tested in every fold."""
    rows = []
    for number, deal in enumerate(report.deals, 1):
        for fold, (patients, images, counts) in enumerate(zip(deal.patients, deal.images, deal.counts, strict=True), 1):
            name = f"deal {number}, fold {fold}" if len(report.deals) > 1 else f"fold {fold}"
            what = ", ".join(f"{count} {word}" for word, count in counts.items())
            rows.append([Cell(name), Cell(str(patients)), Cell(str(images)), Cell(what)])
    return table("What each fold tests", ["fold", "patients", "images", "of them"], rows)


def controls(report: StudyReport, part: FractionResult, name: str) -> Table:
    """Return the differences of generated arms to the controls."""
    best = part.claim.arm if part.claim and part.contested else None
    rows = [
        [Cell(arm.arm + (" (best on validation)" if arm.arm == best else "")), Cell(other), *_said(numbers[name])]
        for arm in part.arms if arm.learnt
        for other, numbers in arm.against.items() if other != BASELINE and numbers[name]
    ]  # fmt: skip
    header = ["arm", "against", "difference", "p (Holm)", "verdict"]
    return table(f"Generated images against the controls, {words(report, name)}", header, rows, names=2)


def pairs(report: StudyReport, part: FractionResult, name: str) -> Table:
    """Return the differences of arms that differ in one thing."""
    rows = [
        [Cell(pair.arm), Cell(pair.against), Cell(pair.changed), *_said(pair.numbers.get(name))] for pair in part.pairs
    ]
    header = ["arm", "against", "what differs", "difference", "p (Holm)", "verdict"]
    return table(f"One thing changed, {words(report, name)}", header, rows, names=3)


def sizes(report: StudyReport, part: FractionResult) -> Table:
    """Return the sensitivity by the size of lesions."""
    iou = next(iter(part.arms[0].froc), "")
    groups = [f"{size.words()} ({counted(size.boxes, 'lesion')})" for size in part.arms[0].sizes]
    rows = [[Cell(arm.arm), *(fixed(size.sensitivity) for size in arm.sizes)] for arm in part.arms]
    title = f"By size of the lesion: sensitivity at 1 FP, IoU {iou}"
    return table(title, ["arm", *groups], rows if groups else [])


def validation(report: StudyReport, part: FractionResult) -> Table:
    """Return what the arms of a generator are chosen by."""
    task = task_named(report.task)
    rows = [[Cell(arm.arm), fixed(arm.validation)] for arm in part.arms if arm.validation is not None]
    return table("On validation", ["arm", words(report, task.chosen_by or task.headline)], rows)


def learning(part: FractionResult) -> Table:
    """Return whether an arm learns faster than real-only, or further."""
    target = best_point(part.arms[0])
    rows = []
    for arm in part.arms:
        best = best_point(arm)
        if best is not None and target is not None:
            reached = steps_to(arm, target.score)
            rows.append([
                Cell(arm.arm), fixed(best.score), Cell(str(best.steps)),
                Cell("never" if reached is None else str(reached)),
            ])  # fmt: skip
    header = ["arm", "best score", "after steps", f"steps to the best of {BASELINE}"]
    notes = [
        "The score by which networks choose their weights, mean over seeds and folds. Fewer steps to the best of "
        f"{BASELINE}: faster; a higher best score: better."
    ]
    return table("Learning curves, on validation", header, rows if len(rows) > 1 else [], notes)


def similarity(part: FractionResult) -> Table:
    """Return how like real images the synthetic ones are."""
    header = [
        "arm, first seed", "features", "images", "KID", "of held-out real images", "coverage", "of held-out",
        "distance to training images, held-out ones 1", "nearer than their nearest 1 %",
    ]  # fmt: skip
    rows = [
        [
            Cell(arm.arm), Cell(own.features), Cell(str(own.images)), fixed(own.kid), fixed(own.kid_of_real),
            fixed(own.coverage, 2), fixed(own.coverage_of_real), fixed(own.memorisation_ratio), fixed(own.suspicious),
        ]
        for arm in part.arms for own in arm.similarity
    ]  # fmt: skip
    notes = [
        "Real images again, and lesions put into real slices, lie on their training images by design. Neither "
        f"likeness nor KID says whether images help. Of each set {MOST} images at most are compared: a copy of a "
        "training image that is not among them is missed."
    ]
    return table("How like real images the synthetic ones are", header, rows, notes, names=2)


def _estimate(report: StudyReport, arm: ArmResult, name: str) -> Cell:
    own, said = arm.table1.get(name), measure_of(task_named(report.task).measures, name)
    return Cell(DASH) if own is None else fixed(own.mean, said.digits, own.interval)


def _said(own: PairedDifference | None, primary: bool = True) -> list[Cell]:
    if own is None:
        return [Cell("")] * 3
    return [own.cell(), probability(own.p_holm), own.said(primary)]
