"""The tables of a study, for its page and the terminal."""

from medaug_cli.metrics.differences import PairedDifference
from medaug_cli.study.analysis import ArmResult, FractionResult, StudyReport, measure_of
from medaug_cli.study.arms import BASELINE
from medaug_cli.study.figures import words
from medaug_cli.tables import DASH, Cell, Table, fixed, probability, table


def table1(report: StudyReport, part: FractionResult) -> Table:
    """Return the arms in the form of the paper's Table 1."""
    names = list(part.arms[0].table1)
    rows = [[Cell(arm.arm), *(_estimate(arm, name) for name in names)] for arm in part.arms]
    return table(
        f"Table 1 of Han et al., detections with a score of at least {100 * report.settings['threshold']:g} %",
        ["arm", *map(words, names)],
        rows,
        ["These are different operating points: read what follows, where false positives are equal."],
    )  # fmt: skip


def compared(part: FractionResult, name: str, seeds: bool = True) -> Table:
    """Return every arm's mean of a number, each seed's where asked for, and the difference to real-only."""
    header = ["arm", "mean", *(["each seed"] if seeds else []), f"difference to {BASELINE}", "p (Holm)", "verdict"]
    rows = []
    for arm in part.arms:
        each = [Cell(", ".join(fixed(values[name]).text for values in arm.seeds.values()))] if seeds else []
        rows.append([Cell(arm.arm), fixed(arm.mean[name]), *each, *_said(arm.against_real_only.get(name))])
    return table(f"{part.patients} patients: {words(name)}", header, rows)


def controls(part: FractionResult, name: str) -> Table:
    """Return the differences of generated arms to the controls."""
    best = part.claim.arm if part.claim else None
    rows = [
        [Cell(arm.arm + (" (best on validation)" if arm.arm == best else "")), Cell(other), *_said(numbers[name])]
        for arm in part.arms if arm.learnt
        for other, numbers in arm.against.items() if other != BASELINE and numbers[name]
    ]  # fmt: skip
    header = ["arm", "against", "difference", "p (Holm)", "verdict"]
    return table(f"Generated images against the controls, {words(name)}", header, rows)


def sizes(report: StudyReport, part: FractionResult) -> Table:
    """Return the sensitivity by the size of lesions, and what arms were chosen by."""
    iou = f"{report.settings['ious'][0]:g}"
    groups = [f"{size.words()} ({size.boxes} lesions)" for size in part.arms[0].sizes]
    rows = [
        [Cell(arm.arm), *(fixed(size.sensitivity) for size in arm.sizes), fixed(arm.validation)] for arm in part.arms
    ]
    header = ["arm", *groups, f"on validation: CPM, IoU {iou}"]
    return table(f"By size of the lesion: sensitivity at 1 FP, IoU {iou}", header, rows if groups else [])


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
        "likeness nor KID says whether images help."
    ]
    return table("How like real images the synthetic ones are", header, rows, notes)


def _estimate(arm: ArmResult, name: str) -> Cell:
    own = arm.table1.get(name)
    return Cell(DASH) if own is None else fixed(own.mean, measure_of(name).digits, own.interval)


def _said(own: PairedDifference | None) -> list[Cell]:
    if own is None:
        return [Cell("")] * 3
    return [own.cell(), probability(own.p_holm), Cell(own.verdict)]
