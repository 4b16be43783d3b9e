"""Put a lesion into its box of an image so that no seam shows, and change nothing beyond its margin.

Legend: c channels, *s spatial axes in numpy order, d of them. Boxes are half-open pixel corners (2*d,), x first. Pixels
lie in [0, 1].
"""

from collections.abc import Sequence
from typing import cast

import numpy as np

MARGIN = 0.25  # of a box's sides, over which what is put in fades into its surroundings
DARK = 0.04  # up to here a pixel is background
CONTRAST = (0.5, 2.0)  # by which a lesion's contrast, and its noise, may be changed
FINE = 1.0  # pixels of the Gaussian beneath which structure counts as noise
LEAST_NOISE = 0.0005  # about what rounding to 8 bits leaves


def window(box: np.ndarray, spatial: Sequence[int], grow: float = 0.0) -> tuple[slice, ...]:
    """Return the pixels, in numpy axis order, of a box grown by a share of its sides on every side, at least one."""
    d, spans = len(spatial), []
    for axis, length in enumerate(spatial):
        start, stop = float(box[d - 1 - axis]), float(box[2 * d - 1 - axis])
        more = grow * (stop - start)
        low = int(np.clip(np.floor(start - more), 0, length - 1))
        spans.append(slice(low, int(np.clip(np.ceil(stop + more), low + 1, length))))
    return tuple(spans)


def ellipsoid(box: np.ndarray, spatial: Sequence[int]) -> np.ndarray:
    """Return the ellipsoid (*s) bool that fills a box, at least a pixel of it."""
    d, distance = len(spatial), np.zeros(())
    for axis, length in enumerate(spatial):
        low, high = float(box[d - 1 - axis]), float(box[2 * d - 1 - axis])
        at = np.arange(length) + 0.5 - (low + high) / 2
        distance = np.add.outer(distance, (at / ((high - low) / 2)) ** 2)
    return np.asarray(distance <= max(1.0, float(distance.min())))


def faded(box: np.ndarray, spatial: Sequence[int], lesion: np.ndarray | None = None) -> np.ndarray:
    """Return how much of a pasted lesion shows (*s): all of it in its box, nothing beyond MARGIN around it.

    Where it is known which pixels (*s) are the lesion, it fades from there on.
    """
    d, share = len(spatial), np.ones((), np.float32)
    margins = np.maximum(1.0, MARGIN * (box[d:] - box[:d]))[::-1].tolist()
    for axis, (length, margin) in enumerate(zip(spatial, margins, strict=True)):
        low, high = float(box[d - 1 - axis]), float(box[2 * d - 1 - axis])
        at = np.arange(length, dtype=np.float32) + 0.5
        share = np.multiply.outer(share, _fading(np.maximum(np.maximum(low - at, at - high), 0) / margin))
    if lesion is not None and lesion.any():
        from scipy.ndimage import binary_dilation, distance_transform_edt

        edged = binary_dilation(lesion)  # the pixels at a lesion's edge show a part of it
        share = np.minimum(share, _fading(distance_transform_edt(~edged, [1 / margin for margin in margins])))
    return share.astype(np.float32)


def _fading(distance: np.ndarray) -> np.ndarray:
    """Return what shows at a distance that is measured in margins."""
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * np.minimum(distance, 1)))


def blended(
    host: np.ndarray, drawn: np.ndarray, box: np.ndarray, margin: float, poisson: bool, lesion: np.ndarray | None = None
) -> np.ndarray:
    """Return an image (c, *s) that shows in a box what is drawn there (c, *s); the same to the bit beyond the margin.

    Contrast, brightness and noise are matched to what lies around the box. Then the gradients of what is drawn are kept
    and its border takes the host's values (Perez et al. 2003, *Poisson image editing*), or it fades in over the margin.
    Where it is known which pixels (*s) are the lesion, either fades from there on. Beyond the head or body nothing is
    drawn.
    """
    spatial = host.shape[1:]
    drawn = _matched(host, drawn, around(host, box, margin))
    head = _filled(host.mean(0) > DARK)
    head = head if head[window(box, spatial)].any() else np.ones_like(head)
    if poisson:
        drawn = _healed(host, drawn, head, window(box, spatial, margin))
        if lesion is None:
            return drawn
    return _mixed(host, drawn, faded(box, spatial, lesion) * head)


def _matched(host: np.ndarray, drawn: np.ndarray, ring: np.ndarray) -> np.ndarray:
    """Return what is drawn with the host's mean and spread in a ring, and with its noise: blur matches too."""
    (mean, spread), (own_mean, own_spread) = level(host, ring), level(drawn, ring)
    fine, own_fine = _fine(host), _fine(drawn)
    noise, own_noise = (np.median(np.abs(each[:, ring]), axis=1) + LEAST_NOISE for each in (fine, own_fine))
    as_noisy = np.clip(noise / own_noise, *CONTRAST).reshape(mean.shape)
    broad = (drawn - own_fine - own_mean) * np.clip(spread / own_spread, *CONTRAST) + mean
    return cast(np.ndarray, broad + own_fine * as_noisy)


def _fine(image: np.ndarray) -> np.ndarray:
    """Return what of an image (c, *s) is finer than a pixel or two."""
    from scipy.ndimage import gaussian_filter

    return np.asarray(image - gaussian_filter(image, (0, *[FINE] * (image.ndim - 1))))


def _healed(host: np.ndarray, drawn: np.ndarray, head: np.ndarray, inner: tuple[slice, ...]) -> np.ndarray:
    """Return the host with the gradients of what is drawn, and the host's values around them, in a window."""
    framed = tuple(slice(span.start, span.stop + 2) for span in inner)
    around_it = [(0, 0)] + [(1, 1)] * head.ndim
    apart = np.pad(host - drawn, around_it, mode="edge")[:, *framed]
    in_head = np.pad(head, around_it[1:], mode="edge")[framed]
    patch = drawn[:, *inner] + membrane(_without_background(apart, in_head))
    result = host.copy()
    result[:, *inner] = np.where(head[inner], patch, host[:, *inner])
    return result


def _mixed(host: np.ndarray, drawn: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return the host (c, *s) with a share (*s) of what is drawn, as noisy where both show as where one does.

    The mean of two noises is weaker than either: that alone would show where something was put in.
    """
    mixed = host * (1 - share) + drawn * share
    noise = _fine(host) * (1 - share) + _fine(drawn) * share
    mixed = mixed + noise * (1 / np.sqrt((1 - share) ** 2 + share**2) - 1)
    return cast(np.ndarray, np.where(share > 0, mixed, host).astype(np.float32))


def _filled(mask: np.ndarray) -> np.ndarray:
    from scipy.ndimage import binary_fill_holes

    return np.asarray(binary_fill_holes(mask))


def _without_background(border: np.ndarray, head: np.ndarray) -> np.ndarray:
    """Return (c, *s) whose outermost pixels beyond the head (*s) ask what those in the head ask in the middle."""
    edge = np.ones_like(head)
    edge[(slice(1, -1),) * head.ndim] = False
    if (edge & head).any():
        border[:, edge & ~head] = np.median(border[:, edge & head], axis=1)[:, None]
    return border


def around(host: np.ndarray, box: np.ndarray, margin: float) -> np.ndarray:
    """Return the tissue (*s) in the margin around a box, all of the image where there is nearly none."""
    spatial = host.shape[1:]
    ring = np.zeros(spatial, bool)
    ring[window(box, spatial, margin)] = True
    ring[window(box, spatial)] = False
    ring &= host.mean(0) > DARK
    return ring if ring.sum() > 4 else np.ones_like(ring)


def level(image: np.ndarray, ring: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and spread (c, 1, ...) of the pixels of a ring."""
    chosen = image[:, ring]
    shape = (-1,) + (1,) * ring.ndim
    return chosen.mean(1).reshape(shape), chosen.std(1).reshape(shape) + 0.02


def membrane(border: np.ndarray) -> np.ndarray:
    """Return the harmonic function (c, *s) whose values around it are the outermost pixels of (c, *(s + 2)).

    The Laplacian of the nearest neighbours is diagonal in sines (the fast Poisson solver of Buzbee et al. 1970).
    """
    from scipy.fft import dstn, idstn

    d = border.ndim - 1
    source = np.zeros((len(border), *(side - 2 for side in border.shape[1:])))
    inside = [slice(None)] + [slice(1, -1)] * d
    for axis in range(1, d + 1):
        for end in (0, -1):
            target, origin = [slice(None)] * (d + 1), list(inside)
            target[axis] = origin[axis] = end  # type: ignore[call-overload]
            source[tuple(target)] -= border[tuple(origin)]
    waves = [2 * np.cos(np.pi * np.arange(1, n + 1) / (n + 1)) - 2 for n in source.shape[1:]]
    total = waves[0]
    for wave in waves[1:]:
        total = np.add.outer(total, wave)
    axes = tuple(range(1, d + 1))
    return np.asarray(idstn(dstn(source, 1, axes=axes) / total, 1, axes=axes).astype(np.float32))
