"""How every file of a run is treated."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medaug_cli.errors import UsageError
from medaug_cli.plugin import Plane
from medaug_cli.scans.intensity import Denoising
from medaug_cli.scans.placement import Fit

OnFail = Literal["crop", "skip", "error"]
LEAST_SIDE = 8  # voxels of a whole volume


@dataclass(frozen=True)
class Recipe:
    """How every file is treated."""

    size: int = 256  # pixels along each side
    strip: str = "auto"  # or a folder of brain masks, with a slash in it
    strip_settings: tuple[tuple[str, str], ...] = ()
    spacing: tuple[float, ...] | None = None  # mm in numpy axis order, instead of what the file says
    plane: Plane | None = None  # of a picture
    fit: Fit = "pad"
    margin: float = 0.05
    percentiles: tuple[float, float] = (1.0, 99.9)
    denoising: Denoising = "auto"
    bias: Literal["none", "n4"] = "none"
    on_fail: OnFail = "crop"
    slices: Literal["all", "lesions"] = "all"
    least_area: int = 10
    label: str | None = None
    channels: int = 1
    bits: int = 8
    with_masks: bool = False
    mask_names: tuple[str, ...] = ()  # of the values 1, 2, ... of stored masks, where they mark several things
    keep_masks: Path | None = None
    region_mm: float = 0.0  # width of a square or cube of `size` pixels around each lesion; 0: no regions
    normal_regions: float = 0.0  # regions without a lesion for each with one
    volume: tuple[int, int, int] | None = None  # voxels (z, y, x) of whole volumes; None: slices
    volume_mm: float | None = None  # width of their voxels; None: what makes the largest extent fit
    window: tuple[float, float] | None = None  # grey values that become 0 and 1, instead of percentiles
    seed: int = 0  # of where regions without a lesion are taken
    preset: str | None = None  # the modality whose options these are, where they were not given


def check_recipe(recipe: Recipe) -> None:
    """Raise UsageError where a size or a combination makes no sense."""
    if recipe.window is not None and not recipe.window[0] < recipe.window[1]:
        low, high = recipe.window
        raise UsageError(f"--window {low:g},{high:g}: expected a lower and a higher grey value, such as -1000,400")
    if recipe.volume is not None:
        _check_volumes(recipe)
        return
    option, example = ("--regions", "16, 32 or 64") if recipe.region_mm else ("--size", "64, 128 or 256")
    if recipe.size < 16 or recipe.size & (recipe.size - 1):
        raise UsageError(f"{option} {recipe.size}: expected a power of two, 16 or more, such as {example}")
    if recipe.region_mm and (recipe.fit != "pad" or recipe.slices != "all"):
        raise UsageError("--fit and --slices are for whole slices; leave them out with --regions")


def _check_volumes(recipe: Recipe) -> None:
    sides = recipe.volume or ()
    if len(sides) != 3 or min(sides) < LEAST_SIDE:
        given = ",".join(map(str, sides))
        raise UsageError(
            f"--volumes {given}: expected DEPTH,HEIGHT,WIDTH in voxels, {LEAST_SIDE} or more each, such as 64,96,96"
        )
    if recipe.region_mm:
        raise UsageError("--volumes and --regions exclude each other; give one of them")
    if recipe.slices != "all":
        raise UsageError("--slices chooses slices; leave it out with --volumes")
    if recipe.volume_mm is not None and recipe.fit != "pad":
        raise UsageError("--volume-mm needs cubic voxels, which --fit stretch does not keep")
