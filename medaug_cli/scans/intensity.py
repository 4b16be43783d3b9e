"""Grey values: denoise them, and bring every scan to the range 0 to 1."""

from typing import Literal, get_args

import numpy as np

from medaug_cli.errors import UsageError

Denoising = Literal["none", "median", "curvature", "auto"]
NOISY = 0.03  # the share of an image's range above which "auto" smooths its noise


def scale_intensity(
    image: np.ndarray, mask: np.ndarray | None = None, percentiles: tuple[float, float] = (0.5, 99.5)
) -> np.ndarray:
    """Return an image (c, *s) as float32 from 0 to 1, every channel between its own two percentiles.

    With a mask (*s) the percentiles are those of its pixels, and everything outside it becomes exactly 0.
    A constant channel becomes 0; a value that is not finite is counted nowhere and becomes 0.
    """
    low, high = percentiles
    if not 0 <= low < high <= 100:
        raise UsageError(f"percentiles {low} and {high} do not rise from 0 to 100")
    image = np.asarray(image, np.float32)
    if mask is not None and mask.shape != image.shape[1:]:
        raise UsageError(f"a mask of shape {mask.shape} does not fit an image of shape {image.shape[1:]}")
    return np.stack([_scaled(channel, mask, percentiles) for channel in image])


def _scaled(channel: np.ndarray, mask: np.ndarray | None, percentiles: tuple[float, float]) -> np.ndarray:
    finite = np.isfinite(channel)
    counted = finite if mask is None else finite & mask.astype(bool)
    scaled = np.zeros(channel.shape, np.float32)
    if not counted.any():
        return scaled
    low, high = np.percentile(channel[counted].astype(np.float64), percentiles)
    if high - low <= 1e-6 * max(abs(low), abs(high)):
        return scaled
    scaled[counted] = np.clip((channel[counted].astype(np.float64) - low) / (high - low), 0, 1)
    return scaled


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Return values from 0 to 1 as bytes, rounded."""
    return np.rint(np.clip(np.nan_to_num(image), 0, 1) * 255).astype(np.uint8)


def denoise(image: np.ndarray, method: Denoising = "none") -> np.ndarray:
    """Return an image (*s) as float32, smoothed where edges allow it.

    `median` takes away single wrong pixels, `curvature` (curvature flow) grain; `auto` is
    curvature flow where `noise_level` is 3 % or more, and nothing elsewhere.
    """
    if method not in get_args(Denoising):
        raise UsageError(f"denoising {method!r} is not known; the choices are {', '.join(get_args(Denoising))}")
    image = np.nan_to_num(np.asarray(image, np.float32), posinf=0, neginf=0)
    if method == "none" or (method == "auto" and noise_level(image) < NOISY):
        return image
    import SimpleITK as sitk

    scan = sitk.GetImageFromArray(image)
    if method == "median":
        return sitk.GetArrayFromImage(sitk.Median(scan, [1] * image.ndim))
    step = 0.0625 if image.ndim == 2 else 0.03125  # stable up to 1 / 2**(d + 1)
    return sitk.GetArrayFromImage(sitk.CurvatureFlow(scan, step, 5))


def noise_level(image: np.ndarray) -> float:
    """Return the standard deviation of an image's noise as a share of its range (1st to 99th percentile).

    Immerkaer's mask (1996) over the last two axes takes away every plane; the median of what it leaves, taken
    where the image is not dark, is hardly moved by edges.
    """
    if min(image.shape[-2:]) < 3:
        return 0.0
    low, high = np.percentile(image, (1, 99))
    if high <= low:
        return 0.0
    second = image[..., :-2, :] - 2 * image[..., 1:-1, :] + image[..., 2:, :]
    left = second[..., :-2] - 2 * second[..., 1:-1] + second[..., 2:]  # noise times 6
    bright = image[..., 1:-1, 1:-1] > low + 0.1 * (high - low)
    if not bright.any():
        return 0.0
    return float(np.median(np.abs(left[bright])) / 0.6745 / 6 / (high - low))
