"""The pictures of a segmentation: Dice against the size of lesions, and outlines from the worst image to the best."""

from collections.abc import Mapping, Sequence

import numpy as np

from medaug_cli.figures.task_figures import COLOUR_NAMES, Curve, captioned, outlined, png, sizes_svg
from medaug_cli.metrics.segmentation import Overlap, dice
from medaug_cli.tasks.cases import Cases
from medaug_cli.tasks.segmentation import MaskAnswers
from medaug_cli.tasks.task import Figure

UNITS = {2: "mm²", 3: "mm³"}


def mask_figures(
    cases: Cases, answers: Mapping[str, MaskAnswers], found: Mapping[str, Sequence[np.ndarray]], most: int
) -> list[Figure]:
    """Return every picture; outlines of `most` images at most, and none where no image can be seen."""
    return [*_sizes(cases, answers), *_outlines(cases, answers, found, most)]


def _sizes(cases: Cases, answers: Mapping[str, MaskAnswers]) -> list[Figure]:
    in_mm = bool(cases.spacing) and None not in cases.spacing
    steps = np.array([np.prod(each) if in_mm and each else 1.0 for each in cases.spacing or [None] * len(cases)])
    panels: dict[str, dict[str, Curve]] = {}
    for label in cases.names:
        for name, each in answers.items():
            rows = each.rows[label]
            there = np.array([row.true > 0 for row in rows])
            size = np.array([row.true for row in rows]) * steps
            panels.setdefault(label, {})[name] = size[there], _dice(rows)[there]
    panels = {label: each for label, each in panels.items() if any(len(size) for size, _ in each.values())}
    if not panels:
        return []
    dims = len(cases.truth[0].shape)
    unit = f"size of the truth, {UNITS[dims]}" if in_mm else f"size of the truth, {'pixels' if dims == 2 else 'voxels'}"
    note = "Each dot is an image with a lesion; lines are running means over a third of the images."
    return [Figure("Dice and size", note, sizes_svg(panels, unit).encode())]


def _dice(rows: Sequence[Overlap]) -> np.ndarray:
    true, found, both = (np.array([getattr(row, key) for row in rows], float) for key in ("true", "found", "both"))
    return dice(true, found, both)


def _outlines(
    cases: Cases, answers: Mapping[str, MaskAnswers], found: Mapping[str, Sequence[np.ndarray]], most: int
) -> list[Figure]:
    scores = {name: np.mean([_dice(rows) for rows in each.rows.values()], 0) for name, each in answers.items()}
    order = np.argsort(np.mean(list(scores.values()), 0), kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, max(0, min(most, len(order)))).round().astype(int))
    pictures, captions = [], []
    for k in order[places].tolist():
        if (picture := cases.picture(k)) is None:
            continue
        pictures.append(outlined(picture, [cases.truth[k], *(np.asarray(each[k]) for each in found.values())]))
        captions.append([str(cases.ids[k]), "Dice " + ", ".join(f"{each[k]:.2f}" for each in scores.values())])
    if not pictures:
        return []
    named = ", ".join(f"{colour} {name}" for colour, name in zip(COLOUR_NAMES, ("the truth", *found), strict=False))
    note = f"{len(pictures)} of {len(cases)} images, evenly from the worst to the best. Lines: {named}."
    return [Figure("Outlines", note, png(captioned(pictures, captions)), "image/png")]
