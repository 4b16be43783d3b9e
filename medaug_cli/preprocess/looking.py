"""A look at a few scans before any is stripped: `--strip auto` is for heads, and many pictures show something else."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from medaug_cli.brain.extraction import best_for_volumes
from medaug_cli.brain.head import head_mask
from medaug_cli.errors import BadInput
from medaug_cli.preprocess.recipe import Recipe
from medaug_cli.preprocess.strip import strip
from medaug_cli.scans.reading import Pixels, Scan, read_pixels

FEW = 8
MOST = 0.75  # of the scans looked at: where so many show no head, nothing is stripped
# of a picture's border that is head at most: none is in 60 MR slices, 0.38 and more in 60 ultrasound pictures
FRAME = 0.25
COARSE = 256  # pixels along the longer side that are enough to see a head
LEAST_HEAD = 60.0  # mm that a volume of a head is wide along some axis
AIR = -500.0  # HU below which there is air; MR has no such numbers
LUNGS = 0.1  # of a body, in air: more than any head's


def shows_head(picture: np.ndarray) -> bool | None:
    """Tell whether a picture (y, x) shows a head with air around it; None for one that shows nothing at all."""
    step = -(-max(picture.shape) // COARSE)
    small = np.nan_to_num(np.asarray(picture[::step, ::step], np.float32), posinf=0, neginf=0)
    if not np.ptp(small):
        return None
    head = head_mask(small)
    border = np.concatenate([head[0], head[-1], head[1:-1, 0], head[1:-1, -1]])
    return bool(head.any() and border.mean() <= FRAME)


def may_show_head(volume: np.ndarray, spacing: Sequence[float] | None) -> bool | None:
    """Tell whether a volume (z, y, x) may show a head: it is as large and, if it is a CT, has no lungs.

    None for a volume that shows nothing at all. `spacing` is mm in numpy axis order.
    """
    from scipy.ndimage import binary_fill_holes

    values = np.nan_to_num(np.asarray(volume[:: max(1, len(volume) // 32), ::2, ::2], np.float32), posinf=0, neginf=0)
    if not np.ptp(values):
        return None
    if spacing is not None and max(np.multiply(volume.shape, spacing)) < LEAST_HEAD:
        return False
    air = values < AIR
    body = np.stack([binary_fill_holes(~each) for each in air])
    return bool((body & air).sum() <= LUNGS * body.sum())


def without_needless_stripping(recipe: Recipe, scans: Sequence[Scan]) -> tuple[Recipe, list[str]]:
    """Return a recipe that strips nothing where `auto` would strip what shows no heads, and the words for it."""
    if recipe.strip != "auto":
        return recipe, []
    what, stripper = ("volume", best_for_volumes()) if scans[0].volume else ("picture", "brain2d")
    if scans[0].volume:
        seen = [may_show_head(pixels.image.mean(0), pixels.spacing) for _, pixels in _few(scans)]
    else:
        seen = [shows_head(pixels.image.mean(0)) for _, pixels in _few(scans)]
    told = [head for head in seen if head is not None]
    others = told.count(False)
    if not told or others < MOST * len(told):
        return recipe, []
    which = f"{others} of {len(told)} {what}s looked at show" if others > 1 else f"the {what} looked at shows"
    said = f"{which} no head: nothing is stripped (--strip none); --strip {stripper} would strip them anyway"
    return replace(recipe, strip="none"), [said]


def doubted_masks(recipe: Recipe, scans: Sequence[Scan]) -> tuple[int, int]:
    """Return how many brain masks of a few pictures are doubtful, and of how many; none of volumes, which take long."""
    if recipe.strip == "none" or scans[0].volume:
        return 0, 0
    trial = replace(recipe, on_fail="crop", keep_masks=None)
    found = [strip(scan, pixels.image, pixels, trial).doubtful for scan, pixels in _few(scans)]
    return sum(found), len(found)


def _few(scans: Sequence[Scan]) -> Iterator[tuple[Scan, Pixels]]:
    """Yield a few scans from the first to the last, and their pixels; not those that are damaged."""
    for k in dict.fromkeys(np.linspace(0, len(scans) - 1, FEW).round().astype(int).tolist()):
        with suppress(BadInput):
            yield scans[k], read_pixels(scans[k])
