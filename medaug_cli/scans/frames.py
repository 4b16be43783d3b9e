"""From one file to the slices of a store: strip, denoise, crop, resize, scale, and carry boxes and masks along."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from medaug_cli.errors import BadInput
from medaug_cli.scans.annotations import Annotation
from medaug_cli.scans.geometry import Placement, place
from medaug_cli.scans.histograms import Histogram
from medaug_cli.scans.intensity import bias_field, chosen_denoising, denoise, windowed, windows
from medaug_cli.scans.lesions import Lesions, lesions_of
from medaug_cli.scans.reading import Scan, read_pixels
from medaug_cli.scans.recipe import Recipe
from medaug_cli.scans.report import SliceReport
from medaug_cli.scans.stripping import Stripped, spacing_of, strip, without_stripping
from medaug_cli.scans.thumbnails import add_pictures
from medaug_cli.store import Record

LEAST_SHARE = 0.3  # of a box's area that must stay in the frame
LEAST_COVER = 0.5  # of a box's area that the brain mask should cover
BLANK = 0.02  # share of a volume's brightness below which a slice is blank


@dataclass
class Outcome:
    """What one file became: records without patient and split, and a report a slice."""

    records: list[Record] = field(default_factory=list)
    reports: list[SliceReport] = field(default_factory=list)
    histograms: dict[str, Histogram] = field(default_factory=dict)  # before and after


def process(scan: Scan, annotation: Annotation, recipe: Recipe, example: bool = False) -> Outcome:
    """Return the slices of one file, doubtful ones with a picture, and one as an example where that is asked for.

    Raises BadInput if the file cannot be read or does not fit its annotation.
    """
    pixels = read_pixels(scan)
    image = with_channels(pixels.image, recipe.channels)
    lesions = lesions_of(scan, annotation, pixels)
    stripped = strip(scan, image, pixels, recipe)
    if not scan.volume:
        stripped = _doubted_by_lesions(scan, stripped, image, lesions.in_slice(None, recipe.least_area)[0])
    if stripped.refused:
        return Outcome(reports=[_report(scan, None, stripped, state="skipped")])
    scaled, steps = _treated(image, stripped.mask, spacing_of(scan, pixels, recipe), recipe)
    if pixels.grid is not None and pixels.stored is not None:
        steps |= {"grid": asdict(pixels.grid), "stored": asdict(pixels.stored)}
    outcome = (_volume if scan.volume else _picture)(scan, scaled, lesions, stripped, recipe, steps)
    stored = [record.image for record in outcome.records]
    outcome.histograms = {"before": Histogram.of([image]), "after": Histogram.of(stored)} if stored else {}
    add_pictures(outcome.records, outcome.reports, image, stripped.mask, example)
    return outcome


def with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Return an image (c, *s) with as many channels as wanted: grey repeated, or colours weighed to grey."""
    if len(image) == channels:
        return image
    if channels == 1:
        weights = (0.299, 0.587, 0.114) if len(image) == 3 else np.full(len(image), 1 / len(image))
        return np.tensordot(np.asarray(weights, np.float32), image, 1)[None]
    return np.repeat(image[:1], channels, 0)


def _treated(
    image: np.ndarray, mask: np.ndarray | None, spacing: tuple[float, ...] | None, recipe: Recipe
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return an image (c, *s) denoised, its coil's field evened out, and scaled; and what was done, for the record."""
    method = chosen_denoising(image.mean(0), recipe.denoising)
    quiet = np.stack([denoise(channel, method) for channel in image])
    if recipe.bias == "n4":
        lit = quiet.mean(0) > quiet.min() if mask is None else mask
        quiet = quiet / bias_field(quiet.mean(0), lit, spacing)
    found = windows(quiet, mask, recipe.percentiles)
    steps = {"denoising": method, "bias_field": recipe.bias, "windows": [list(w) if w else None for w in found]}
    return windowed(quiet, mask, found), steps


def _doubted_by_lesions(scan: Scan, stripped: Stripped, image: np.ndarray, boxes: np.ndarray) -> Stripped:
    """Return a slice with its head for a brain mask that leaves a lesion out: a box may doubt it, never mend it."""
    if stripped.mask is None or stripped.doubtful or not len(boxes):
        return stripped
    cover = min(_cover(box, stripped.mask) for box in boxes)
    if cover >= LEAST_COVER:
        return stripped
    reason = f"the brain mask covers {cover:.0%} of a lesion"
    if stripped.on_fail == "error":
        raise BadInput(f"{scan.path}: brain extraction is doubtful ({reason}); choose --on-fail crop or skip")
    return without_stripping(stripped, image, reason)


def _picture(
    scan: Scan, scaled: np.ndarray, lesions: Lesions, stripped: Stripped, recipe: Recipe, steps: dict[str, Any]
) -> Outcome:
    height, width = scaled.shape[1:]
    placement = place((height, width), stripped.mask, recipe.size, recipe.fit, recipe.margin)
    found = lesions.in_slice(None, recipe.least_area)
    record, report = _slice(scan, None, scaled, found, lesions.mask(None), stripped, placement, recipe, steps)
    report.dropped_boxes[:0] = lesions.empty
    return Outcome([record], [report])


def _volume(
    scan: Scan, scaled: np.ndarray, lesions: Lesions, stripped: Stripped, recipe: Recipe, steps: dict[str, Any]
) -> Outcome:
    """Treat a volume as one: one crop and one range of grey values for all its slices."""
    outcome = Outcome()
    flat = None if stripped.mask is None else np.asarray(stripped.mask.any(0))
    placement = place(scaled.shape[2:], flat, recipe.size, recipe.fit, recipe.margin)
    for z in range(scaled.shape[1]):
        found = lesions.in_slice(z, recipe.least_area)
        if not len(found[0]) and (recipe.slices == "lesions" or scaled[:, z].mean() < BLANK):
            state = "blank" if scaled[:, z].mean() < BLANK else "skipped"
            left_out = _report(scan, z, stripped, state=state, doubtful=False)
            left_out.reason = "no lesion" if state == "skipped" else ""
            outcome.reports.append(left_out)
            continue
        own = stripped.in_slice(z)
        if own.refused:
            outcome.reports.append(_report(scan, z, own, state="skipped"))
            continue
        record, report = _slice(scan, z, scaled[:, z], found, lesions.mask(z), own, placement, recipe, steps)
        outcome.records.append(record)
        outcome.reports.append(report)
    if outcome.reports:
        outcome.reports[0].dropped_boxes[:0] = lesions.empty
    return outcome


def _slice(
    scan: Scan, z: int | None, scaled: np.ndarray, found: tuple[np.ndarray, list[str]], lesion: np.ndarray | None,
    stripped: Stripped, placement: Placement, recipe: Recipe, steps: dict[str, Any],
) -> tuple[Record, SliceReport]:  # fmt: skip
    report = _report(scan, z, stripped)
    boxes, labels = found
    moved, kept = _carried(boxes, placement, report)
    if stripped.mask is not None and len(boxes):
        cover = min(_cover(box, stripped.mask) for box in boxes)
        report.measures["lesion_cover"] = round(cover, 4)
        if cover < LEAST_COVER:
            report.doubtful = True
            report.reason = (
                f"{report.reason}; " * bool(report.reason) + f"the brain mask covers {cover:.0%} of a lesion"
            )
    names = [recipe.label or label for label, ok in zip(labels, kept, strict=True) if ok]
    report.boxes = len(names)
    sides = moved[kept][:, 2:] - moved[kept][:, :2]
    report.box_sizes = [(round(float(w), 1), round(float(h), 1)) for w, h in sides]
    image = np.clip(placement.apply(scaled, "linear"), 0, 1)
    kind: Any = np.uint16 if recipe.bits == 16 else np.uint8
    mask = None
    if recipe.with_masks:
        full = np.zeros(scaled.shape[1:], bool) if lesion is None else lesion
        mask = (placement.apply(full[None].astype(np.float32), "area")[0] >= 0.5).astype(np.uint8)
    details: dict[str, Any] = {"file": scan.shown, "placement": placement.details(), "strip": stripped.name, **steps}
    if z is not None:
        details["slice"] = z
    record = Record(
        id=report.id, image=np.rint(image * np.iinfo(kind).max).astype(kind), boxes=moved[kept], labels=names,
        patient="", split="", mask=mask, details=details,
    )  # fmt: skip
    return record, report


def _carried(boxes: np.ndarray, placement: Placement, report: SliceReport) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes in the frame and which of them are kept; the others are listed."""
    whole, cut = placement.boxes(boxes, clip=False), placement.boxes(boxes)
    sides = cut[:, 2:] - cut[:, :2]
    share = sides.prod(1) / np.maximum((whole[:, 2:] - whole[:, :2]).prod(1), 1e-12)
    kept = (share >= LEAST_SHARE) & (sides.min(1, initial=np.inf) > 0)
    report.dropped_boxes += [
        f"box {box.tolist()}: {part:.0%} of it is left in the frame"
        for box, part in zip(boxes[~kept], share[~kept], strict=True)
    ]
    return cut, kept


def _cover(box: np.ndarray, mask: np.ndarray) -> float:
    x_min, y_min, x_max, y_max = (int(v) for v in (*np.floor(box[:2]), *np.ceil(box[2:])))
    part = mask[y_min:y_max, x_min:x_max]
    return float(part.mean()) if part.size else 0.0


def _report(scan: Scan, z: int | None, stripped: Stripped, **changes: Any) -> SliceReport:
    said = {
        "id": scan.id if z is None else f"{scan.id}-{z:03d}", "file": scan.shown, "slice": z, "state": "kept",
        "strip": stripped.name, "doubtful": stripped.doubtful, "reason": stripped.reason,
        "measures": dict(stripped.measures),
    }  # fmt: skip
    return SliceReport(**said | {name: value for name, value in changes.items() if value != ""})
