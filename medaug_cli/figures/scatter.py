"""The picture of `medaug tsne`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli.figures.drawing import drawing, legend
from medaug_cli.figures.grid import as_picture
from medaug_cli.files import new_file
from medaug_cli.tables import Table, printable

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito
MARKERS = ("o", "^", "s", "D", "v", "P")
LEGEND = 16  # entries of a legend; more would hide the map


Example = tuple[str, np.ndarray, np.ndarray]  # set, place on the map, image
Pair = tuple[np.ndarray, np.ndarray, float]  # synthetic image, training image, distance


def save_scatter(
    path: Path,
    report: Any,
    numbers: Table,
    examples: Sequence[Example],
    pairs: Mapping[str, list[Pair]],
    groups: Sequence[str] | None = None,
) -> None:
    """Publish the map of an `embedding.MapReport` as PNG: a marker a set, its table, pictures, and below the pairs of
    a synthetic image and its nearest training image that are most alike.

    The colour is the set's, or that of each point's group where `groups` names them.
    """
    with drawing(size=10), new_file(path) as temporary:
        _figure(report, numbers, examples, pairs, groups).savefig(temporary, format="png")


def _figure(
    report: Any,
    numbers: Table,
    examples: Sequence[Example],
    pairs: Mapping[str, list[Pair]],
    groups: Sequence[str] | None,
) -> Any:
    from matplotlib.figure import Figure

    rows = max(1, len(report.panels) // 2)
    height = 7.2 if rows == 1 else 4.6 * rows
    figure = Figure(figsize=(11, height + len(pairs)), dpi=110, layout="constrained")
    grid = figure.add_gridspec(1 + len(pairs), 2, width_ratios=(3, 1.25), height_ratios=(height, *[1.0] * len(pairs)))
    caption = "\n".join(map(printable, _sentences(numbers)))
    if report.panels:
        _panels(figure, grid[0, 0], report, groups, caption)
    else:
        axes = _map(figure, grid[0, 0], report.points, groups)
        axes.set_title(
            f"t-SNE of {printable(report.features)}, perplexity {report.perplexity:g}, "
            f"trustworthiness {report.trustworthiness:.2f}"
        )
        axes.set_xlabel(caption, fontsize=8.5, loc="left")
    _thumbnails(figure, grid[0, 1], examples, list(_by_set(report.points)))
    for row, (name, own) in enumerate(pairs.items(), 1):
        _show_pairs(figure, grid[row, :], name, own, COLOURS[row % len(COLOURS)])
    return figure


def _panels(figure: Any, place: Any, report: Any, groups: Sequence[str] | None, caption: str) -> None:
    """Draw a row a classifier: on the left the real images alone, on the right the synthetic ones among them."""
    grid = place.subgridspec(len(report.panels) // 2, 2, wspace=0.05)
    for k, panel in enumerate(report.panels):
        own = None if groups is None else groups[: len(panel.points)]
        axes = _map(figure, grid[k // 2, k % 2], panel.points, own, named=k == 1)
        which = "real and synthetic" if panel.synthetic else "real alone"
        trust = f"trustworthiness {panel.trustworthiness:.2f}"
        axes.set_title(f"{printable(panel.features)}, {which} ({trust})", fontsize=9)
        if k == len(report.panels) - 2:
            axes.set_xlabel(caption, fontsize=7, loc="left")


def _map(figure: Any, place: Any, points: Sequence[Any], groups: Sequence[str] | None, named: bool = True) -> Any:
    """Draw points as dots, coloured by their sets or `groups`; `named` with a legend. Return the axes."""
    dims = len(points[0].at)
    axes: Any = figure.add_subplot(place, projection="3d" if dims == 3 else None)
    drawn = _dots(axes, _by_set(points)) if groups is None else _grouped_dots(axes, points, groups)
    if named and len(drawn) <= LEGEND:
        legend(axes, drawn, loc="best", frameon=True)
    axes.set_xticks([])
    axes.set_yticks([])
    if dims == 3:
        axes.set_zticks([])
    return axes


def _dots(axes: Any, places: Mapping[str, np.ndarray]) -> list[tuple[str, Any]]:
    named = []
    for number, (name, at) in enumerate(places.items()):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        drawn = axes.scatter(*at.T, s=14, alpha=0.6, color=colour, marker=marker, linewidths=0)
        named.append((f"{name} ({len(at):,})", drawn))
    return named


def _grouped_dots(axes: Any, points: Sequence[Any], groups: Sequence[str]) -> list[tuple[str, Any]]:
    """Draw a colour a group and a marker a set."""
    from matplotlib import colormaps

    names, sets = sorted(set(groups)), list(dict.fromkeys(point.set for point in points))
    wheel = colormaps["hsv"]
    at = np.array([point.at for point in points])
    named = []
    for k, name in enumerate(names):
        colour = COLOURS[k] if len(names) <= len(COLOURS) else wheel(k / len(names))
        for number, own in enumerate(sets):
            mine = [i for i, point in enumerate(points) if groups[i] == name and point.set == own]
            if mine:
                marker = MARKERS[number % len(MARKERS)]
                drawn = axes.scatter(*at[mine].T, s=16, alpha=0.6, color=colour, marker=marker, linewidths=0)
                named.append((f"{name}, {own} ({len(mine):,})", drawn))
    return named


def _by_set(points: Sequence[Any]) -> dict[str, np.ndarray]:
    found: dict[str, list[list[float]]] = {}
    for point in points:
        found.setdefault(point.set, []).append(point.at)
    return {name: np.array(at) for name, at in found.items()}


def _sentences(numbers: Table) -> list[str]:
    """Return a line of numbers a set."""
    headings = [heading.value for heading in numbers.header[1:]]
    return [
        f"{named.value}: " + ", ".join(f"{h} {cell}" for h, cell in zip(headings, cells, strict=True) if cell.text)
        for named, *cells in numbers.rows
    ]


def _thumbnails(figure: Any, place: Any, examples: Sequence[Example], names: list[str]) -> None:
    most = max(sum(name == each for each, _, _ in examples) for name in names)
    grid = place.subgridspec(most, len(names), wspace=0.05, hspace=0.05)
    for column, name in enumerate(names):
        own = [image for each, _, image in examples if each == name]
        for row, image in enumerate(own):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(as_picture(image))
            axes.set_xticks([])
            axes.set_yticks([])
            for side in axes.spines.values():
                side.set_edgecolor(COLOURS[column % len(COLOURS)])
                side.set_linewidth(2)
            if row == 0:
                axes.set_title(printable(name), fontsize=9)


def _show_pairs(figure: Any, place: Any, name: str, pairs: Sequence[Pair], colour: str) -> None:
    grid = place.subgridspec(1, 2 * len(pairs), wspace=0.05)
    for number, (synthetic, real, distance) in enumerate(pairs):
        for side, image in enumerate((synthetic, real)):
            axes = figure.add_subplot(grid[0, 2 * number + side])
            axes.imshow(as_picture(image))
            axes.set_xticks([])
            axes.set_yticks([])
            for spine in axes.spines.values():
                spine.set_edgecolor(COLOURS[0] if side else colour)
                spine.set_linewidth(2)
            if side:
                axes.set_title(f"training, {distance:.2f}", fontsize=7)
            else:
                axes.set_title(printable(name if number else f"nearest: {name}"), fontsize=7)
