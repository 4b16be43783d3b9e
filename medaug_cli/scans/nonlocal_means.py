"""Non-local means (Buades, Coll and Morel 2005): a pixel becomes the mean of those in like surroundings."""

import itertools

import numpy as np

PATCH = 2  # pixels on each side of one whose surroundings are compared
SEARCH = 5  # pixels on each side within which alike ones are sought
STRENGTH = 0.8  # of the noise's standard deviation, over which likeness fades


def nonlocal_means(image: np.ndarray, noise: float) -> np.ndarray:
    """Return an image (y, x), or each slice of a volume (z, y, x), without its noise of this standard deviation.

    All pixels are compared with those at one offset at a time (Darbon et al. 2008); what noise alone makes of the
    distance, twice its variance, is taken off.
    """
    if image.ndim == 3:
        return np.stack([nonlocal_means(flat, noise) for flat in image])
    image = np.asarray(image, np.float32)
    if noise <= 0:
        return image
    from scipy.ndimage import uniform_filter

    weight, total = np.ones_like(image), image.copy()
    reach = range(-SEARCH, SEARCH + 1)
    for down, right in itertools.product(reach, reach):
        if (down, right) <= (0, 0) or down >= image.shape[0] or abs(right) >= image.shape[1]:
            continue  # the other half is met from the other side
        here = _part(image.shape, -down, -right)
        there = _part(image.shape, down, right)
        distance = uniform_filter((image[here] - image[there]) ** 2, 2 * PATCH + 1)
        alike = np.exp(-np.maximum(distance - 2 * noise**2, 0) / (STRENGTH * noise) ** 2)
        for own, other in ((here, there), (there, here)):
            weight[own] += alike
            total[own] += alike * image[other]
    return total / weight


def _part(shape: tuple[int, ...], *offset: int) -> tuple[slice, ...]:
    """Return the pixels of an image that are still in it after a step back by an offset."""
    return tuple(slice(max(0, step), length + min(0, step)) for step, length in zip(offset, shape, strict=True))
