"""Put a lesion into a box: soft pasting and procedural lesions.

Legend as in `medaug_plugins.hosts.bank`.
"""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from medaug_cli.plugin import faded
from medaug_plugins.hosts import surroundings
from medaug_plugins.layers import sampled
from medaug_plugins.layers.resampling import AVERAGE, LINEAR

SOFT = 0.06  # of a box's side, over which a pasted lesion's outline is blurred
CONTRAST = (0.5, 2.0)  # by which a pasted lesion's contrast may be changed


def pasted(
    host: np.ndarray, box: np.ndarray, donor: np.ndarray, donor_box: np.ndarray, mask: np.ndarray | None = None
) -> np.ndarray:
    """Return `host` (c, *s) with the lesion in `donor_box` of `donor`, resized to `box`, matched and faded in.

    With the lesion's mask (*s) its own outline is blended in, else the whole box.
    """
    spatial, d = host.shape[1:], host.ndim - 1
    sizes = donor.shape[:0:-1]  # x first
    sources = _sources(donor_box, box, spatial)
    places = [at * 2 / side - 1 for at, side in zip(sources, sizes, strict=True)]
    lesion = sampled(donor, places)
    mean, spread = surroundings(host, box)
    donor_mean, donor_spread = surroundings(donor, donor_box)
    matched = (lesion - donor_mean) * np.clip(spread / donor_spread, *CONTRAST) + mean
    share = faded(box, spatial)
    if mask is not None:
        softness = max(0.7, SOFT * float((box[d:] - box[:d]).mean()))
        share = np.minimum(share, np.clip(1.5 * gaussian_filter(sampled(mask[None], places)[0], softness), 0, 1))
    return (host * (1 - share) + matched * share).astype(np.float32)


def carried_values(values: np.ndarray, donor_box: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return the mask (*s) uint8 of a lesion in `donor_box` with its values, as it lies when it is put into `box`."""
    places = [np.floor(at).astype(int) for at in _sources(donor_box, box, values.shape)][::-1]  # numpy's order
    own = values[np.ix_(*(np.clip(at, 0, side - 1) for at, side in zip(places, values.shape, strict=True)))]
    for axis, (at, side) in enumerate(zip(places, values.shape, strict=True)):
        np.moveaxis(own, axis, 0)[(at < 0) | (at >= side)] = 0
    return own.astype(np.uint8)


def _sources(donor_box: np.ndarray, box: np.ndarray, spatial: tuple[int, ...]) -> list[np.ndarray]:
    """Return, along every axis, x first, which place of the donor each pixel of the host is taken from."""
    d, found = len(spatial), []
    scale = (donor_box[d:] - donor_box[:d]) / np.maximum(box[d:] - box[:d], 1e-3)
    for axis, length in enumerate(spatial[::-1]):
        at = np.arange(length, dtype=np.float32) + 0.5
        found.append(donor_box[axis] + (at - box[axis]) * scale[axis])
    return found


def procedural(
    host: np.ndarray, box: np.ndarray, rng: np.random.Generator, contrast: float, sharp: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return `host` with a textured, blurred ellipsoid in a box, and how much of it shows where (*s).

    It is that of Hu et al. 2023, SynTumor, here in two dimensions too.

    The ellipsoid fills the box, is lighter or darker than its surroundings by up to `contrast`, has a rim in half of
    the cases, and an edge that is `sharp` times as steep as a straight fade.
    """
    spatial, d = host.shape[1:], host.ndim - 1
    places = np.indices(spatial, dtype=np.float32)[::-1] + 0.5  # x first
    centre, half = (box[:d] + box[d:]) / 2, np.maximum((box[d:] - box[:d]) / 2, 0.75)
    u, v, *more = ((at - middle) / side for at, middle, side in zip(places, centre, half, strict=True))
    angles = [np.arctan2(v, u), *(np.arctan2(w, np.hypot(u, v)) for w in more)]
    waves = sum(
        rng.normal(0, 0.08) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for angle in angles for k in (2, 3, 5)
    )
    distance = u**2 + v**2
    for w in more:
        distance = distance + w**2
    radius = np.sqrt(distance) * (1 + np.abs(waves))  # never beyond the box
    share = np.clip((1 - radius) * sharp + 0.5 * (radius < 1), 0, 1)
    mean, spread = surroundings(host, box)
    texture = _texture(rng, spatial, float(half.mean()))
    sign = 1.0 if rng.random() < 0.7 else -1.0  # real tumours are lighter in about two thirds of the slices
    level = sign * rng.uniform(0.4, 1.0) * contrast
    rim = np.exp(-(((radius - 0.8) / 0.15) ** 2)) * (rng.random() < 0.5) * contrast * 0.6
    lesion = mean + level + rim + texture * (0.3 * spread + 0.02)
    return (host * (1 - share) + lesion * share).astype(np.float32), share


def _texture(rng: np.random.Generator, spatial: tuple[int, ...], half: float) -> np.ndarray:
    """Return noise (*s) of unit spread, as coarse as a third of a lesion's half side and finer."""
    coarse, d = max(1, round(half / 3)), len(spatial)
    noise = torch.from_numpy(rng.normal(size=(1, 1, *(-(-side // coarse) for side in spatial))).astype(np.float32))
    smooth = F.interpolate(noise, size=spatial, mode=LINEAR[d], align_corners=False)[0, 0].numpy()
    grain = torch.from_numpy(rng.normal(size=(1, 1, *spatial)).astype(np.float32))
    mixed = smooth + AVERAGE[d](grain, 3, 1, 1)[0, 0].numpy()
    return mixed / max(float(mixed.std()), 1e-3)
