"""From one file to the slices of a store: strip, denoise, crop, resize, scale, and carry boxes and masks along."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import new_file
from medaug_cli.plugin import Plane
from medaug_cli.scans.annotations import Annotation
from medaug_cli.scans.brain_files import masks_folder, read_brain_mask
from medaug_cli.scans.geometry import Fit, Placement, place
from medaug_cli.scans.grids import resampled_back
from medaug_cli.scans.histograms import Histogram
from medaug_cli.scans.intensity import Denoising, denoise, scale_intensity
from medaug_cli.scans.lesions import Lesions, lesions_of
from medaug_cli.scans.reading import Pixels, Scan, read_pixels
from medaug_cli.scans.report import SliceReport
from medaug_cli.scans.thumbnails import add_pictures
from medaug_cli.store import Record

LEAST_SHARE = 0.3  # of a box's area that must stay in the frame
LEAST_COVER = 0.5  # of a box's area that the brain mask should cover
BLANK = 0.02  # share of a volume's brightness below which a slice is blank

OnFail = Literal["crop", "skip", "error"]


@dataclass(frozen=True)
class Recipe:
    """How every file is treated."""

    size: int = 256
    strip: str = "auto"  # or a folder of brain masks, with a slash in it
    strip_settings: tuple[tuple[str, str], ...] = ()
    spacing: tuple[float, ...] | None = None  # mm in numpy axis order, instead of what the file says
    plane: Plane | None = None  # of a picture
    fit: Fit = "pad"
    margin: float = 0.05
    percentiles: tuple[float, float] = (1.0, 99.9)
    denoising: Denoising = "auto"
    on_fail: OnFail = "crop"
    slices: Literal["all", "lesions"] = "all"
    least_area: int = 10
    label: str | None = None
    channels: int = 1
    bits: int = 8
    with_masks: bool = False
    keep_masks: Path | None = None


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
    stripped = _strip(scan, image, pixels, recipe)
    if stripped.refused:
        return Outcome(reports=[_report(scan, None, stripped, state="skipped")])
    outcome = (_volume if scan.volume else _picture)(scan, image, lesions, stripped, recipe)
    stored = [record.image for record in outcome.records]
    outcome.histograms = {"before": Histogram.of([image]), "after": Histogram.of(stored)} if stored else {}
    add_pictures(outcome.records, outcome.reports, image, stripped.mask, example)
    return outcome


@dataclass(frozen=True)
class _Stripped:
    mask: np.ndarray | None
    name: str = "none"
    doubtful: bool = False
    reason: str = ""
    measures: dict[str, float] = field(default_factory=dict)
    refused: bool = False


def _strip(scan: Scan, image: np.ndarray, pixels: Pixels, recipe: Recipe) -> _Stripped:
    """Extract the brain; where that is doubtful, crop to the head, skip the file or stop, as the recipe says."""
    if recipe.strip == "none":
        return _Stripped(None)
    from medaug_cli.scans.brain import BrainMask, extract_brain

    folder = masks_folder(recipe.strip)
    if folder is not None:
        found = BrainMask(read_brain_mask(folder, scan, image.shape[1:]), "masks")
    else:
        spacing = _spacing(scan, pixels, recipe)
        found = extract_brain(image.mean(0), recipe.strip, spacing, recipe.plane, recipe.strip_settings)
    if recipe.keep_masks is not None and found.mask is not None:
        _keep_mask(scan, found.mask, recipe.keep_masks, pixels)
    measures = {name: round(float(value), 4) for name, value in found.measures.items()}
    if found.doubtful and recipe.on_fail == "error":
        raise BadInput(f"{scan.path}: brain extraction is doubtful ({found.reason}); choose --on-fail crop or skip")
    refused = found.doubtful and recipe.on_fail == "skip"
    return _Stripped(found.mask, found.name, found.doubtful, found.reason, measures, refused)


def _spacing(scan: Scan, pixels: Pixels, recipe: Recipe) -> tuple[float, ...] | None:
    """Return mm in numpy axis order: the recipe's, else the file's, else None."""
    if recipe.spacing is None:
        return pixels.spacing
    if len(recipe.spacing) not in (1, pixels.image.ndim - 1):
        given = ",".join(f"{step:g}" for step in recipe.spacing[::-1])
        raise UsageError(f"--spacing {given}: {scan.relative} has {pixels.image.ndim - 1} axes")
    return recipe.spacing * (pixels.image.ndim - 1) if len(recipe.spacing) == 1 else recipe.spacing


def _keep_mask(scan: Scan, mask: np.ndarray, folder: Path, pixels: Pixels) -> None:
    """Write a brain mask in the geometry of its scan: NIfTI for a volume, PNG for a picture."""
    if pixels.grid is None or pixels.stored is None:
        from PIL import Image

        with new_file(folder / f"{scan.id}.png") as temporary:
            Image.fromarray(mask.astype(np.uint8) * 255).save(temporary, format="PNG")
        return
    import SimpleITK as sitk

    back = resampled_back(mask, pixels.grid, pixels.stored, pixels.stored_shape)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{scan.id}.nii.gz"
    unfinished = folder / f".{scan.id}.tmp.nii.gz"
    sitk.WriteImage(back, str(unfinished))
    unfinished.replace(target)


def with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Return an image (c, *s) with as many channels as wanted: grey repeated, or colours weighed to grey."""
    if len(image) == channels:
        return image
    if channels == 1:
        weights = (0.299, 0.587, 0.114) if len(image) == 3 else np.full(len(image), 1 / len(image))
        return np.tensordot(np.asarray(weights, np.float32), image, 1)[None]
    return np.repeat(image[:1], channels, 0)


def _picture(scan: Scan, image: np.ndarray, lesions: Lesions, stripped: _Stripped, recipe: Recipe) -> Outcome:
    height, width = image.shape[1:]
    placement = place((height, width), stripped.mask, recipe.size, recipe.fit, recipe.margin)
    quiet = np.stack([denoise(channel, recipe.denoising) for channel in image])
    scaled = scale_intensity(quiet, stripped.mask, recipe.percentiles)
    found = lesions.in_slice(None, recipe.least_area)
    record, report = _slice(scan, None, scaled, found, lesions.mask(None), stripped, placement, recipe)
    report.dropped_boxes[:0] = lesions.empty
    return Outcome([record], [report])


def _volume(scan: Scan, image: np.ndarray, lesions: Lesions, stripped: _Stripped, recipe: Recipe) -> Outcome:
    """Treat a volume as one: one crop and one range of grey values for all its slices."""
    outcome = Outcome()
    quiet = np.stack([denoise(channel, recipe.denoising) for channel in image])
    scaled = scale_intensity(quiet, stripped.mask, recipe.percentiles)
    flat = None if stripped.mask is None else np.asarray(stripped.mask.any(0))
    placement = place(image.shape[2:], flat, recipe.size, recipe.fit, recipe.margin)
    for z in range(image.shape[1]):
        found = lesions.in_slice(z, recipe.least_area)
        if not len(found[0]) and (recipe.slices == "lesions" or scaled[:, z].mean() < BLANK):
            state = "blank" if scaled[:, z].mean() < BLANK else "skipped"
            outcome.reports.append(
                _report(scan, z, stripped, state=state, reason="no lesion" if state == "skipped" else "")
            )
            continue
        mask = None if stripped.mask is None else stripped.mask[z]
        own = _Stripped(mask, stripped.name, stripped.doubtful, stripped.reason, stripped.measures)
        record, report = _slice(scan, z, scaled[:, z], found, lesions.mask(z), own, placement, recipe)
        outcome.records.append(record)
        outcome.reports.append(report)
    if outcome.reports:
        outcome.reports[0].dropped_boxes[:0] = lesions.empty
    return outcome


def _slice(
    scan: Scan, z: int | None, scaled: np.ndarray, found: tuple[np.ndarray, list[str]], lesion: np.ndarray | None,
    stripped: _Stripped, placement: Placement, recipe: Recipe,
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
    details: dict[str, Any] = {"file": scan.shown, "placement": placement.details(), "strip": stripped.name}
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


def _report(scan: Scan, z: int | None, stripped: _Stripped, **changes: Any) -> SliceReport:
    said = {
        "id": scan.id if z is None else f"{scan.id}-{z:03d}", "file": scan.shown, "slice": z, "state": "kept",
        "strip": stripped.name, "doubtful": stripped.doubtful, "reason": stripped.reason,
        "measures": dict(stripped.measures),
    }  # fmt: skip
    return SliceReport(**said | {name: value for name, value in changes.items() if value != ""})
