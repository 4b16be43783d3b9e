"""The tables of an evaluation: the paper's Table 1 first, then what makes detectors comparable."""

from medaug_cli.metrics.coco import NAMES
from medaug_cli.metrics.details import MOST_KINDS, details
from medaug_cli.metrics.detection import DETECTION, PRIMARY
from medaug_cli.metrics.differences import exploratory, of_trainings
from medaug_cli.metrics.matching import RULES
from medaug_cli.metrics.measures import Measure
from medaug_cli.metrics.operating import CPM_FPS, MATCHED_FPS
from medaug_cli.metrics.report import Metrics, Row, hit_words, label
from medaug_cli.tables import DASH, Cell, Table, as_markdown, escaped, fixed, name, probability, significant, table
from medaug_cli.words import counted

PAPER = "Han et al. 2019 (CIKM), Table 1"


def tables(metrics: Metrics) -> list[Table]:
    """Return every table of an evaluation, in the order in which it is to be read."""
    ious = list(metrics.rows[0].iou)
    return [
        _table_1(metrics, ious),
        *(_matched(metrics, iou) for iou in ious),
        *([_differences(metrics, ious)] if len(metrics.rows) > 1 else []),
        *([_coco(metrics)] if metrics.rows[0].coco else []),
    ]


def data_note(metrics: Metrics) -> list[str]:
    """Return the sentences that say what was evaluated, and what follows from that."""
    named = metrics.resampled == "patients"
    unit = "slice" if metrics.split else "image"
    where = f"{', '.join(metrics.data) or 'detections'}" + (f", split {metrics.split}" if metrics.split else "")
    whose = f" of {counted(metrics.patients, 'patient')}" if named else ""
    sentences = [
        f"Data: {where}: {counted(metrics.slices, unit)}{whose}, {counted(metrics.boxes, 'box')} "
        f"({_kinds(metrics)}); {counted(metrics.slices_without_boxes, unit)} "
        f"{'holds' if metrics.slices_without_boxes == 1 else 'hold'} no box.",
    ]
    if not named:
        sentences.append(
            "No image names its patient, so images are resampled: where a patient has several, intervals are too "
            "narrow."
        )
    if metrics.crowds:
        sentences.append(
            f"{counted(metrics.crowds, 'crowd region')}, no single lesions: a detector need not find them, "
            "and detections on them are false positives."
        )
    sentences.append(
        "The paper's own Table 1 is of brain metastases; its figures and these cannot be compared, the rows here can. "
        "For research only."
    )
    remarks = [sentence.rstrip(".") + "." for sentence in metrics.remarks]
    return [*sentences, *remarks, *([metrics.note] if metrics.note else [])]


def _kinds(metrics: Metrics) -> str:
    counts = sorted(((count, name) for name, count in metrics.boxes_by_label.items() if count), reverse=True)
    named = [f"{name} {count}" for count, name in counts[:MOST_KINDS]]
    return (
        ", ".join([*named, *([f"{len(counts) - MOST_KINDS} more kinds"] if len(counts) > MOST_KINDS else [])]) or "none"
    )


def markdown(metrics: Metrics) -> str:
    """Return table.md."""
    parts = ["# Detection results", escaped(" ".join(data_note(metrics)))]
    return "\n\n".join([*parts, *map(as_markdown, [*tables(metrics), *details(metrics)])]) + "\n"


def _table_1(metrics: Metrics, ious: list[str]) -> Table:
    shown = [DETECTION["sensitivity"], DETECTION["fps_per_slice"]]
    header = ["detector", DETECTION["mAP"].words]
    header += [f"{measure.words}, {hit_words(metrics.rule, iou)}" for iou in ious for measure in shown]
    rows = []
    for row in metrics.rows:
        cells = [Cell(row.detector), fixed(row.mAP, 3, row.iou["0.5"].interval["mAP"] if "0.5" in row.iou else None)]
        cells += [
            fixed(getattr(at, measure.name), measure.digits, at.interval[measure.name])
            for at in (row.iou[iou] for iou in ious) for measure in shown
        ]  # fmt: skip
        rows.append(cells)
    notes = (
        f"{_form(metrics)}: all detections with a score of at least {metrics.threshold:g}. {_brackets(metrics)}"
        f"mAP: {metrics.ap_rule}. "
        f"Matching rule: {metrics.rule}. A detection finds {RULES[metrics.rule]}.{_seeds(metrics)}",
        "These are different operating points: a detector that raises more false positives finds more. "
        "Compare detectors by the next tables.",
    )  # fmt: skip
    return table(f"Score at least {metrics.threshold:g} (the form of the paper's Table 1)", header, rows, notes)


def _brackets(metrics: Metrics) -> str:
    """Say what stands in brackets, where anything does."""
    if not any(found for row in metrics.rows for at in row.iou.values() for found in at.interval.values()):
        return ""
    return f"In brackets the 95 % interval of {metrics.resamples:,} resamples of {metrics.resampled}. "


def _form(metrics: Metrics) -> str:
    return f"As {PAPER}" if metrics.rule == "coco" else f"In the form of {PAPER}, but by another rule"


def _seeds(metrics: Metrics) -> str:
    several = [f"{row.detector} of {row.seeds}" for row in metrics.rows if row.seeds > 1]
    if not several:
        return ""
    return f" Means over seeds ({', '.join(several)}); then intervals resample seeds as well as {metrics.resampled}."


def _matched(metrics: Metrics, iou: str) -> Table:
    rates = [label(fps) for fps in MATCHED_FPS]
    header = ["detector", *rates, "CPM"]
    rows, ended = [], []
    for row in metrics.rows:
        at = row.iou[iou]
        cells = [Cell(row.detector)]
        for fps in rates:
            mark = "†" if float(fps) > at.curve_ends_at else ""
            cells.append(fixed(at.at_fps[fps], 3, at.interval[f"sensitivity_at_{fps}"], mark))
        rows.append([*cells, fixed(at.cpm, 3, at.interval["cpm"])])
        if at.curve_ends_at < max(MATCHED_FPS):
            ended.append(f"{row.detector} at {at.curve_ends_at:.2f}")
        rows.append(
            [
                Cell("score behind it" + (" (first seed)" if row.seeds > 1 else "")),
                *(significant(at.thresholds[fps]) for fps in rates),
                Cell(""),
            ]
        )
    notes = [f"CPM: mean sensitivity at {', '.join(label(fps) for fps in CPM_FPS)} false positives per slice."]
    if ended:
        notes.append(f"† The curve ends before that rate ({'; '.join(ended)}); its last sensitivity stands there.")
    return table(
        f"Sensitivity at matched false positives per slice, {hit_words(metrics.rule, iou)}", header, rows, tuple(notes)
    )


def _differences(metrics: Metrics, ious: list[str]) -> Table:
    unit = metrics.resampled[:-1]
    header = ["detector", "measure", "difference", "p", "p (Holm)", "verdict"]
    rows = [
        _compared(row, iou, measure, hit_words(metrics.rule, iou), primary=(iou, measure.name) == (ious[0], PRIMARY))
        for row in metrics.rows[1:]
        for iou in ious
        for measure in sorted((each for each in DETECTION if each.compared), key=lambda each: each.name != "mAP")
    ]
    notes = (
        f"The same {unit}s are resampled for both detectors ({metrics.resamples:,} times); p is two-sided, of as many "
        f"random exchanges of the two {unit} by {unit}; Holm corrects for the number of detectors; a verdict needs "
        "p (Holm) below 0.05 and an interval without 0. "
        + of_trainings([row.seeds for row in metrics.rows], "detector"),
        exploratory(f"{DETECTION[PRIMARY].words}, {hit_words(metrics.rule, ious[0])}"),
    )
    return table(f"Difference to {metrics.rows[0].detector}", header, rows, notes, names=2)


def _compared(row: Row, iou: str, measure: Measure, hit: str, *, primary: bool) -> list[Cell]:
    named = [Cell(row.detector), Cell(f"{measure.words}, {hit}")]
    paired = (row.against_first or {}).get(iou, {}).get(measure.name)
    if paired is None:
        return [*named, *[Cell(DASH)] * 3, Cell("undefined")]
    return [
        *named, paired.cell(measure.digits), probability(paired.p), probability(paired.p_holm), paired.said(primary)
    ]  # fmt: skip


def _coco(metrics: Metrics) -> Table:
    rows = [[Cell(kind), *(fixed((row.coco or [])[i]) for row in metrics.rows)] for i, kind in enumerate(NAMES)]
    notes = (
        "As pycocotools: at most 100 detections an image and class, crowds ignored, -1 where nothing is to be found.",
    )
    return table("COCO's twelve numbers", ["measure", *(name(row.detector) for row in metrics.rows)], rows, notes)
