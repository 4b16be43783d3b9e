"""Pictures of classification and segmentation: confusion, ROC, calibration, mistakes; sizes and outlines."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medaug_cli.figures.drawing import as_svg, drawing, legend
from medaug_cli.figures.froc import COLOURS
from medaug_cli.figures.grid import as_picture
from medaug_cli.tables import printable

CELL, GAP, CAPTION = 192, 8, 34
PAPER, INK = (24, 24, 24), (235, 235, 235)
TRUTH = (255, 196, 0)
SYSTEMS = ((0, 214, 143), (86, 180, 233), (255, 92, 72), (204, 121, 167), (240, 228, 66))


def confusion_svg(matrices: Mapping[str, np.ndarray], names: Sequence[str]) -> str:
    """Draw a confusion matrix (k true, k predicted) a system: counts, shaded by the share of the true class."""
    from matplotlib.figure import Figure

    k, side = len(names), 1.6 + 0.55 * len(names)
    with drawing():
        figure = Figure(figsize=(side * len(matrices) + 0.6, side + 0.4), layout="constrained")
        panels = np.atleast_1d(figure.subplots(1, len(matrices)))
        for panel, (title, matrix) in zip(panels, matrices.items(), strict=True):
            share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
            panel.imshow(share, vmin=0, vmax=1, cmap="Blues")
            for i in range(k):
                for j in range(k):
                    colour = "white" if share[i, j] > 0.5 else "black"
                    panel.text(j, i, f"{matrix[i, j]:g}", ha="center", va="center", color=colour)
            panel.set_title(printable(title))
            panel.set_xticks(range(k), [printable(each) for each in names], rotation=30, ha="right")
            panel.set_yticks(range(k), [printable(each) for each in names])
            panel.set_xlabel("predicted")
        panels[0].set_ylabel("true")
        return as_svg(figure)


Curve = tuple[np.ndarray, np.ndarray]  # x, y
Band = tuple[np.ndarray, np.ndarray, np.ndarray]  # x, low, high


def roc_svg(curves: Mapping[str, Mapping[str, tuple[Curve, Band | None]]]) -> str:
    """Draw ROC curves: one panel a class, one curve a system with its 95 % band over patients."""
    return _panels(curves, ("1 - specificity", "sensitivity"), _diagonal)


def calibration_svg(curves: Mapping[str, Mapping[str, tuple[Curve, Band | None]]]) -> str:
    """Draw how often the predicted class is right where it is given a probability."""
    return _panels(curves, ("mean probability", "share that is right"), _diagonal)


def sizes_svg(points: Mapping[str, Curve]) -> str:
    """Draw Dice against the size of the truth in pixels, a point an image with a lesion."""
    from matplotlib.figure import Figure

    with drawing():
        figure = Figure(figsize=(5.2, 4.0), layout="constrained")
        panel = figure.subplots()
        named = []
        for i, (name, (size, score)) in enumerate(points.items()):
            colour = COLOURS[i % len(COLOURS)]
            drawn = panel.scatter(size, score, s=12, alpha=0.6, color=colour, linewidths=0)
            named.append((name, drawn))
        panel.set_xscale("log")
        panel.set_ylim(-0.03, 1.03)
        panel.set_xlabel("pixels of the lesion")
        panel.set_ylabel("Dice")
        legend(figure, named, loc="outside upper center", ncols=4, frameon=False)
        return as_svg(figure)


def _panels(
    curves: Mapping[str, Mapping[str, tuple[Curve, Band | None]]], words: tuple[str, str], begin: Any
) -> str:
    from matplotlib.figure import Figure

    with drawing():
        figure = Figure(figsize=(3.2 * len(curves) + 0.8, 3.8), layout="constrained")
        panels = np.atleast_1d(figure.subplots(1, len(curves), sharey=True))
        named: list[tuple[str, Any]] = []
        for panel, (title, systems) in zip(panels, curves.items(), strict=True):
            begin(panel)
            named = []
            for i, (name, ((x, y), band)) in enumerate(systems.items()):
                colour = COLOURS[i % len(COLOURS)]
                (line,) = panel.plot(x, y, color=colour, linewidth=1.4)
                if band is not None:
                    panel.fill_between(*band, color=colour, alpha=0.15, linewidth=0)
                named.append((name, line))
            panel.set_title(printable(title))
            panel.set_xlabel(words[0])
            panel.set_aspect("equal")
        panels[0].set_ylabel(words[1])
        legend(figure, named, loc="outside upper center", ncols=4, frameon=False)
        return as_svg(figure)


def _diagonal(panel: Any) -> None:
    panel.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, linestyle=":")
    panel.set_xlim(-0.02, 1.02)
    panel.set_ylim(-0.02, 1.02)


def captioned(images: Sequence[np.ndarray], captions: Sequence[Sequence[str]], columns: int = 6) -> Any:
    """Return a PIL picture of images (h, w, 3) uint8 side by side, each with up to two lines below it."""
    from PIL import Image, ImageDraw

    columns = min(columns, max(1, len(images)))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (CELL + GAP) + GAP, rows * (CELL + CAPTION + GAP) + GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    for place, (image, lines) in enumerate(zip(images, captions, strict=True)):
        x, y = GAP + place % columns * (CELL + GAP), GAP + place // columns * (CELL + CAPTION + GAP)
        factor = CELL / max(image.shape[:2])
        size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
        sheet.paste(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS), (x, y))
        for row, line in enumerate(lines[:2]):
            pen.text((x, y + CELL + 3 + 15 * row), printable(line)[:32], fill=INK)
    return sheet


def outlined(image: np.ndarray, masks: Sequence[np.ndarray]) -> np.ndarray:
    """Return an image (c, *s) as (h, w, 3) uint8 with outlines of masks (*s): the truth, then each system's.

    Of a volume it shows the slice in which the truth is largest. It is enlarged first, so that a line hides little.
    """
    from scipy import ndimage

    if image.ndim == 4:
        depth = int(masks[0].reshape(len(masks[0]), -1).sum(1).argmax()) if masks[0].any() else image.shape[1] // 2
        image, masks = image[:, depth], [mask[depth] for mask in masks]
    picture = as_picture(image)
    times = max(1, -(-CELL // max(picture.shape[:2])))
    picture = picture.repeat(times, 0).repeat(times, 1)
    for mask, colour in zip(masks, (TRUTH, *SYSTEMS), strict=False):
        large = mask.repeat(times, 0).repeat(times, 1)
        picture[large & ~ndimage.binary_erosion(large)] = colour
    return picture
