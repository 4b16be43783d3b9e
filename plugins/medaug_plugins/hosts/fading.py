"""What lies around a lesion that is put into an image.

Legend as in `bank`.
"""

import numpy as np

from medaug_cli.plugin import DARK, window


def surroundings(image: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation (c, 1, ...) of the tissue in a ring around a box."""
    spatial = image.shape[1:]
    ring = np.zeros(spatial, bool)
    ring[window(box, spatial, 0.6)] = True
    ring[window(box, spatial)] = False
    tissue = ring & (image.mean(0) > DARK)
    chosen = image[:, tissue if tissue.sum() > 4 else np.ones_like(ring)]
    shape = (-1,) + (1,) * len(spatial)
    return chosen.mean(1).reshape(shape), chosen.std(1).reshape(shape) + 0.02
