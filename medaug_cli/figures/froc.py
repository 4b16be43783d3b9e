"""FROC curves as SVG, and as a table."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medaug_cli.figures.drawing import as_svg, drawing, legend
from medaug_cli.metrics.operating import MATCHED_FPS, Froc
from medaug_cli.metrics.report import Metrics, hit_words, label

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")  # Okabe and Ito
DASHES = ("-", "--", "-.", ":")
LEAST, MOST = 1 / 16, 16.0  # false positives per slice shown
POINTS = 2000  # kept of a longer curve


Curves = Mapping[float, Sequence[Sequence[Froc]]]  # IoU -> of each detector -> of each seed


def froc_csv(metrics: Metrics, curves: Curves) -> str:
    """Return every corner of every curve with the score behind it; straight lines join them."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["detector", "seed", "iou", "fps_per_slice", "sensitivity", "score"])
    for iou, each in curves.items():
        for row, seeds in zip(metrics.rows, each, strict=True):
            for seed, curve in enumerate(seeds):
                kept = corners(np.nan_to_num(curve.sensitivity))
                columns = curve.fps_per_slice[kept], curve.sensitivity[kept], curve.thresholds[kept]
                writer.writerows([row.detector, seed, label(iou), *point] for point in np.stack(columns, 1).tolist())
    return text.getvalue()


def corners(heights: np.ndarray) -> np.ndarray:
    """Tell which points of a curve are needed to draw it: where its height has changed or is about to, and the ends."""
    changed = np.flatnonzero(np.diff(heights))
    kept = np.zeros(len(heights), bool)
    kept[changed] = kept[changed + 1] = kept[0] = kept[-1] = True
    return kept


def froc_svg(metrics: Metrics, curves: Curves) -> str:
    """Draw one panel an IoU, one curve a detector (and seed), with 95 % intervals at matched rates, as SVG text."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with drawing():
        figure = Figure(figsize=(1.2 + 4.2 * len(curves), 4.2), layout=ConstrainedLayoutEngine(wspace=0.06))
        panels = np.atleast_1d(figure.subplots(1, len(curves), sharey=True))
        named: list[tuple[str, Any]] = []
        for panel, (iou, frocs) in zip(panels, curves.items(), strict=True):
            _label(panel, hit_words(metrics.rule, f"≥ {label(iou)}"))
            named = [(metrics.rows[i].detector, _draw(panel, metrics, i, iou, seeds)) for i, seeds in enumerate(frocs)]
        panels[0].set_ylabel("sensitivity")
        legend(figure, named, loc="outside upper center", ncols=4, frameon=False)
        return as_svg(figure)


def _draw(panel: Any, metrics: Metrics, i: int, iou: float, seeds: Sequence[Froc]) -> Any:
    """Draw a detector's curves; return the line of its first seed."""
    row, colour = metrics.rows[i], COLOURS[i % len(COLOURS)]
    width, lines = (1.6 if len(seeds) == 1 else 0.9), []
    for curve in seeds:
        x, y = drawn_curve(curve)
        lines += panel.plot(x, y, color=colour, linestyle=DASHES[i % len(DASHES)], linewidth=width)
        panel.plot([x[-1], MOST], [y[-1], y[-1]], color=colour, linestyle=(0, (1, 4)), linewidth=1)
        panel.plot(x[-1:], y[-1:], "|", color=colour, markersize=9)
    at = row.iou[label(iou)]
    for fps in MATCHED_FPS:
        limits, here = at.interval[f"sensitivity_at_{label(fps)}"], at.at_fps[label(fps)]
        if limits and here is not None and fps <= at.curve_ends_at:
            beside = fps * 1.04 ** (i - (len(metrics.rows) - 1) / 2)
            panel.plot([beside, beside], limits, color=colour, linewidth=1, alpha=0.7)
            panel.plot([beside], [here], "o", color=colour, markersize=3.5)
    return lines[0]


def drawn_curve(curve: Froc) -> tuple[np.ndarray, np.ndarray]:
    """Return the points (x, y) to draw: straight over false positives, which are curves over their logarithm.

    What lies left of the panel is left out; a curve that ends there is one point at the edge.
    """
    x, y = curve.fps_per_slice, np.nan_to_num(curve.sensitivity)
    grid = np.geomspace(LEAST, max(MOST, x[-1]), POINTS)
    if len(x) > POINTS:
        kept = np.unique(np.searchsorted(x, grid, "right") - 1)
        x, y = np.append(x[kept], x[-1]), np.append(y[kept], y[-1])
    between = grid[(grid > x[0]) & (grid < x[-1])]
    points = np.concatenate([x, between]), np.concatenate([y, np.interp(between, x, y)])
    order = np.lexsort(points[::-1])
    x, y = points[0][order], points[1][order]
    first = min(int(np.searchsorted(x, LEAST, "right")), len(x)) - 1  # the last point at or before the edge
    return np.maximum(x[first:], LEAST), y[first:]


def _label(panel: Any, title: str) -> None:
    panel.set_xscale("log", base=2)
    panel.set_xlim(LEAST, MOST)
    panel.set_ylim(0, 1.02)
    ticks = [2.0**power for power in range(-4, 5)]
    panel.set_xticks(ticks, [f"1/{round(1 / tick)}" if tick < 1 else f"{tick:g}" for tick in ticks])
    panel.set_xlabel("false positives per slice")
    panel.set_title(title, fontsize=10)
    panel.grid(color="#dddddd", linewidth=0.6)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
