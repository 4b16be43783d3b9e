"""Pictures of classification and segmentation: confusion, ROC, calibration, mistakes; sizes and outlines."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medaug_cli.figures.drawing import as_svg, drawing, legend
from medaug_cli.figures.froc import COLOURS
from medaug_cli.figures.grid import as_picture
from medaug_cli.tables import printable

CELL, GAP, LINE, LETTERS = 192, 8, 15, 32  # pixels; letters that fit below a picture
PAPER, INK = (24, 24, 24), (235, 235, 235)
TRUTH = (255, 196, 0)
SYSTEMS = ((0, 214, 143), (86, 180, 233), (255, 92, 72), (204, 121, 167))
COLOUR_NAMES = ("yellow", "green", "blue", "red", "pink")  # of the truth, then of systems


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


def sizes_svg(panels: Mapping[str, Mapping[str, Curve]], words: str) -> str:
    """Draw Dice against the size of the truth, a panel a label, a point an image, a running mean a system."""
    from matplotlib.figure import Figure

    with drawing():
        figure = Figure(figsize=(4.4 * len(panels) + 0.8, 4.0), layout="constrained")
        axes = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
        named: dict[str, Any] = {}
        for panel, (label, points) in zip(axes, panels.items(), strict=True):
            for i, (name, (size, score)) in enumerate(points.items()):
                colour = COLOURS[i % len(COLOURS)]
                named[name] = panel.scatter(size, score, s=12, alpha=0.5, color=colour, linewidths=0)
                panel.plot(*_running_mean(size, score), color=colour, linewidth=1.4)
            panel.set_xscale("log")
            for axis in (panel.xaxis.set_major_formatter, panel.xaxis.set_minor_formatter):
                axis(_plain)
            panel.set_ylim(-0.03, 1.03)
            panel.set_xlabel(words)
            panel.set_title(printable(label))
        axes[0].set_ylabel("Dice")
        legend(figure, list(named.items()), loc="outside upper center", ncols=4, frameon=False)
        return as_svg(figure)


def _plain(value: float, place: int) -> str:
    """Return 1, 2 or 5 times a power of ten as it is read; matplotlib's own ticks of a log axis are formulas."""
    first = value / 10 ** np.floor(np.log10(value)) if value > 0 else 0
    return f"{value:,.6g}" if round(first, 6) in (1, 2, 5) else ""


def _running_mean(size: np.ndarray, score: np.ndarray) -> Curve:
    """Return the means of a third of the points, smallest first: few points swing, so fewer than nine have none."""
    window = len(size) // 3
    if window < 3:
        return size[:0], score[:0]
    order, kernel = np.argsort(size, kind="stable"), np.ones(window) / window
    along = np.exp(np.convolve(np.log(size[order]), kernel, "valid"))
    return along, np.convolve(score[order], kernel, "valid")


def _panels(curves: Mapping[str, Mapping[str, tuple[Curve, Band | None]]], words: tuple[str, str], begin: Any) -> str:
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
    """Return a PIL picture of images (h, w, 3) uint8 side by side, each with its lines below it."""
    from PIL import Image, ImageDraw

    columns, caption = min(columns, max(1, len(images))), 4 + LINE * max(map(len, captions), default=0)
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (CELL + GAP) + GAP, rows * (CELL + caption + GAP) + GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    for place, (image, lines) in enumerate(zip(images, captions, strict=True)):
        x, y = GAP + place % columns * (CELL + GAP), GAP + place // columns * (CELL + caption + GAP)
        factor = CELL / max(image.shape[:2])
        size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
        sheet.paste(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS), (x, y))
        for row, line in enumerate(lines):
            pen.text((x, y + CELL + 3 + LINE * row), _short(printable(line)), fill=INK)
    return sheet


def _short(line: str) -> str:
    return line if len(line) <= LETTERS else f"{line[: LETTERS - 3]}..."


def png(picture: Any) -> bytes:
    """Return a PIL picture as PNG."""
    target = io.BytesIO()
    picture.save(target, format="PNG", optimize=True)
    return target.getvalue()


def outlined(image: np.ndarray, maps: Sequence[np.ndarray]) -> np.ndarray:
    """Return an image (c, *s) as (h, w, 3) uint8 with outlines of label maps (*s): the truth's, then each system's.

    Of a volume it shows the slice in which the truth marks most, or an answer where that marks nothing. It is enlarged
    first, so that a line hides little.
    """
    from scipy import ndimage

    if image.ndim == 4:
        marked = next((each for each in maps if each.any()), maps[0])
        depth = int((marked > 0).reshape(len(marked), -1).sum(1).argmax()) if marked.any() else image.shape[1] // 2
        image, maps = image[:, depth], [each[depth] for each in maps]
    picture = as_picture(image)
    times = max(1, -(-CELL // max(picture.shape[:2])))
    picture = picture.repeat(times, 0).repeat(times, 1)
    for labels, colour in reversed(list(zip(maps, (TRUTH, *SYSTEMS), strict=False))):  # the truth on top
        large = labels.repeat(times, 0).repeat(times, 1)
        for value in np.unique(large[large > 0]):
            own = large == value
            picture[own & ~ndimage.binary_erosion(own)] = colour
    return picture
