"""Grey values: denoise them, and bring every scan to the range 0 to 1."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from medaug_cli.errors import UsageError
from medaug_cli.scans.nonlocal_means import nonlocal_means

Denoising = Literal["none", "median", "curvature", "anisotropic", "nonlocal", "auto"]
NOISY = 0.03  # the share of an image's range above which "auto" smooths its noise


def scale_intensity(
    image: np.ndarray, mask: np.ndarray | None = None, percentiles: tuple[float, float] = (0.5, 99.5)
) -> np.ndarray:
    """Return an image (c, *s) as float32 from 0 to 1, every channel between its own two percentiles.

    With a mask (*s) the percentiles are those of its pixels, and everything outside it becomes exactly 0.
    A constant channel becomes 0; a value that is not finite is counted nowhere and becomes 0.
    """
    image = np.asarray(image, np.float32)
    return windowed(image, mask, windows(image, mask, percentiles))


def windows(
    image: np.ndarray, mask: np.ndarray | None, percentiles: tuple[float, float]
) -> list[tuple[float, float] | None]:
    """Return the grey values of every channel (c, *s) that become 0 and 1; None where it is constant."""
    low, high = percentiles
    if not 0 <= low < high <= 100:
        raise UsageError(f"percentiles {low} and {high} do not rise from 0 to 100")
    if mask is not None and mask.shape != image.shape[1:]:
        raise UsageError(f"a mask of shape {mask.shape} does not fit an image of shape {image.shape[1:]}")
    found: list[tuple[float, float] | None] = []
    for channel in image:
        counted = _counted(channel, mask)
        low, high = np.percentile(channel[counted].astype(np.float64), percentiles) if counted.any() else (0.0, 0.0)
        constant = high - low <= 1e-6 * max(abs(low), abs(high))
        found.append(None if constant else (float(low), float(high)))
    return found


def windowed(image: np.ndarray, mask: np.ndarray | None, found: Sequence[tuple[float, float] | None]) -> np.ndarray:
    """Return an image (c, *s) as float32 from 0 to 1 between each channel's two grey values; 0 outside the mask."""
    scaled = np.zeros(image.shape, np.float32)
    for channel, target, window in zip(image, scaled, found, strict=True):
        if window is not None:
            low, high = window
            counted = _counted(channel, mask)
            target[counted] = np.clip((channel[counted].astype(np.float64) - low) / (high - low), 0, 1)
    return scaled


def _counted(channel: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    finite = np.isfinite(channel)
    return finite if mask is None else finite & mask.astype(bool)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Return values from 0 to 1 as bytes, rounded."""
    return np.rint(np.clip(np.nan_to_num(image), 0, 1) * 255).astype(np.uint8)


def denoise(image: np.ndarray, method: Denoising = "none") -> np.ndarray:
    """Return an image (*s) as float32, smoothed where edges allow it.

    `median` takes away single wrong pixels, `curvature` (curvature flow) grain, `anisotropic` (Perona and Malik
    1990) more of it at four times the cost, `nonlocal` (see nonlocal_means) most, at seven times the cost, slice by
    slice; `auto` is what `chosen_denoising` says.
    """
    if method not in get_args(Denoising):
        raise UsageError(f"denoising {method!r} is not known; the choices are {', '.join(get_args(Denoising))}")
    image = np.nan_to_num(np.asarray(image, np.float32), posinf=0, neginf=0)
    method = chosen_denoising(image, method)
    if method == "none":
        return image
    if method == "nonlocal":
        return nonlocal_means(image, _noise(image)[0])
    import SimpleITK as sitk

    scan = sitk.GetImageFromArray(image)
    if method == "median":
        return sitk.GetArrayFromImage(sitk.Median(scan, [1] * image.ndim))
    step = 0.0625 if image.ndim == 2 else 0.03125  # stable up to 1 / 2**(d + 1)
    if method == "anisotropic":
        return sitk.GetArrayFromImage(sitk.GradientAnisotropicDiffusion(scan, step, 1.0, 1, 5))
    return sitk.GetArrayFromImage(sitk.CurvatureFlow(scan, step, 5))


def chosen_denoising(image: np.ndarray, method: Denoising) -> Denoising:
    """Return what `auto` takes: curvature flow where `noise_level` is 3 % or more, and else none."""
    if method != "auto":
        return method
    return "curvature" if noise_level(image) >= NOISY else "none"


def bias_field(
    image: np.ndarray, mask: np.ndarray, spacing: Sequence[float] | None = None, grid: float = 4.0,
    iterations: Sequence[int] = (50, 50, 50, 50), threshold: float = 1e-4,
) -> np.ndarray:  # fmt: skip
    """Return the smooth field that brightens an image (*s) (N4, Tustison 2010), 1 in the middle of the mask.

    It is fitted to the mask's values on a grid of about `grid` mm, or of every fourth pixel where no spacing says
    how large one is. Divide the image by it.
    """
    import SimpleITK as sitk

    step = [1.0] * image.ndim if spacing is None else [float(s) for s in spacing]
    low, high = np.percentile(image[mask], (0, 99.9)) if mask.any() else (0.0, 0.0)
    if high <= low:
        return np.ones(image.shape, np.float32)
    grey = np.clip((image - min(low, 0)) / (high - min(low, 0)), 0, None) * 999 + 1
    scan, where = (sitk.GetImageFromArray(part) for part in (grey.astype(np.float32), mask.astype(np.uint8)))
    for part in (scan, where):
        part.SetSpacing(step[::-1])
    shrink = [max(1, min(round(grid / s), n // 4)) for s, n in zip(step[::-1], image.shape[::-1], strict=True)]
    small, inside = sitk.Shrink(scan, shrink), sitk.Shrink(where, shrink)
    values = sitk.GetArrayViewFromImage(small)[sitk.GetArrayViewFromImage(inside) > 0]
    if not values.size or np.ptp(values) == 0:
        return np.ones(image.shape, np.float32)
    correction = sitk.N4BiasFieldCorrectionImageFilter()
    correction.SetMaximumNumberOfIterations(list(iterations))
    correction.SetConvergenceThreshold(threshold)
    correction.Execute(small, inside)
    field = sitk.GetArrayFromImage(sitk.Exp(correction.GetLogBiasFieldAsImage(scan)))
    return field / max(float(np.median(field[mask])), 1e-6)


def noise_level(image: np.ndarray) -> float:
    """Return the standard deviation of an image's noise as a share of its range (1st to 99th percentile)."""
    noise, extent = _noise(image)
    return noise / extent if extent else 0.0


def _noise(image: np.ndarray) -> tuple[float, float]:
    """Return the standard deviation of an image's noise, and its range (1st to 99th percentile).

    Immerkaer's mask (1996) over the last two axes takes away every plane; the median of what it leaves, taken
    where the image is not dark, is hardly moved by edges.
    """
    if min(image.shape[-2:]) < 3:
        return 0.0, 0.0
    low, high = (float(value) for value in np.percentile(image, (1, 99)))
    if high <= low:
        return 0.0, 0.0
    second = image[..., :-2, :] - 2 * image[..., 1:-1, :] + image[..., 2:, :]
    left = second[..., :-2] - 2 * second[..., 1:-1] + second[..., 2:]  # noise times 6
    bright = image[..., 1:-1, 1:-1] > low + 0.1 * (high - low)
    noise = float(np.median(np.abs(left[bright])) / 0.6745 / 6) if bright.any() else 0.0
    return noise, high - low
