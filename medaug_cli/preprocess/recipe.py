"""How every file of a run is treated."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medaug_cli.errors import UsageError
from medaug_cli.plugin import Plane
from medaug_cli.scans.intensity import Denoising
from medaug_cli.scans.placement import Fit

OnFail = Literal["crop", "skip", "error"]


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
    keep_masks: Path | None = None
    region_mm: float = 0.0  # width of a cube of `size` voxels around each lesion; 0: slices


def check_recipe(recipe: Recipe) -> None:
    """Raise UsageError where a size or a combination makes no sense."""
    option, example = ("--regions", "16, 32 or 64") if recipe.region_mm else ("--size", "64, 128 or 256")
    if recipe.size < 16 or recipe.size & (recipe.size - 1):
        raise UsageError(f"{option} {recipe.size}: a power of two from 16 on is wanted, such as {example}")
    if recipe.region_mm and (recipe.fit != "pad" or recipe.slices != "all"):
        raise UsageError("--fit and --slices are about slices; with --regions there is a cube for each lesion")
