"""Brain extraction: which strippers there are, which one suits an image, and whether to believe the mask.

A stripper takes an image (y, x) or (z, y, x) and its spacing in mm, or None, and returns a mask of that shape.
Third parties add one by an entry point of the group `medaug.strippers`. A mask that cannot be right is never
used: the head's mask stands in for it, and the result says why.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points

import numpy as np

from medaug_cli.errors import BadInput, MissingPlugin, UsageError
from medaug_cli.scans.brain_head import head_mask
from medaug_cli.scans.brain_judgement import is_stripped, judge

GROUP = "medaug.strippers"
BUILT_IN = ("auto", "none", "brain2d", "brain3d")
THICK = 3.5  # mm between slices from which a volume is stripped slice by slice
SHALLOW = 80.0  # mm of extent below which a volume is a stack of slices

Stripper = Callable[[np.ndarray, Sequence[float] | None], np.ndarray]


@dataclass(frozen=True)
class BrainMask:
    """What to keep of an image: a mask (*s), or None for all of it; `doubtful` masks come with the reason."""

    mask: np.ndarray | None
    name: str
    doubtful: bool = False
    reason: str = ""
    measures: dict[str, float] = field(default_factory=dict)


def strippers() -> list[str]:
    """Return the names that `extract_brain` takes, importing none of them."""
    return [*BUILT_IN, *sorted({entry.name for entry in entry_points(group=GROUP)} - set(BUILT_IN))]


def extract_brain(image: np.ndarray, strip: str, spacing: Sequence[float] | None = None) -> BrainMask:
    """Return the brain of an image (y, x) or (z, y, x), of its head where the brain's mask is implausible.

    `auto` leaves an image alone that is stripped already, and else takes `brain2d` for a slice and `brain3d`
    for a volume; a volume of thick slices is stripped slice by slice. Raises MissingPlugin for a stripper that
    is not installed or does not load, and BadInput for a third party's mask that does not fit.
    """
    if image.ndim not in (2, 3):
        raise UsageError(f"a brain is extracted from a slice or a volume, not from an array of shape {image.shape}")
    if spacing is not None and (len(spacing) != image.ndim or min(spacing) <= 0):
        raise UsageError(f"spacing {tuple(spacing)} does not fit an image of shape {image.shape}")
    if strip == "none":
        return BrainMask(None, "none")
    image = np.nan_to_num(np.asarray(image, np.float32), posinf=0, neginf=0)
    if strip == "auto":
        if is_stripped(image, spacing):
            return BrainMask(_content(image), "stripped already")
        strip = "brain2d" if image.ndim == 2 else "brain3d"
    if strip in BUILT_IN:
        return _by_built_in(image, strip, spacing)
    return _judged(image, _by_third_party(image, strip, spacing), strip, {}, spacing)


def _content(image: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    return ndimage.binary_fill_holes(image > image.min())


def _by_built_in(image: np.ndarray, strip: str, spacing: Sequence[float] | None) -> BrainMask:
    if image.ndim == 2 and strip == "brain3d":
        raise UsageError("brain3d needs a volume; the choices for a slice are auto, none and brain2d")
    if image.ndim == 2:
        from medaug_cli.scans.brain2d import brain2d

        found = brain2d(image, spacing)
        return _judged(image, found.mask, strip, found.measures, spacing)
    if strip == "brain2d" or _is_stack(image, spacing):
        return _slice_by_slice(image, spacing)
    from medaug_cli.scans.brain3d import brain3d

    volume = brain3d(image, spacing or (1.0, 1.0, 1.0))
    return _judged(image, volume.mask, strip, volume.measures, spacing)


def _is_stack(image: np.ndarray, spacing: Sequence[float] | None) -> bool:
    step = spacing or (1.0, 1.0, 1.0)
    return max(step) > THICK or min(n * s for n, s in zip(image.shape, step, strict=True)) < SHALLOW


def _slice_by_slice(image: np.ndarray, spacing: Sequence[float] | None) -> BrainMask:
    """Return the masks of a volume's slices in one; a doubtful slice keeps its head and makes the whole doubtful."""
    from medaug_cli.scans.brain2d import brain2d

    step = spacing[1:] if spacing is not None else None
    faint, results = 0.05 * float(np.percentile(image, 99.5)), []
    for plane in image:
        if np.percentile(plane, 99) <= faint:  # padding
            results.append(BrainMask(np.zeros(plane.shape, bool), "brain2d"))
            continue
        found = brain2d(plane, step)
        results.append(_judged(plane, found.mask, "brain2d", found.measures, step))
    masks = [result.mask for result in results if result.mask is not None]
    doubts = [f"slice {number}: {result.reason}" for number, result in enumerate(results) if result.doubtful]
    agreements = [result.measures["agreement"] for result in results if "agreement" in result.measures]
    measures = {
        "agreement": float(np.median(agreements)) if agreements else 0.0,
        "doubtful_slices": float(len(doubts)),
        "slices": float(len(agreements)),
    }
    reason = f"{len(doubts)} of {len(agreements)} slices keep their head ({doubts[0]})" if doubts else ""
    return BrainMask(np.stack(masks), "brain2d", bool(doubts) or not agreements, reason, measures)


def _judged(
    image: np.ndarray, mask: np.ndarray, name: str, measures: dict[str, float], spacing: Sequence[float] | None
) -> BrainMask:
    """Return the mask if it is plausible, else the head's; the whole image where not even a head is found."""
    head = head_mask(image, spacing)
    reason, more = judge(mask, head, measures, spacing)
    if not reason:
        return BrainMask(mask, name, measures=more)
    return BrainMask(head if head.any() else None, name, True, reason, more)


def _by_third_party(image: np.ndarray, name: str, spacing: Sequence[float] | None) -> np.ndarray:
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in found:
        raise MissingPlugin(f"no stripper {name!r} is installed; the choices are {', '.join(strippers())}")
    try:
        mask = np.asarray(_load(found[name])(image, tuple(spacing) if spacing is not None else None))
    except MissingPlugin:
        raise
    except Exception as error:
        raise BadInput(f"the stripper {name!r} failed ({type(error).__name__}: {error})") from error
    if mask.shape != image.shape:
        raise BadInput(f"the stripper {name!r} made a mask of shape {mask.shape} for an image of shape {image.shape}")
    return mask > 0


def _load(entry: EntryPoint) -> Stripper:
    try:
        stripper = entry.load()
    except Exception as error:
        owner = entry.dist.name if entry.dist else "unknown"
        reason = f"{type(error).__name__}: {error}"
        raise MissingPlugin(f"the stripper {entry.name!r} of {owner} does not load ({reason})") from error
    if not callable(stripper):
        raise MissingPlugin(f"the stripper {entry.name!r} ({entry.value}) is no function of an image and its spacing")
    return stripper
