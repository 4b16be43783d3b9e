"""Brain extraction: which stripper suits an image, and whether to believe its mask.

Strippers are plugins (`medaug.strippers`), the built-in ones too. A mask that cannot be right is never used: the
head's mask stands in for it, and the result says why.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from medaug_cli import registry
from medaug_cli.brain.head import head_mask
from medaug_cli.brain.judgement import COMPACT, compactness, is_stripped, judge, surroundings
from medaug_cli.errors import BadInput, MedaugError, MissingPlugin, UsageError
from medaug_cli.plugin import Extracted, Plane, Stripper, as_extracted

CHOICES = ("auto", "none")
VOLUMES = ("deepbet", "brain3d")  # what `auto` takes for a volume: the first that is ready
SLICES = "brain2d"
THICK = 8.0  # mm between slices from which a volume is stripped slice by slice
SHALLOW = 80.0  # mm of extent below which a volume is a stack of slices

Settings = tuple[tuple[str, str], ...]  # name and value, as typed


@dataclass(frozen=True)
class BrainMask:
    """What to keep of an image: a mask (*s), or None for all of it; `doubtful` masks come with the reason."""

    mask: np.ndarray | None
    name: str
    doubtful: bool = False
    reason: str = ""
    measures: Mapping[str, float] = field(default_factory=dict)
    doubts: Mapping[int, str] = field(default_factory=dict)  # of a stack: slice -> reason; the others are not doubtful


def strippers() -> list[str]:
    """Return the names that `extract_brain` takes, importing none of them."""
    return [*CHOICES, *registry.names("stripper")]


def check_stripper_choice(strip: str, settings: Settings = ()) -> None:
    """Raise MissingPlugin or UsageError where a stripper, its weights or a setting is not there."""
    if strip not in CHOICES:
        _built(strip, settings)
    elif settings:
        raise UsageError(f"--set {settings[0][0]}: --strip {strip} has no settings; name a stripper")


def extract_brain(
    image: np.ndarray, strip: str, spacing: Sequence[float] | None = None, plane: Plane | None = None,
    settings: Settings = (),
) -> BrainMask:  # fmt: skip
    """Return the brain of an image (y, x) or (z, y, x), of its head where the brain's mask is implausible.

    `auto` leaves an image alone that is stripped already, and else takes `brain2d` for a slice, for a volume
    deepbet where it is installed and else `brain3d`; a volume of thick slices is stripped slice by slice. Raises
    MissingPlugin for a stripper that is not installed or ready, and BadInput for a mask that does not fit.
    """
    _check(image, spacing)
    if strip == "none":
        return BrainMask(None, "none")
    step = None if spacing is None else tuple(float(s) for s in spacing)
    image = np.nan_to_num(np.asarray(image, np.float32), posinf=0, neginf=0)
    if strip == "auto":
        if is_stripped(image, step):
            return BrainMask(_content(image), "stripped already")
        strip = SLICES if image.ndim == 2 or _is_stack(image, step) else best_for_volumes()
    stripper = _built(strip, settings)
    if image.ndim not in stripper.capabilities.dims:
        if image.ndim == 2:
            choices = ", ".join(("auto", "none", *_for(2)))
            raise UsageError(f"{strip} needs a volume; the choices for a slice are {choices}")
        return _slice_by_slice(image, strip, stripper, step, plane)
    return _judged(image, _extracted(stripper, strip, image, step, plane), strip, step)


def _check(image: np.ndarray, spacing: Sequence[float] | None) -> None:
    if image.ndim not in (2, 3):
        raise UsageError(f"a brain is extracted from a slice or a volume, not from an array of shape {image.shape}")
    if spacing is not None and (len(spacing) != image.ndim or min(spacing) <= 0):
        raise UsageError(f"spacing {tuple(spacing)} does not fit an image of shape {image.shape}")


@lru_cache(maxsize=8)
def _built(name: str, settings: Settings) -> Stripper:
    if name not in registry.names("stripper"):
        stale = "medaug's own entry points are out of date; reinstall medaug" if name in (SLICES, VOLUMES[-1]) else ""
        choices = stale or f"the choices are {', '.join(strippers())}"
        raise MissingPlugin(f"no stripper {name!r} is installed; {choices}")
    return registry.build("stripper", name, dict(settings))


def _for(dims: int) -> Iterator[str]:
    """Yield the names of the installed strippers that take slices (2) or volumes (3)."""
    for name in registry.names("stripper"):
        try:
            able = registry.capabilities("stripper", name).dims
        except MissingPlugin:
            continue
        if dims in able:
            yield name


def best_for_volumes() -> str:
    """Return the first of the strippers of volumes that is ready."""
    for name in VOLUMES[:-1]:
        try:
            _built(name, ())
        except MissingPlugin:
            continue
        return name
    return VOLUMES[-1]


def _extracted(
    stripper: Stripper, name: str, image: np.ndarray, spacing: tuple[float, ...] | None, plane: Plane | None
) -> Extracted:
    try:
        found = as_extracted(stripper.extract(image, spacing, plane))
        wrong = [measure for measure, value in found.measures.items() if not np.isfinite(float(value))]
    except MedaugError:
        raise
    except Exception as error:
        raise BadInput(f"the stripper {name!r} failed ({type(error).__name__}: {error})") from error
    if found.mask.shape != image.shape:
        raise BadInput(
            f"the stripper {name!r} made a mask of shape {found.mask.shape} for an image of shape {image.shape}"
        )
    if found.mask.dtype.kind not in "bui" and not np.isfinite(found.mask).all():
        raise BadInput(f"the stripper {name!r} made a mask of values that are not finite numbers")
    if wrong:
        raise BadInput(f"the stripper {name!r}: the measure {', '.join(wrong)} is not a finite number")
    return Extracted(found.mask > 0, found.measures)


def _content(image: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    return ndimage.binary_fill_holes(image != surroundings(image))


def _is_stack(image: np.ndarray, spacing: tuple[float, ...] | None) -> bool:
    step = spacing or (1.0,) * image.ndim
    return max(step) > THICK or min(n * s for n, s in zip(image.shape, step, strict=True)) < SHALLOW


def _slice_by_slice(
    image: np.ndarray, name: str, stripper: Stripper, spacing: tuple[float, ...] | None, plane: Plane | None
) -> BrainMask:
    """Return the masks of a volume's slices in one; a doubtful slice keeps its head and makes the whole doubtful."""
    step = spacing[1:] if spacing is not None else None
    low, high = np.percentile(image, (0.5, 99.5)).tolist()
    faint, results = low + 0.05 * (high - low), []
    for flat in image:
        if np.percentile(flat, 99) <= faint:  # padding
            results.append(BrainMask(np.zeros(flat.shape, bool), name))
        else:
            results.append(_judged(flat, _extracted(stripper, name, flat, step, plane), name, step))
    masks = [np.ones(image.shape[1:], bool) if result.mask is None else result.mask for result in results]
    doubts = {number: result.reason for number, result in enumerate(results) if result.doubtful}
    agreements = [result.measures["agreement"] for result in results if "agreement" in result.measures]
    lit = sum(bool(result.measures) for result in results)
    measures = {"doubtful_slices": float(len(doubts)), "slices": float(lit)}
    if agreements:
        measures["agreement"] = float(np.median(agreements))
    first = next(iter(doubts), 0)
    reason = f"{len(doubts)} of {lit} slices keep their head (slice {first}: {doubts[first]})" if doubts else ""
    reason = reason or ("" if lit else "every slice is blank")
    return BrainMask(np.stack(masks), name, doubtful=bool(reason), reason=reason, measures=measures, doubts=doubts)


def _judged(image: np.ndarray, found: Extracted, name: str, spacing: tuple[float, ...] | None) -> BrainMask:
    """Return the mask if it is plausible, else the head's; the whole image where not even a head is found."""
    head = head_mask(image, spacing)
    reason, measures = judge(found.mask, head, dict(found.measures), spacing)
    if not reason:
        return BrainMask(found.mask, name, measures=measures)
    return BrainMask(head if _is_head(head, spacing) else None, name, True, reason, measures)


def head_to_keep(image: np.ndarray, spacing: Sequence[float] | None) -> np.ndarray | None:
    """Return the mask of the head in an image (y, x) or (z, y, x) whose brain is not found; None to keep all of it."""
    head = head_mask(image, spacing)
    return head if _is_head(head, spacing) else None


def _is_head(head: np.ndarray, spacing: Sequence[float] | None) -> bool:
    """Tell whether a head's mask is one: it may be empty, or a scalp that does not close around what is in it."""
    return bool(head.any() and compactness(head, spacing) >= COMPACT)
