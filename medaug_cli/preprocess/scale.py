"""Channels, denoising, bias field and grey values of one image, as a recipe asks for them."""

from typing import Any

import numpy as np

from medaug_cli.preprocess.recipe import Recipe
from medaug_cli.scans.intensity import bias_field, chosen_denoising, denoise, windowed, windows


def with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Return an image (c, *s) with as many channels as wanted: grey repeated, or colours weighed to grey."""
    if len(image) == channels:
        return image
    if channels == 1:
        weights = (0.299, 0.587, 0.114) if len(image) == 3 else np.full(len(image), 1 / len(image))
        return np.tensordot(np.asarray(weights, np.float32), image, 1)[None]
    return np.repeat(image[:1], channels, 0)


def scale(
    image: np.ndarray, mask: np.ndarray | None, recipe: Recipe, spacing: tuple[float, ...] | None
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return an image (c, *s) denoised, its coil's field evened out, and scaled; and what was done, for the record."""
    method = chosen_denoising(image.mean(0), recipe.denoising)
    quiet = np.stack([denoise(channel, method) for channel in image])
    if recipe.bias == "n4":
        lit = quiet.mean(0) > quiet.min() if mask is None else mask
        quiet = quiet / bias_field(quiet.mean(0), lit, spacing)
    found = windows(quiet, mask, recipe.percentiles) if recipe.window is None else [recipe.window] * len(quiet)
    steps = {"denoising": method, "bias_field": recipe.bias, "windows": [list(w) if w else None for w in found]}
    return windowed(quiet, mask, found), steps
