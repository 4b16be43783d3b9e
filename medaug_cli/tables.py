"""One formatted table: the terminal, Markdown, HTML, CSV and pictures all show its cells, so none can differ."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

DASH = "–"  # of a value that is not defined
Limits = tuple[float, float]


@dataclass(frozen=True)
class Cell:
    """A formatted value, its 95 % interval where it has one, and a mark that a note explains."""

    text: str
    limits: tuple[str, str] | None = None
    mark: str = ""
    whole: bool = False  # a heading that is a name: it is not broken at its spaces

    @property
    def value(self) -> str:
        """Return the value and its mark, without the interval."""
        return self.text + self.mark

    @property
    def interval(self) -> str:
        """Return the interval in brackets, or nothing."""
        return f"[{self.limits[0]}, {self.limits[1]}]" if self.limits else ""

    def __str__(self) -> str:
        return f"{self.text} {self.interval}".rstrip() + self.mark


@dataclass(frozen=True)
class Table:
    """A titled table, with notes below it; the first column, or the first `names`, name the rows."""

    title: str
    header: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]
    notes: tuple[str, ...] = ()
    names: int = 1


def table(
    title: str, header: Sequence[Cell | str], rows: Sequence[Sequence[Cell | str]], notes: Sequence[str] = (),
    names: int = 1,
) -> Table:  # fmt: skip
    """Return a table of cells and plain texts."""
    return Table(title, _cells(header), [_cells(row) for row in rows], tuple(notes), names)


def _cells(row: Sequence[Cell | str]) -> list[Cell]:
    return [cell if isinstance(cell, Cell) else Cell(cell) for cell in row]


def name(text: str) -> Cell:
    """Return a heading that is a name."""
    return Cell(text, whole=True)


def fixed(value: float | None, digits: int = 3, limits: Limits | None = None, mark: str = "", sign: str = "") -> Cell:
    """Return a number with so many digits behind the point, and its interval; `sign` "+" writes both signs."""
    if value is None:
        return Cell(DASH, mark=mark)
    form = f"{sign}.{digits}f"
    return Cell(format(value, form), limits and (format(limits[0], form), format(limits[1], form)), mark)


def significant(value: float | None, digits: int = 3) -> Cell:
    """Return a number with so many significant digits, zeros at its end included."""
    return Cell(DASH if value is None else f"{value:#.{digits}g}".removesuffix("."))


def probability(p: float) -> Cell:
    """Return a p value."""
    return Cell("< 0.001" if p < 0.001 else f"{p:.3f}")


UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Return `text` with what would move a cursor or turn a line around written out, as in \\x1b."""
    return UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def as_markdown(table: Table) -> str:
    """Return a table with its title and notes as Markdown."""
    rule = ["---", *["---:"] * (len(table.header) - 1)]
    lines = [_row(map(str, table.header)), _row(rule, plain=True), *(_row(map(str, row)) for row in table.rows)]
    return "\n\n".join([f"## {escaped(table.title)}", "\n".join(lines), *map(escaped, table.notes)])


def _row(cells, plain: bool = False) -> str:
    return "| " + " | ".join(cell if plain else escaped(cell).replace("|", "\\|") for cell in cells) + " |"


MARKUP = re.compile(  # what Markdown, as of CommonMark or GitHub, would not show as it stands
    r"\\(?=[!-/:-@\[-`{-~])|[`*~$]|(?<![^\W_])_|_(?![^\W_])|<(?! )|&(?=#?\w+;)|\[(?=[^\]]*\]\()|(?<!\w):(?=\w+:)"
)


def escaped(text: str) -> str:
    """Return text that Markdown shows as it is; what is not markup stays as it is."""
    return MARKUP.sub(lambda found: "\\" + found[0], printable(text).replace("\n", " "))


def as_csv(tables: Sequence[Table]) -> str:
    """Return a row for each value of each table: table, row, column, value, low, high."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["table", "row", "column", "value", "low", "high"])
    for each in tables:
        for first, *cells in each.rows:
            for column, cell in zip(each.header[1:], cells, strict=True):
                low, high = cell.limits or ("", "")
                writer.writerow([each.title, first.value, column.value, cell.text, low, high])
    return text.getvalue()
