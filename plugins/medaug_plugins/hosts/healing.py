"""Take a lesion out of a slice.

Legend as in `bank`.
"""

import numpy as np

from medaug_plugins.hosts.bank import Bank
from medaug_plugins.hosts.fading import window


def lesion_free(bank: Bank, rng: np.random.Generator) -> np.ndarray:
    """Return a training image (c, h, w) whose lesions are healed."""
    chosen = int(rng.integers(len(bank)))
    image = bank.image(chosen)
    for box in bank.boxes[chosen]:
        image = healed(image, box)
    return image


def healed(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Fill a box of an image (c, h, w) smoothly from its border: a bilinearly blended Coons patch (Coons 1967)."""
    height, width = image.shape[-2:]
    rows, columns = window(box, height, width, 0.1)
    top, bottom = max(rows.start - 1, 0), min(rows.stop, height - 1)
    left, right = max(columns.start - 1, 0), min(columns.stop, width - 1)
    patch = image[:, top : bottom + 1, left : right + 1]
    v, u = (np.linspace(0, 1, n, dtype=np.float32) for n in patch.shape[1:])
    v, u = v[:, None], u[None]
    across = (1 - v) * patch[:, :1] + v * patch[:, -1:]
    along = (1 - u) * patch[:, :, :1] + u * patch[:, :, -1:]
    corners = (1 - v) * ((1 - u) * patch[:, :1, :1] + u * patch[:, :1, -1:])
    corners = corners + v * ((1 - u) * patch[:, -1:, :1] + u * patch[:, -1:, -1:])
    filled = image.copy()
    filled[:, top : bottom + 1, left : right + 1] = across + along - corners
    return filled
