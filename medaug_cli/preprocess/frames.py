"""From one file to the slices or cubes of a store: strip, denoise, scale, crop, and carry boxes and masks along."""

from dataclasses import asdict
from typing import Any

import numpy as np

from medaug_cli.errors import BadInput
from medaug_cli.forms.annotations import Annotation
from medaug_cli.forms.lesions import Lesions, lesions_of
from medaug_cli.preprocess.cubes import cubes
from medaug_cli.preprocess.histograms import Histogram
from medaug_cli.preprocess.recipe import Recipe
from medaug_cli.preprocess.records import LEAST_COVER, Outcome, carried, cover, doubt_cover, record_of, report_of
from medaug_cli.preprocess.report import SliceReport
from medaug_cli.preprocess.stripping import Stripped, spacing_of, strip, without_stripping
from medaug_cli.preprocess.thumbnails import add_pictures
from medaug_cli.scans.intensity import bias_field, chosen_denoising, denoise, windowed, windows
from medaug_cli.scans.placement import Placement, place
from medaug_cli.scans.reading import Scan, read_pixels
from medaug_cli.store import Record

BLANK = 0.02  # share of a volume's brightness below which a slice is blank


def process(scan: Scan, annotation: Annotation, recipe: Recipe, example: bool = False) -> Outcome:
    """Return the slices, or cubes, of one file: doubtful ones with a picture, and one as an example where asked for.

    Raises BadInput if the file cannot be read or does not fit its annotation.
    """
    pixels = read_pixels(scan)
    image = with_channels(pixels.image, recipe.channels)
    lesions = lesions_of(scan, annotation, pixels)
    stripped = strip(scan, image, pixels, recipe)
    if not scan.volume:
        stripped = _doubted_by_lesions(scan, stripped, image, lesions.in_slice(None, recipe.least_area)[0])
    if stripped.refused:
        return Outcome(reports=[report_of(scan, stripped, state="skipped")])
    spacing = spacing_of(scan, pixels, recipe)
    scaled, steps = _treated(image, stripped.mask, spacing, recipe)
    if pixels.grid is not None and pixels.stored is not None:
        steps |= {"grid": asdict(pixels.grid), "stored": asdict(pixels.stored)}
    if recipe.region_mm and spacing is not None:
        outcome = cubes(scan, scaled, lesions, stripped, recipe, steps, spacing)
    else:
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
    least = min(cover(box, stripped.mask) for box in boxes)
    if least >= LEAST_COVER:
        return stripped
    reason = f"the brain mask covers {least:.0%} of a lesion"
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
            left_out = report_of(scan, stripped, z, slice=z, state=state, doubtful=False)
            left_out.reason = "no lesion" if state == "skipped" else ""
            outcome.reports.append(left_out)
            continue
        own = stripped.in_slice(z)
        if own.refused:
            outcome.reports.append(report_of(scan, own, z, slice=z, state="skipped"))
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
    report, (boxes, labels) = report_of(scan, stripped, z, slice=z), found
    shares, kept = carried(boxes, placement)
    report.dropped_boxes += [
        f"box {box.tolist()}: {share:.0%} of it is left in the frame"
        for box, share in zip(boxes[~kept], shares[~kept], strict=True)
    ]
    doubt_cover(report, boxes, stripped.mask)
    names = [label for label, ok in zip(labels, kept, strict=True) if ok]
    more = steps if z is None else steps | {"slice": z}
    return record_of(report, scaled, boxes[kept], names, lesion, placement, recipe, more), report


__all__ = ["Outcome", "Recipe", "process", "with_channels"]
