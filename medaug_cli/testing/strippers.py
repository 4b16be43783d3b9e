"""The contract of a stripper, on constructed heads: scalp, skull, fluid and brain as shells of an ellipsoid."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from medaug_cli.plugin import Extracted, as_extracted
from medaug_cli.testing.checking import Checks, Result, require
from medaug_cli.testing.contract import Subject, check_class

SHAPES = {2: (192, 160), 3: (72, 88, 72)}
STEP = {2: 1.0, 3: 2.0}  # mm
SHELLS = ((0, 160), (6, 15), (11, 45), (13, 110))  # mm under the skin, and grey value


def check_stripper(
    plugin: type | str, settings: Mapping[str, Any] | None = None, report: Callable[[str], None] = lambda name: None
) -> list[Result]:
    """Run the checks on a stripper's class, or on the name of an installed one."""
    checks, subject = Checks(report), Subject("stripper", plugin, settings or {})
    if check_class(checks, subject):
        for dims in subject.cls.capabilities.dims:
            found: list[np.ndarray] = []
            checks.run(f"{dims}D mask", partial(_mask, subject, dims, found))
            checks.run(f"{dims}D again", partial(_again, subject, dims, found))
            checks.run(f"{dims}D blank", partial(_blank, subject, dims))
    return checks.results


def head(dims: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """Return a T1 head (*s) float32, the mask of its brain, and its spacing in mm."""
    shape, step = SHAPES[dims], STEP[dims]
    middle = [(n - 1) / 2 for n in shape]
    radii = np.array([n * step * 0.43 for n in shape])

    def ellipsoid(under: float) -> np.ndarray:
        offsets = zip(np.indices(shape), middle, radii, strict=True)
        return sum(((g - c) * step / (r - under)) ** 2 for g, c, r in offsets) < 1

    image = np.zeros(shape)
    for under, grey in SHELLS:
        image[ellipsoid(under)] = grey
    brain = ellipsoid(SHELLS[-1][0])
    image[brain] += 12 * np.sin(np.indices(shape).sum(0) * step / 5)[brain]
    noisy = image + np.random.default_rng(seed).normal(0, 3, shape)
    return noisy.clip(0).astype(np.float32), brain, (step,) * dims


def _extract(subject: Subject, image: np.ndarray, spacing: tuple[float, ...] | None) -> Extracted:
    found = as_extracted(subject.make().extract(image, spacing, None))
    require(isinstance(found.mask, np.ndarray), f"extract returns {type(found.mask).__name__}; expected a mask")
    require(found.mask.shape == image.shape, f"extract returns a mask of shape {found.mask.shape} for {image.shape}")
    finite = found.mask.dtype.kind in "bui" or bool(np.isfinite(found.mask).all())
    require(finite, "extract returns a mask with values that are not finite numbers")
    wrong = [name for name, value in found.measures.items() if not np.isfinite(float(value))]
    require(not wrong, f"the measure {', '.join(wrong)} is not a finite number")
    return found


def _mask(subject: Subject, dims: int, found: list[np.ndarray]) -> str:
    image, brain, spacing = head(dims)
    before = image.copy()
    mask = _extract(subject, image, spacing).mask > 0
    require((image == before).all(), "extract changes the image that it is given")
    found.append(mask)
    overlap = 2 * (mask & brain).sum() / max(int(mask.sum() + brain.sum()), 1)
    return f"a constructed head's brain is met with a Dice coefficient of {overlap:.2f}"


def _again(subject: Subject, dims: int, found: list[np.ndarray]) -> str:
    image, _, spacing = head(dims)
    mask = _extract(subject, image, spacing).mask > 0
    require(found and (mask == found[0]).all(), "extract returns another mask when asked again")
    if dims == 2:
        _extract(subject, image, None)
    return "the same image has the same mask"


def _blank(subject: Subject, dims: int) -> str:
    shape = SHAPES[dims]
    _extract(subject, np.zeros(shape, np.float32), (STEP[dims],) * dims)
    return "a blank image has a mask"
