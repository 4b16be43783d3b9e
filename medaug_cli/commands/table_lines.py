"""A table as lines of text, for a terminal of any width."""

from collections.abc import Sequence
from itertools import count

from rich.cells import cell_len

from medaug_cli.tables import DASH, Cell, Table, printable


def table_lines(table: Table, width: int) -> list[str]:
    """Return the lines of a table, none longer than `width` unless a name or number alone is.

    Intervals stand below their values; where that is too wide they have a table of their own, and then columns go on
    below the first ones, with the names of the rows again. No name and no number is broken.
    """
    columns = [_Column(*column) for column in zip(table.header, *table.rows, strict=True)]
    if _width(columns) <= width:
        return [printable(table.title), *_block(columns, width)]
    values = [column.values for column in columns]
    named, others = values[: table.names], values[table.names :]
    lines = [printable(table.title), *_blocks(named, others, width)]
    limits = [column.limits for column in columns[table.names :] if any(cell.limits for cell in column.cells)]
    if limits:
        lines += [f"{printable(table.title)}: 95 % intervals", *_blocks(named, limits, width)]
    return lines


class _Column:
    """A column of a table: its heading, and the lines of each cell."""

    def __init__(self, heading: Cell, *cells: Cell):
        self.heading, self.cells = heading, cells
        self.lines = [[cell.value, *([_span(cell)] if cell.limits else [])] for cell in cells]
        self.lines = [[printable(" ".join(line.split())) for line in lines] for lines in self.lines]
        self.words = [printable(word) for word in ([heading.value] if heading.whole else heading.value.split())]
        self.width = max(map(cell_len, [*self.words, *(line for lines in self.lines for line in lines)]), default=0)

    @property
    def values(self) -> "_Column":
        return _Column(self.heading, *(Cell(cell.value) for cell in self.cells))

    @property
    def limits(self) -> "_Column":
        return _Column(self.heading, *(Cell(_span(cell) if cell.limits else DASH) for cell in self.cells))

    def widened(self, tall: int) -> int:
        """Return the width at which the heading has at most so many lines."""
        return next(width for width in count(self.width) if len(self.headings(width)) <= tall)

    def headings(self, width: int) -> list[str]:
        """Return the lines of the heading."""
        lines = [""]
        for word in self.words:
            if lines[-1] and cell_len(lines[-1]) + 1 + cell_len(word) > width:
                lines.append(word)
            else:
                lines[-1] = f"{lines[-1]} {word}".strip()
        return lines


def _span(cell: Cell) -> str:
    low, high = cell.limits or ("", "")
    return f"{low}–{high}" if low[:1].isdigit() else f"{low} to {high}"


def _width(columns: Sequence[_Column]) -> int:
    return 1 + sum(column.width + 2 for column in columns) - 2


def _blocks(named: Sequence[_Column], rest: Sequence[_Column], width: int) -> list[str]:
    """Return lines with as many columns side by side as there is room for, the others below, each with its names."""
    lines: list[str] = []
    while rest:
        most = max([i for i in range(1, len(rest) + 1) if _width([*named, *rest[:i]]) <= width], default=0)
        lines += _block([*named, *rest[:most]], width) if most else _stacked(named, rest)
        rest = rest[most:] if most else []
    return lines or _block(named, width)


def _block(columns: Sequence[_Column], width: int) -> list[str]:
    """Return the lines of columns side by side, their headings as low as there is room for."""
    for tall in (1, 2, 3):
        wide = [column.widened(tall) for column in columns]
        if 1 + sum(wide) + 2 * (len(wide) - 1) <= width:
            for column, room in zip(columns, wide, strict=True):
                column.width = room
            break
    heads = [column.headings(column.width) for column in columns]
    tall = max(map(len, heads))
    lines = [_line(columns, [([""] * (tall - len(head)) + head)[i] for head in heads]) for i in range(tall)]
    lines.append(" " + "─" * (_width(columns) - 1))
    for cells in zip(*(column.lines for column in columns), strict=True):
        lines += [
            _line(columns, [cell[i] if i < len(cell) else "" for cell in cells]) for i in range(max(map(len, cells)))
        ]
    return [*lines, ""]


def _line(columns: Sequence[_Column], texts: Sequence[str]) -> str:
    """Return texts side by side, the first at the left of its column, the others at the right."""
    room = [" " * (column.width - cell_len(text)) for column, text in zip(columns, texts, strict=True)]
    first = f" {texts[0]}{room[0]}"
    return "".join([first, *(f"  {space}{text}" for space, text in zip(room[1:], texts[1:], strict=True))]).rstrip()


def _stacked(named: Sequence[_Column], rest: Sequence[_Column]) -> list[str]:
    """Return each name on a line of its own, and a line for each of its values below."""
    lines = []
    for i in range(len(named[0].lines)):
        lines += [f" {column.lines[i][0]}" for column in named]
        lines += [f"   {printable(column.heading.value)}  {column.lines[i][0]}" for column in rest]
    return [*lines, ""]
