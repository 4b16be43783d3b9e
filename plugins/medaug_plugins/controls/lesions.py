"""Put a lesion into a box: soft pasting and procedural lesions.

Legend as in `medaug_plugins.hosts.bank`.
"""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from medaug_plugins.hosts.fading import faded, surroundings

SOFT = 0.06  # of a box's side, over which a pasted lesion's outline is blurred
CONTRAST = (0.5, 2.0)  # by which a pasted lesion's contrast may be changed


def pasted(
    host: np.ndarray, box: np.ndarray, donor: np.ndarray, donor_box: np.ndarray, mask: np.ndarray | None = None
) -> np.ndarray:
    """Return `host` (c, h, w) with the lesion in `donor_box` of `donor`, resized to `box`, matched and faded in.

    With the lesion's mask (h, w) its own outline is blended in, else the whole box.
    """
    height, width = host.shape[-2:]
    source_x, source_y = _sources(donor_box, box, height, width)
    h, w = donor.shape[-2:]
    grid = np.stack(np.meshgrid(source_x * 2 / w - 1, source_y * 2 / h - 1), -1).astype(np.float32)
    lesion = _carried(donor, grid)
    mean, spread = surroundings(host, box)
    donor_mean, donor_spread = surroundings(donor, donor_box)
    matched = (lesion - donor_mean) * np.clip(spread / donor_spread, *CONTRAST) + mean
    share = faded(box, height, width)
    if mask is not None:
        softness = max(0.7, SOFT * float((box[2:] - box[:2]).mean()))
        share = np.minimum(share, np.clip(1.5 * gaussian_filter(_carried(mask[None], grid)[0], softness), 0, 1))
    return (host * (1 - share) + matched * share).astype(np.float32)


def carried_values(values: np.ndarray, donor_box: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return the mask (h, w) uint8 of a lesion in `donor_box` with its values, as it lies when it is put into `box`."""
    height, width = values.shape
    x, y = (np.floor(at).astype(int) for at in _sources(donor_box, box, height, width))
    inside = ((y >= 0) & (y < height))[:, None] & ((x >= 0) & (x < width))
    own = values[np.clip(y, 0, height - 1)[:, None], np.clip(x, 0, width - 1)]
    return np.where(inside, own, 0).astype(np.uint8)


def _sources(donor_box: np.ndarray, box: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which x and y of the donor each column and row of the host is taken from."""
    y, x = np.arange(height, dtype=np.float32) + 0.5, np.arange(width, dtype=np.float32) + 0.5
    scale = (donor_box[2:] - donor_box[:2]) / np.maximum(box[2:] - box[:2], 1e-3)
    return donor_box[0] + (x - box[0]) * scale[0], donor_box[1] + (y - box[1]) * scale[1]


def _carried(image: np.ndarray, grid: np.ndarray) -> np.ndarray:
    pixels, places = torch.from_numpy(image)[None], torch.from_numpy(grid)[None]
    return F.grid_sample(pixels, places, padding_mode="border", align_corners=False)[0].numpy()


def procedural(
    host: np.ndarray, box: np.ndarray, rng: np.random.Generator, contrast: float, sharp: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return `host` with a textured, blurred ellipsoid in a box, and how much of it shows where (h, w).

    It is that of Hu et al. 2023, SynTumor, reduced to two dimensions.

    The ellipsoid fills the box, is lighter or darker than its surroundings by up to `contrast`, has a rim in half of
    the cases, and an edge that is `sharp` times as steep as a straight fade.
    """
    height, width = host.shape[-2:]
    y, x = np.indices((height, width), dtype=np.float32) + 0.5
    centre, half = (box[:2] + box[2:]) / 2, np.maximum((box[2:] - box[:2]) / 2, 0.75)
    u, v = (x - centre[0]) / half[0], (y - centre[1]) / half[1]
    angle = np.arctan2(v, u)
    waves = sum(rng.normal(0, 0.08) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 5))
    radius = np.sqrt(u**2 + v**2) * (1 + np.abs(waves))  # never beyond the box
    share = np.clip((1 - radius) * sharp + 0.5 * (radius < 1), 0, 1)
    mean, spread = surroundings(host, box)
    texture = _texture(rng, height, width, float(half.mean()))
    sign = 1.0 if rng.random() < 0.7 else -1.0  # real tumours are lighter in about two thirds of the slices
    level = sign * rng.uniform(0.4, 1.0) * contrast
    rim = np.exp(-(((radius - 0.8) / 0.15) ** 2)) * (rng.random() < 0.5) * contrast * 0.6
    lesion = mean + level + rim + texture * (0.3 * spread + 0.02)
    return (host * (1 - share) + lesion * share).astype(np.float32), share


def _texture(rng: np.random.Generator, height: int, width: int, half: float) -> np.ndarray:
    """Return noise (h, w) of unit spread, as coarse as a third of a lesion's half side and finer."""
    coarse = max(1, round(half / 3))
    noise = torch.from_numpy(rng.normal(size=(1, 1, -(-height // coarse), -(-width // coarse))).astype(np.float32))
    smooth = F.interpolate(noise, size=(height, width), mode="bilinear", align_corners=False)[0, 0].numpy()
    grain = torch.from_numpy(rng.normal(size=(1, 1, height, width)).astype(np.float32))
    mixed = smooth + F.avg_pool2d(grain, 3, 1, 1)[0, 0].numpy()
    return mixed / max(float(mixed.std()), 1e-3)
