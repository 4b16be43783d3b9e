"""Take a lesion out of a slice.

Legend as in `bank`.
"""

import numpy as np

from medaug_cli.plugin import BadInput
from medaug_plugins.hosts.bank import Bank
from medaug_plugins.hosts.fading import window

CONTRAST, BRIGHTNESS = 0.1, 0.03  # largest changes of a repeated image's tones


def lesion_free(
    bank: Bank, rng: np.random.Generator, image_class: int = -1, contrast: float = CONTRAST,
    brightness: float = BRIGHTNESS,
) -> np.ndarray:  # fmt: skip
    """Return a training image (c, h, w) without a lesion, of a class where one is asked for.

    It is mirrored half the time and has other tones; where there is none, another's lesions are healed.
    """
    own = bank.normal(image_class, rng)
    if own is not None:
        own = own[..., ::-1] if rng.random() < 0.5 else own
        return toned(own, rng, contrast, brightness)
    if image_class >= 0 and bank.classes is not None:
        raise BadInput("no training image without a lesion is of the class that is asked for")
    chosen = int(rng.integers(len(bank)))
    image = bank.image(chosen)
    for box in bank.boxes[chosen]:
        image = healed(image, box)
    return image


def toned(image: np.ndarray, rng: np.random.Generator, contrast: float, brightness: float) -> np.ndarray:
    """Return an image (c, h, w) with other contrast and brightness."""
    factor, offset = 1 + contrast * rng.uniform(-1, 1), brightness * rng.uniform(-1, 1)
    return (image - image.mean()) * factor + image.mean() + offset


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
