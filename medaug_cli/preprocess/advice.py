"""What a person should know of a store before going on: a fact a line, with the option that mends it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from medaug_cli.forms.annotations import Annotation
from medaug_cli.forms.table import likely_patient_column
from medaug_cli.preprocess.classes import classes_file
from medaug_cli.preprocess.recipe import Recipe
from medaug_cli.preprocess.report import PreprocessReport
from medaug_cli.scans.reading import Pixels, Scan

LINES = 5
ENLARGED = 2  # times as wide as a scan
DOUBTED = 0.2  # share of brain masks from which it is asked whether these are heads
UNSTRIPPED = ("none", "masks", "stripped already")


def of_left_out(scans: Sequence[Scan], annotations: Mapping[str, Annotation], classes_alone: bool) -> list[str]:
    """Say how many scans are left out for lack of a box, mask or class."""
    count = sum(scan.id not in annotations for scan in scans)
    if not count:
        return []
    what = "volume" if scans[0].volume else "picture"
    has, are, them = (f"{count} {what}s have", "are", "them") if count > 1 else (f"1 {what} has", "is", "it")
    if classes_alone:
        return [f"{has} no class and {are} left out; --unannotated keeps {them} for generators only"]
    return [f"{has} no box and {are} left out; --normals keeps {them} as free of lesions"]


def of_unread_masks(masks: int, scans: Path) -> list[str]:
    """Say that masks lie beside the scans, which nobody asked for."""
    if not masks:
        return []
    lie, them = (f"{masks} masks lie", "them") if masks > 1 else ("a mask lies", "it")
    return [f"{lie} beside the scans; --masks {scans} reads {them}"]


def of_width(recipe: Recipe, scan: Scan, pixels: Pixels) -> list[str]:
    """Say where regions are wider than the first scan is."""
    spacing = pixels.spacing
    if not recipe.region_mm or (scan.volume and spacing is None):
        return []
    shape = pixels.image.shape[1:]
    width = min(n * step for n, step in zip(shape, spacing or (1.0,) * len(shape), strict=True))
    if recipe.region_mm <= width:
        return []
    unit = "mm" if spacing is not None else "pixels"
    regions, what = ("cubes", "volumes") if scan.volume else ("squares", "pictures")
    return [
        f"{regions} of {recipe.region_mm:g} {unit} are wider than the {what} ({width:.0f} {unit}), and filled up with "
        f"black; --region-mm {max(1, int(width)):d} fits"
    ]


def of_enlargement(recipe: Recipe, scan: Scan, pixels: Pixels) -> list[str]:
    """Say where images become much larger than the first scan is, which adds no detail."""
    side = max(pixels.image.shape[-2:])
    if recipe.region_mm or recipe.volume is not None or recipe.size < ENLARGED * side:
        return []
    enough = max(16, 1 << (side - 1).bit_length())
    what = "slices" if scan.volume else "pictures"
    return [f"{what} of {side} pixels are enlarged to {recipe.size}, which adds no detail; --size {enough} is enough"]


def of_patients(unknown: int, of: int, boxes: Path | None, classes: str | None, column: str | None) -> list[str]:
    """Say that images are split without regard to patients, and which column might tell them."""
    if not unknown:
        return []
    tables = [path for path in (boxes, classes_file(classes)) if path is not None]
    likely = None if column is not None else next(filter(None, map(likely_patient_column, tables)), None)
    if likely is not None:
        return [f"no patient column: split by image; a column `{likely}` is there: --patient-column {likely}"]
    which = "no patient is known" if unknown == of else f"the patient of {unknown} of {of} scans is not known"
    return [f"{which}: split by image; name patients with --patient-column, or give each a folder"]


def of_masks(doubted: int, masks: int, of_few: bool = False) -> list[str]:
    """Ask whether these are heads, where many brain masks, of all scans or `of_few` alone, are doubtful."""
    if not masks or doubted < DOUBTED * masks:
        return []
    which, are = "brain masks looked at" if of_few else "brain masks", "are" if doubted > 1 else "is"
    return [f"{doubted} of {masks} {which} {are} doubtful; are these heads? If not: --strip none"]


def of_report(report: PreprocessReport) -> list[str]:
    """Say what is known only after every scan was treated."""
    stripped = [each for each in report.slices if each.state == "kept" and each.strip not in UNSTRIPPED]
    return of_masks(sum(each.doubtful for each in stripped), len(stripped))
