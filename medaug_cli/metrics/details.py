"""The further tables of an evaluation: average precision by definition, errors, sizes, slices and patients."""

from medaug_cli.metrics.breakdown import NEAR, Breakdown, Errors
from medaug_cli.metrics.report import Metrics, hit_words
from medaug_cli.tables import Cell, Table, name, significant, table

MOST_KINDS = 6  # named, of the kinds of lesion


def details(metrics: Metrics) -> list[Table]:
    """Return the tables that follow for who wants to know more: average precision, errors, sizes, slices, patients."""
    return [
        each
        for iou in metrics.rows[0].iou
        for each in (_precisions(metrics, iou), _errors(metrics, iou), _sizes(metrics, iou), _slices(metrics, iou))
        if each.rows
    ]


def _precisions(metrics: Metrics, iou: str) -> Table:
    found = [(row.detector, rule, ap) for row in metrics.rows for rule, ap in row.iou[iou].average_precision.items()]
    classes = list(found[0][2].classes)[:MOST_KINDS] if found else []
    rows = [
        [Cell(f"{detector}, {rule}"), significant(ap.mean), *(significant(ap.classes[kind]) for kind in classes)]
        for detector, rule, ap in found
    ]
    notes = (
        "101-point as COCO, 11-point as VOC until 2009, all-point as VOC since 2010 and darknet; no cap on detections.",
    )
    return table(
        f"Average precision, {hit_words(metrics.rule, iou)}", ["detector", "mean", *map(name, classes)], rows, notes
    )


def _broken_down(metrics: Metrics, iou: str) -> list[tuple[str, Breakdown]]:
    pairs = [(row.detector, row.iou[iou].breakdown) for row in metrics.rows]
    return [(detector, found) for detector, found in pairs if found is not None]


def _errors(metrics: Metrics, iou: str) -> Table:
    rows = [
        [detector, *map(str, found.errors.model_dump().values())]
        for detector, found in _broken_down(metrics, iou) if found.errors is not None
    ]  # fmt: skip
    header = ["detector", *(key.replace("_", " ") for key in Errors.model_fields)]
    notes = (
        "Counts at the score of one false positive per slice, each false positive once, after TIDE (Bolya et al. "
        f"2020). Duplicate and wrong class: {hit_words(metrics.rule, iou)} with a lesion of this class, of another "
        f"one; poorly localised: IoU {NEAR:g}; background: less with any. Missed near: missed lesions that such a "
        "false positive touches.",
    )
    return table(f"Errors at one false positive per slice, {hit_words(metrics.rule, iou)}", header, rows, notes)


def _sizes(metrics: Metrics, iou: str) -> Table:
    found = _broken_down(metrics, iou)
    groups = found[0][1].sizes if found else []
    header = ["detector", *(f"{group.words()} ({group.boxes})" for group in groups)]
    rows = [[Cell(detector), *(significant(group.sensitivity) for group in each.sizes)] for detector, each in found]
    notes = ("Size: side of a square (in 3D a cube) as large as the lesion; in brackets the number of lesions.",)
    return table(
        f"Sensitivity by size at one false positive per slice, {hit_words(metrics.rule, iou)}", header, rows, notes
    )


def _slices(metrics: Metrics, iou: str) -> Table:
    header = [
        "detector", "slices: sensitivity", "specificity", "AUC", "patients: mean sensitivity", "wholly found",
        "nothing found", "lesion slices alone: sensitivity at 1 FP", "CPM",
    ]  # fmt: skip
    rows: list[list[Cell | str]] = [
        [
            detector, *map(significant, (found.slice_sensitivity, found.slice_specificity, found.slice_auc)),
            significant(found.patient_sensitivity), f"{found.patients_wholly_found} of {found.patients_with_lesions}",
            f"{found.patients_without_a_find} of {found.patients_with_lesions}",
            significant(found.on_lesion_slices.at_fps["1"]), significant(found.on_lesion_slices.cpm),
        ]
        for detector, found in _broken_down(metrics, iou)
    ]  # fmt: skip
    notes = (
        "At the score of one false positive per slice. A slice with a lesion counts as found where one of its lesions "
        "is, one without where nothing is raised; AUC is of the best score on each slice. The last two columns leave "
        "out the slices without a lesion, and so compare with reports that do.",
    )
    return table(f"Slices and patients, {hit_words(metrics.rule, iou)}", header, rows, notes)
