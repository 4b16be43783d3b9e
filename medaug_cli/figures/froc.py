"""FROC curves as SVG."""

import io
from collections.abc import Mapping, Sequence

import numpy as np

from medaug_cli.metrics.operating import MATCHED_FPS, Froc
from medaug_cli.metrics.report import Metrics, label

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")  # Okabe and Ito
DASHES = ("-", "--", "-.", ":")
LEAST, MOST = 1 / 16, 16.0  # false positives per slice shown
POINTS = 2000  # kept of a longer curve


def froc_svg(metrics: Metrics, curves: Mapping[float, Sequence[Froc]]) -> str:
    """Draw one panel an IoU, one curve a detector, with 95 % intervals at matched false positives, as SVG text."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with matplotlib.rc_context({"svg.hashsalt": "medaug", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(1.2 + 4.2 * len(curves), 4.2), layout=ConstrainedLayoutEngine(wspace=0.06))
        panels = np.atleast_1d(figure.subplots(1, len(curves), sharey=True))
        for panel, (iou, frocs) in zip(panels, curves.items(), strict=True):
            _label(panel, iou)
            for i, curve in enumerate(frocs):
                _draw(panel, metrics, i, iou, curve)
        panels[0].set_ylabel("sensitivity")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
        target = io.BytesIO()
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": "medaug"})
    return target.getvalue().decode()


def _draw(panel, metrics: Metrics, i: int, iou: float, curve: Froc) -> None:
    row, colour = metrics.rows[i], COLOURS[i % len(COLOURS)]
    x, y = drawn_curve(curve)
    panel.plot(x, y, color=colour, linestyle=DASHES[i % len(DASHES)], label=row.detector, linewidth=1.6)
    panel.plot([x[-1], MOST], [y[-1], y[-1]], color=colour, linestyle=(0, (1, 4)), linewidth=1)
    panel.plot(x[-1:], y[-1:], "|", color=colour, markersize=9)
    at = row.iou[label(iou)]
    for fps in MATCHED_FPS:
        limits, here = at.interval[f"sensitivity_at_{label(fps)}"], at.at_fps[label(fps)]
        if limits and here is not None and fps <= at.curve_ends_at:
            beside = fps * 1.04 ** (i - (len(metrics.rows) - 1) / 2)
            panel.plot([beside, beside], limits, color=colour, linewidth=1, alpha=0.7)
            panel.plot([beside], [here], "o", color=colour, markersize=3.5)


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


def _label(panel, iou: float) -> None:
    panel.set_xscale("log", base=2)
    panel.set_xlim(LEAST, MOST)
    panel.set_ylim(0, 1.02)
    ticks = [2.0**power for power in range(-4, 5)]
    panel.set_xticks(ticks, [f"1/{round(1 / tick)}" if tick < 1 else f"{tick:g}" for tick in ticks])
    panel.set_xlabel("false positives per slice")
    panel.set_title(f"IoU ≥ {label(iou)}", fontsize=10)
    panel.grid(color="#dddddd", linewidth=0.6)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
