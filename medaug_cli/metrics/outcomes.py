"""What becomes of a detection when it is matched."""

from dataclasses import dataclass

import numpy as np

FALSE_POSITIVE, TRUE_POSITIVE, IGNORED, NOT_COUNTED = 0, 1, 2, 3
EPSILON = float(np.spacing(1.0))  # COCO's guard against 0 / 0
NEAR_ONE = 1 - 1e-10  # COCO's largest IoU threshold


@dataclass(frozen=True)
class Outcomes:
    """The outcome of each detection, image by image and class by class, best score first.

    `by_score` lists the same rows best score first, `by_class` class by class and best score first;
    ties keep the order of images, then of input.
    """

    order: np.ndarray  # (n,) which detection each row is
    ranks: np.ndarray  # (n,) place of the row among those of its image and class
    outcome: np.ndarray  # (n, areas, thresholds) int8, one of the kernels' four outcomes
    partners: np.ndarray  # (n, thresholds) which true box a row found, or -1; (0, thresholds) where not asked for
    by_score: np.ndarray  # (n,) rows
    by_class: np.ndarray  # (n,) rows
    class_begins: np.ndarray  # (classes + 1,)
