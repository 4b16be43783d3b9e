"""The three planes through the middle of a volume, with the boxes that they meet."""

import numpy as np

AXES = ((0, 1), (0, 2), (1, 2))  # of a box, x first, that each plane shows: axial, coronal, sagittal


def planes(image: np.ndarray, boxes: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the axial, coronal and sagittal plane of a volume (c, z, y, x): pictures (c, h, w) and boxes (k, 4).

    The head, where z grows, is up in the last two.
    """
    boxes = np.asarray(boxes, np.float32).reshape(-1, 6)
    shown = []
    for number, axes in enumerate(AXES):
        across = 2 - number  # the axis, x first, that the plane cuts
        middle = image.shape[3 - across] // 2
        met = boxes[(boxes[:, across] <= middle + 0.5) & (middle + 0.5 < boxes[:, 3 + across])]
        flat = met[:, [axes[0], axes[1], 3 + axes[0], 3 + axes[1]]]
        picture = np.take(image, middle, 3 - across)
        if number:  # z runs down the rows: turn it
            picture = picture[:, ::-1]
            flat[:, [1, 3]] = picture.shape[1] - flat[:, [3, 1]]
        shown.append((picture, flat))
    return shown
