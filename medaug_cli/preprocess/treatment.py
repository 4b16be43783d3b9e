"""From one file to the images of a store: strip, denoise, scale, crop, and carry boxes and masks along."""

from collections.abc import Callable
from dataclasses import asdict

import numpy as np

from medaug_cli.errors import BadInput
from medaug_cli.forms.annotations import Annotation
from medaug_cli.forms.lesions import Lesions, lesions_of
from medaug_cli.preprocess.histograms import Histogram
from medaug_cli.preprocess.recipe import Recipe
from medaug_cli.preprocess.records import LEAST_COVER, LEFT_OUT, Outcome, Treated, cover, report_of, too_small
from medaug_cli.preprocess.regions import regions
from medaug_cli.preprocess.report import SliceReport
from medaug_cli.preprocess.scale import scale, with_channels
from medaug_cli.preprocess.slices import picture, slices, whole_volume
from medaug_cli.preprocess.strip import Stripped, strip, without_stripping
from medaug_cli.preprocess.thumbnails import add_pictures
from medaug_cli.scans.reading import Scan, read_pixels
from medaug_cli.words import percent

GREYED = "its colours are stored as grey values, since the first scan has none"


def treat(
    scan: Scan, annotation: Annotation, recipe: Recipe, *, annotated: bool = True, example: bool = False
) -> Outcome:
    """Return the slices, regions or volume of one file: doubtful ones with a picture, and an example if asked.

    Raises BadInput if the file cannot be read or does not fit its annotation.
    """
    pixels = read_pixels(scan)
    image = with_channels(pixels.image, recipe.channels)
    lesions = lesions_of(scan, annotation, pixels, recipe.least_area)
    spacing = pixels.spacing
    stripped = strip(scan, image, pixels, recipe)
    if not scan.volume:
        stripped = _doubted_by_lesions(scan, stripped, image, spacing, lesions.in_slice(None, recipe.least_area)[0])
    notes = [*pixels.notes, *lesions.fitted, *stripped.notes, *_given_up(len(pixels.image), len(image))]
    if stripped.refused:
        return Outcome(reports=[_left_out(scan, recipe, lesions=lesions, stripped=stripped, notes=notes)])
    scaled, steps = scale(image, stripped.mask, recipe, spacing)
    if pixels.grid is not None and pixels.stored is not None:
        steps |= {"grid": asdict(pixels.grid), "stored": asdict(pixels.stored)}
        steps |= {"stored_shape": list(pixels.stored_shape)}
    treated = Treated(
        scan,
        recipe,
        image=scaled,
        lesions=lesions,
        stripped=stripped,
        spacing=spacing,
        steps=steps,
        annotated=annotated,
    )
    outcome = _cutter(scan, recipe)(treated)
    stored = [record.image for record in outcome.records]
    outcome.histograms = {"before": Histogram.of([image]), "after": Histogram.of(stored)} if stored else {}
    outcome.reports[0].notes[:0] = notes
    add_pictures(outcome.records, outcome.reports, image, stripped.mask, example)
    return outcome


def _given_up(channels: int, kept: int) -> list[str]:
    """Say what becomes of channels that are not stored."""
    if channels <= kept:
        return []
    if channels == 3:
        return [GREYED]
    return [f"its {channels} channels are averaged" if kept == 1 else f"of its {channels} channels one is stored"]


def _left_out(scan: Scan, recipe: Recipe, *, lesions: Lesions, stripped: Stripped, notes: list[str]) -> SliceReport:
    """Return the report of a scan that is left out: every lesion of it is dropped."""
    unit = "voxels" if scan.volume else "pixels"
    small = too_small(lesions.too_small(None, recipe.least_area), recipe.least_area, unit)
    whole = [f"{LEFT_OUT} (box {box.tolist()})" for box in lesions.whole(recipe.least_area)[0]]
    dropped = [*lesions.dropped, *small, *whole]
    return report_of(scan, stripped, state="skipped", notes=notes, dropped_boxes=dropped, repaired=lesions.repaired)


def _cutter(scan: Scan, recipe: Recipe) -> Callable[[Treated], Outcome]:
    """Return what makes images of a scan."""
    if recipe.region_mm:
        return regions
    if not scan.volume:
        return picture
    return slices if recipe.volume is None else whole_volume


def _doubted_by_lesions(
    scan: Scan, stripped: Stripped, image: np.ndarray, spacing: tuple[float, ...] | None, boxes: np.ndarray
) -> Stripped:
    """Return a slice with its head for a brain mask that leaves a lesion out: a box may doubt it, never mend it."""
    if stripped.mask is None or stripped.doubtful or not len(boxes):
        return stripped
    least = min(cover(box, stripped.mask) for box in boxes)
    if least >= LEAST_COVER:
        return stripped
    reason = f"the brain mask covers {percent(least)} of a lesion"
    if stripped.on_fail == "error":
        raise BadInput(f"{scan.path}: brain extraction is doubtful ({reason}); choose --on-fail crop or skip")
    return without_stripping(stripped, image, spacing, reason)
