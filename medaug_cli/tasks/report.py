"""metrics.json of classifiers and segmenters, and its tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from medaug_cli.boxes import Strict
from medaug_cli.tables import DASH, Cell, Table, as_markdown, escaped, fixed, name, probability, table
from medaug_cli.tasks.comparison import SystemResult

Interval = tuple[float, float]


@dataclass(frozen=True)
class Words:
    """What a measure is called in tables, how many digits it is shown with, and whether more is better."""

    words: str
    digits: int = 3
    better: Literal[1, -1, 0] = 1  # 0: neither more nor less is good


class Value(Strict):
    """A number with its 95 % interval, resampling patients and seeds; the mean over seeds. Null: not available."""

    value: float | None
    interval: Interval | None
    seeds: list[float | None] = []  # each seed's, where there are several


class Difference(Strict):
    """This system less the first one, on the same patients."""

    difference: float
    interval: Interval  # 95 %, paired patient bootstrap
    p: float = Field(ge=0, le=1)  # two-sided, systems exchanged patient by patient
    p_holm: float = Field(ge=0, le=1)  # p, corrected for the number of systems compared
    verdict: Literal["better", "worse", "inconclusive"]


class TaskRow(Strict):
    """One network, or the seeds of one system."""

    name: str
    seeds: int = 1
    weights: str | None = None  # SHA-256 of each seed's weights, by commas
    values: dict[str, Value]
    against_first: dict[str, Difference | None] = {}


class TaskMetrics(Strict):
    """metrics.json of a classification or a segmentation."""

    version: Literal[1] = 1
    task: str
    tool_version: str
    split: str
    images: int
    patients: int
    counts: dict[str, int]  # images of each class, or with each label
    left_out: int = 0  # images of the split that have no truth to judge by
    resamples: int
    seed: int
    data: dict[str, str] = {}  # file -> SHA-256
    note: str | None = None
    rows: list[TaskRow]


def row_of(result: SystemResult, words: Mapping[str, Words], weights: Sequence[str]) -> TaskRow:
    """Return a system's row of metrics.json; a verdict says what is good, not what is more."""
    seeds = max(len(value.seeds) for value in result.values.values())
    values = {
        key: Value(value=each.value, interval=each.interval, seeds=list(each.seeds) if seeds > 1 else [])
        for key, each in result.values.items()
    }
    against: dict[str, Difference | None] = {}
    for key, compared in result.against_first.items():
        if compared is None:
            against[key] = None
            continue
        found = compared.difference
        against[key] = Difference(
            difference=found.difference,
            interval=found.interval,
            p=found.p,
            p_holm=compared.p_holm,
            verdict=_good(compared.verdict, words_of(words, key).better),
        )
    joined = ",".join(weights) or None
    return TaskRow(name=result.name, seeds=seeds, weights=joined, values=values, against_first=against)


def _good(verdict: str, better: int) -> Literal["better", "worse", "inconclusive"]:
    if verdict == "inconclusive" or better == 0:
        return "inconclusive"
    return "better" if (verdict == "better") == (better > 0) else "worse"


def words_of(words: Mapping[str, Words], key: str) -> Words:
    """Return the words of a measure; those of one class or label are its own with the name behind it."""
    base, bracket, rest = key.partition("[")
    if not bracket:
        return words[key]
    label, _, by = rest.partition("]")
    plain = words[base + by]
    return Words(f"{plain.words}, {label}", plain.digits, plain.better)


def tables(metrics: TaskMetrics, words: Mapping[str, Words], main: Sequence[str]) -> list[Table]:
    """Return the tables of a report in the order in which they are to be read: `main` measures first."""
    rest = [key for key in metrics.rows[0].values if key not in main]
    found = [_values(metrics, words, main, "Results")]
    if len(metrics.rows) > 1:
        found.append(_differences(metrics, words, main))
    return [*found, *([_values(metrics, words, rest, "All measures")] if rest else [])]


def data_note(metrics: TaskMetrics) -> list[str]:
    """Return the sentences that say what was evaluated."""
    counts = ", ".join(f"{label} {count}" for label, count in metrics.counts.items())
    said = [
        f"Data: {', '.join(metrics.data)}, split {metrics.split}: {metrics.images} images of {metrics.patients} "
        f"patients ({counts}). For research only."
    ]
    if metrics.left_out:
        said.append(f"{metrics.left_out} images of the split have no truth to judge by and are left out.")
    if metrics.patients < 2:
        said.append("One patient alone gives no interval and no comparison.")
    return [*said, *([metrics.note] if metrics.note else [])]


def markdown(metrics: TaskMetrics, words: Mapping[str, Words], main: Sequence[str]) -> str:
    """Return table.md."""
    parts = [f"# {metrics.task.capitalize()} results", escaped(" ".join(data_note(metrics)))]
    return "\n\n".join([*parts, *map(as_markdown, tables(metrics, words, main))]) + "\n"


def _values(metrics: TaskMetrics, words: Mapping[str, Words], keys: Sequence[str], title: str) -> Table:
    rows = []
    for key in keys:
        said = words_of(words, key)
        values = [row.values[key] for row in metrics.rows]
        rows.append([Cell(said.words), *(fixed(each.value, said.digits, each.interval) for each in values)])
    several = [f"{row.name} of {row.seeds}" for row in metrics.rows if row.seeds > 1]
    notes = [f"In brackets the 95 % interval of {metrics.resamples:,} resamples of patients."]
    if several:
        notes.append(f"Means over seeds ({', '.join(several)}); then intervals resample seeds as well.")
    return table(title, ["measure", *(name(row.name) for row in metrics.rows)], rows, notes)


def _differences(metrics: TaskMetrics, words: Mapping[str, Words], keys: Sequence[str]) -> Table:
    rows = []
    for row in metrics.rows[1:]:
        for key in keys:
            said, found = words_of(words, key), row.against_first.get(key)
            cells = [Cell(row.name), Cell(said.words)]
            if found is None:
                rows.append([*cells, *[Cell(DASH)] * 3, Cell("undefined")])
                continue
            shown = fixed(found.difference, said.digits, found.interval, sign="+")
            rows.append([*cells, shown, probability(found.p), probability(found.p_holm), Cell(found.verdict)])
    notes = (
        f"The same patients are resampled for both ({metrics.resamples:,} times); p is two-sided, of as many random "
        "exchanges of the two patient by patient; Holm corrects for the number of systems; a verdict needs p (Holm) "
        "below 0.05 and an interval without 0. The first measure is the primary one, the others are exploratory.",
    )
    header = ["system", "measure", "difference", "p", "p (Holm)", "verdict"]
    return table(f"Difference to {metrics.rows[0].name}", header, rows, notes)
