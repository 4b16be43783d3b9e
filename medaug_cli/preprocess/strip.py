"""Brain extraction of one scan as a recipe asks for it: by a stripper or by given masks, kept, and doubted by slice."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from medaug_cli.brain.extraction import BrainMask, extract_brain, head_to_keep
from medaug_cli.brain.files import masks_folder, read_brain_mask
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import new_file
from medaug_cli.preprocess.recipe import Recipe
from medaug_cli.results import refuse_inside
from medaug_cli.scans.grids import resampled_back
from medaug_cli.scans.reading import Pixels, Scan
from medaug_cli.scans.writing import write_volume


@dataclass(frozen=True)
class Stripped:
    """What is kept of a scan (*s), and how far to believe it; `refused` scans are left out."""

    mask: np.ndarray | None
    name: str = "none"
    doubtful: bool = False
    reason: str = ""
    measures: Mapping[str, float] = field(default_factory=dict)
    refused: bool = False
    doubts: Mapping[int, str] = field(default_factory=dict)  # of a volume stripped slice by slice: slice -> reason
    on_fail: str = "crop"
    notes: tuple[str, ...] = ()  # in words, how a given mask came onto the grid of its scan

    def in_slice(self, z: int) -> "Stripped":
        """Return the slice z of a volume: with a doubt of its own where every slice was judged by itself."""
        return replace(self.in_slices([z]), mask=None if self.mask is None else self.mask[z])

    def in_slices(self, chosen: Iterable[int]) -> "Stripped":
        """Return a volume with the first doubt about some of its slices, where every slice was judged by itself."""
        if not self.doubts:
            return self
        reason = next((self.doubts[z] for z in chosen if z in self.doubts), "")
        return replace(self, doubtful=bool(reason), reason=reason, refused=bool(reason) and self.on_fail == "skip")


def strip(scan: Scan, image: np.ndarray, pixels: Pixels, recipe: Recipe) -> Stripped:
    """Extract the brain; where that is doubtful, keep the head, leave the scan out or stop, as the recipe says."""
    if recipe.strip == "none":
        return Stripped(None)
    folder, notes = masks_folder(recipe.strip), tuple[str, ...]()
    if folder is not None:
        mask, notes = read_brain_mask(folder, scan, pixels)
        found = BrainMask(mask, "masks") if mask.any() else _without_brain(image, pixels.spacing)
    else:
        found = _extracted(scan, image, recipe, pixels.spacing)
    if recipe.keep_masks is not None and found.mask is not None:
        _keep_mask(scan, found.mask, recipe.keep_masks, pixels)
    measures = {name: round(float(value), 4) for name, value in found.measures.items()}
    if found.doubtful and recipe.on_fail == "error":
        raise BadInput(f"{scan.path}: brain extraction is doubtful ({found.reason}); choose --on-fail crop or skip")
    whole = not found.doubts or recipe.volume is not None  # else doubtful slices are left out one by one
    refused = found.doubtful and whole and recipe.on_fail == "skip"
    return Stripped(
        found.mask,
        found.name,
        doubtful=found.doubtful,
        reason=found.reason,
        measures=measures,
        refused=refused,
        doubts=found.doubts,
        on_fail=recipe.on_fail,
        notes=notes,
    )


def _without_brain(image: np.ndarray, spacing: tuple[float, ...] | None) -> BrainMask:
    """Return the head of a scan (c, *s) whose given brain mask is empty; all of the scan where there is no head."""
    return BrainMask(head_to_keep(image.mean(0), spacing), "masks", True, "its brain mask marks nothing")


def _extracted(scan: Scan, image: np.ndarray, recipe: Recipe, spacing: tuple[float, ...] | None) -> BrainMask:
    """Return what a stripper makes of a scan (c, *s); raise BadInput, with the scan's name, where it fails."""
    try:
        return extract_brain(image.mean(0), recipe.strip, spacing, recipe.plane, recipe.strip_settings)
    except BadInput as error:
        raise BadInput(f"{scan.path}: {error}") from error


def check_kept_masks(folder: Path, scans: Iterable[Scan], reads: Iterable[Path], again: bool) -> None:
    """Raise UsageError where brain masks would be written among what is read, or, unless `again`, over other files."""
    for path in reads:
        refuse_inside("--keep-masks", folder, path)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--keep-masks {folder} is a file; name a folder")
    files = (folder / f"{scan.id}{ending}" for scan in scans for ending in (".nii.gz", ".png"))
    there = None if again else next((file for file in files if file.exists()), None)
    if there is not None:
        raise UsageError(f"{there} exists; choose another folder for --keep-masks, or replace it with --overwrite")


def without_stripping(
    stripped: Stripped, image: np.ndarray, spacing: tuple[float, ...] | None, reason: str
) -> Stripped:
    """Return a slice (c, h, w) whose brain mask cannot be right with its head instead, or refused."""
    head = head_to_keep(image.mean(0), spacing)
    return replace(stripped, mask=head, doubtful=True, reason=reason, refused=stripped.on_fail == "skip")


def _keep_mask(scan: Scan, mask: np.ndarray, folder: Path, pixels: Pixels) -> None:
    """Write a brain mask in the geometry of its scan: NIfTI for a volume, PNG for a picture."""
    if pixels.grid is None or pixels.stored is None:
        from PIL import Image

        with new_file(folder / f"{scan.id}.png") as temporary:
            Image.fromarray(mask.astype(np.uint8) * 255).save(temporary, format="PNG")
        return
    back = resampled_back(mask, pixels.grid, pixels.stored, pixels.stored_shape)
    write_volume(back, folder / f"{scan.id}.nii.gz")
