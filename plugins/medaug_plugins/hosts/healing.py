"""Take a lesion out of an image.

Legend as in `bank`.
"""

import numpy as np

from medaug_cli.plugin import BadInput, window
from medaug_plugins.hosts.bank import Bank

CONTRAST, BRIGHTNESS = 0.1, 0.03  # largest changes of a repeated image's tones


def lesion_free(
    bank: Bank, rng: np.random.Generator, image_class: int = -1, contrast: float = CONTRAST,
    brightness: float = BRIGHTNESS,
) -> np.ndarray:  # fmt: skip
    """Return a training image (c, *s) without a lesion, of a class where one is asked for.

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
    """Return an image (c, *s) with other contrast and brightness."""
    factor, offset = 1 + contrast * rng.uniform(-1, 1), brightness * rng.uniform(-1, 1)
    return (image - image.mean()) * factor + image.mean() + offset


def healed(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Fill a box of an image (c, *s) smoothly from its border: a blended Coons patch (Coons 1967), of any dimension.

    It subtracts what straight lines between the ends leave unexplained, along each axis in turn.
    """
    spans = window(box, image.shape[1:], 0.1)
    place = tuple(
        slice(max(span.start - 1, 0), min(span.stop, length - 1) + 1)
        for span, length in zip(spans, image.shape[1:], strict=True)
    )
    patch = image[:, *place]
    left = patch
    for axis in range(1, image.ndim):
        left = left - _between_ends(left, axis)
    filled = image.copy()
    filled[:, *place] = patch - left
    return filled


def _between_ends(patch: np.ndarray, axis: int) -> np.ndarray:
    """Return straight lines from the first to the last entry along an axis."""
    shape = [1] * patch.ndim
    shape[axis] = patch.shape[axis]
    share = np.linspace(0, 1, patch.shape[axis], dtype=np.float32).reshape(shape)
    first, last = (np.take(patch, [end], axis) for end in (0, -1))
    return np.asarray((1 - share) * first + share * last)
