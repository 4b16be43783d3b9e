"""metrics.json of classifiers and segmenters, and its tables."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from medaug_cli.boxes import Strict
from medaug_cli.metrics.differences import PairedDifference, exploratory, judged, of_trainings
from medaug_cli.metrics.measures import Measure
from medaug_cli.metrics.resampling import Answers, System, bootstrap_weights, compare, resampled_over, swaps
from medaug_cli.tables import DASH, Cell, Table, as_markdown, escaped, fixed, name, probability, table
from medaug_cli.tasks.task import measure_of
from medaug_cli.words import counted

Interval = tuple[float, float]
MOST_NAMED = 6  # numbers in a sentence


class Value(Strict):
    """A number with its 95 % interval, resampling patients and seeds; the mean over seeds. Null: not available."""

    value: float | None
    interval: Interval | None
    seeds: list[float | None] = []  # each seed's, where there are several


class TaskRow(Strict):
    """One network, or the seeds of one system."""

    name: str
    seeds: int = 1
    weights: str | None = None  # SHA-256 of each seed's weights, by commas
    values: dict[str, Value]
    against_first: dict[str, PairedDifference | None] = {}


class TaskMetrics(Strict):
    """metrics.json of a classification or a segmentation."""

    version: Literal[1] = 1
    task: str
    tool_version: str
    split: str | None  # None: of files
    resampled: Literal["patients", "images"] = "patients"  # images, where no patient has several
    images: int
    patients: int
    counts: dict[str, int]  # images of each class, or with each label
    left_out: int = 0  # images of the split that have no truth to judge by
    remarks: list[str] = []  # what a reader must know of the answers
    resamples: int
    seed: int
    data: dict[str, str] = {}  # file -> SHA-256
    note: str | None = None
    rows: list[TaskRow]


def rows_of(
    systems: Mapping[str, Sequence[Answers]],
    patients: int,
    resamples: int,
    seed: int,
    measures: Mapping[str, Measure],
    weights: Mapping[str, Sequence[str]] | None = None,
) -> list[TaskRow]:
    """Return a row of metrics.json a system, of one network a seed, with its difference to the first one.

    A number that rests on one patient has no interval and no difference: there is nothing to resample. `weights` are
    hashes.
    """
    drawn = bootstrap_weights(patients, resamples, seed)
    measured = [
        System.of(name, answers, drawn, resampled_over(answers[0], patients), seed) for name, answers in systems.items()
    ]
    swap = swaps(patients, resamples, seed)
    family = [compare(measured[0], each, swap) for each in measured[1:]] if patients > 1 else []
    compared = [{}, *judged(family, lambda key: measure_of(measures, key))]
    return [
        TaskRow(
            name=each.name,
            seeds=len(each.points),
            weights=",".join((weights or {}).get(each.name, ())) or None,
            values={key: _value(each, key, patients) for key in each.points[0]},
            against_first=compared[k] if k < len(compared) else {},
        )
        for k, each in enumerate(measured)
    ]


def lone_words(rows: Sequence[TaskRow], measures: Mapping[str, Measure], unit: str) -> list[str]:
    """Say which numbers of several patients (`unit`) have no interval: those that rest on one of them."""
    lone = [
        measure_of(measures, key).words
        for key in rows[0].values
        if any(row.values[key].value is not None and row.values[key].interval is None for row in rows)
    ]
    if not lone:
        return []
    more = f" and {len(lone) - MOST_NAMED} more" if len(lone) > MOST_NAMED else ""
    named = "; ".join(lone[:MOST_NAMED])
    return [f"No interval and no comparison, since each rests on one {unit} alone: {named}{more}."]


def _value(system: System, key: str, patients: int) -> Value:
    seeds = [each[key] if np.isfinite(each[key]) else None for each in system.points]
    if None in seeds:
        return Value(value=None, interval=None, seeds=seeds if len(seeds) > 1 else [])
    limits = system.interval(key) if patients > 1 else None
    return Value(value=system.mean(key), interval=limits, seeds=seeds if len(seeds) > 1 else [])


def tables(metrics: TaskMetrics, measures: Mapping[str, Measure], main: Sequence[str]) -> list[Table]:
    """Return the tables of a report in the order in which they are to be read: `main` measures first."""
    rest = [key for key in metrics.rows[0].values if key not in main]
    found = [_values(metrics, measures, main, "Results")]
    if len(metrics.rows) > 1:
        found.append(_differences(metrics, measures, main))
    return [*found, *([_values(metrics, measures, rest, "All measures")] if rest else [])]


def data_note(metrics: TaskMetrics) -> list[str]:
    """Return the sentences that say what was evaluated."""
    counts = ", ".join(f"{label} {count}" for label, count in metrics.counts.items())
    named = metrics.resampled == "patients"
    of = f" of {counted(metrics.patients, 'patient')}" if named else ""
    said = [
        f"Data: {', '.join(metrics.data)}{f', split {metrics.split}' if metrics.split else ''}: "
        f"{counted(metrics.images, 'image')}{of}{f' ({counts})' if counts else ''}. For research only."
    ]
    if metrics.left_out:
        count = counted(metrics.left_out, "image")
        said.append(f"Left out, for lack of what they would be judged by: {count} of the split.")
    if metrics.patients < 2:
        said.append(f"A single {'patient' if named else 'image'} gives no interval and no comparison.")
    if not named:
        said.append(
            "No patient is named for several images, so images are resampled as if each were of another patient."
        )
    return [*said, *metrics.remarks, *([metrics.note] if metrics.note else [])]


def markdown(metrics: TaskMetrics, measures: Mapping[str, Measure], main: Sequence[str]) -> str:
    """Return table.md."""
    parts = [f"# {metrics.task.capitalize()} results", escaped(" ".join(data_note(metrics)))]
    return "\n\n".join([*parts, *map(as_markdown, tables(metrics, measures, main))]) + "\n"


def _values(metrics: TaskMetrics, measures: Mapping[str, Measure], keys: Sequence[str], title: str) -> Table:
    rows = []
    for key in keys:
        said = measure_of(measures, key)
        values = [row.values[key] for row in metrics.rows]
        rows.append([Cell(said.words), *(fixed(each.value, said.digits, each.interval) for each in values)])
    several = [f"{row.name} of {row.seeds}" for row in metrics.rows if row.seeds > 1]
    notes = []
    if any(row.values[key].interval for row in metrics.rows for key in keys):
        notes.append(f"In brackets the 95 % interval of {metrics.resamples:,} resamples of {metrics.resampled}.")
    if several:
        notes.append(f"Means over seeds ({', '.join(several)}); then intervals resample seeds as well.")
    return table(title, ["measure", *(name(row.name) for row in metrics.rows)], rows, notes)


def _differences(metrics: TaskMetrics, measures: Mapping[str, Measure], keys: Sequence[str]) -> Table:
    rows = []
    for row in metrics.rows[1:]:
        for key in keys:
            said, found = measure_of(measures, key), row.against_first.get(key)
            cells = [Cell(row.name), Cell(said.words)]
            if found is None:
                rows.append([*cells, *[Cell(DASH)] * 3, Cell("undefined")])
                continue
            ps = [probability(found.p), probability(found.p_holm)]
            rows.append([*cells, found.cell(said.digits), *ps, found.said(primary=key == keys[0])])
    one = metrics.resampled.removesuffix("s")
    notes = (
        f"The same {metrics.resampled} are resampled for both ({metrics.resamples:,} times); p is two-sided, of as "
        f"many random exchanges of the two {one} by {one}; Holm corrects for the number of systems; a verdict needs "
        "p (Holm) below 0.05 and an interval without 0. "
        + of_trainings([row.seeds for row in metrics.rows], "network"),
        exploratory(measure_of(measures, keys[0]).words),
    )
    header = ["system", "measure", "difference", "p", "p (Holm)", "verdict"]
    return table(f"Difference to {metrics.rows[0].name}", header, rows, notes, names=2)
