"""Every number shown is the number measured: each form of a table, read back, is what metrics.json says."""

import csv
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.cells import cell_len
from thoroughness import examples

from medaug_cli.commands.table_lines import table_lines
from medaug_cli.figures.evaluation_page import evaluation_html
from medaug_cli.metrics.differences import PairedDifference
from medaug_cli.metrics.operating import MATCHED_FPS
from medaug_cli.metrics.report import AtIou, Metrics, Row
from medaug_cli.metrics.table import markdown, tables
from medaug_cli.tables import Cell, as_csv, as_markdown, fixed, printable, table

WIDTHS = (80, 100, 200)
NAMES = (
    "found[v2]", "run[b]1", "[/]", "[bold]x[/bold]", "_baseline", "_a_", "__b__", "*a*", "a*b*c", "$T_{1$", "$x$ $y$",
    ":x:", ":smile:", "<b>bold</b>", "&amp; & &#65;", "a|b", "`code`", "~~gone~~", "[a](b)", "![a](b)", "back\\slash",
    "\\*", "1. one", "# title", "- item", "Größe 3", "病変", "🧠 brain", "two words", "0.5 [0.1, 0.9]", "20.54",
    "a" * 30,
)  # fmt: skip
name = st.one_of(st.sampled_from(NAMES), st.text("[]_*$:<>&|`~\\/ab0. ", min_size=1, max_size=12))
names = name.map(lambda text: " ".join(text.split())).filter(bool)
number = st.one_of(
    st.floats(0, 1), st.floats(0, 1e6), st.integers(0, 300).map(float), st.sampled_from((0.0, 10.2, 20.54, 110.2, 1e-9))
)
pairs = st.tuples(number, number).map(lambda two: (min(two), max(two)))
signed = st.tuples(number, st.sampled_from((-1, 1))).map(lambda two: two[0] * two[1])
signed_pairs = st.tuples(signed, signed).map(lambda two: (min(two), max(two)))


@st.composite
def cells(draw):
    limits = draw(st.one_of(st.none(), pairs))
    return fixed(draw(st.one_of(st.none(), number)), draw(st.integers(0, 4)), limits, draw(st.sampled_from(("", "†"))))


@st.composite
def drawn_tables(draw):
    columns = draw(st.integers(1, 9))
    rows = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    header = ["detector", *(draw(st.one_of(names, names.map(lambda n: Cell(n, whole=True)))) for _ in range(columns))]
    return table("A title", header, [[row, *(draw(cells()) for _ in range(columns))] for row in rows])


def read_lines(lines, rows):
    """Return the values and the intervals of each row of a table as a terminal shows it, in order."""
    values, limits, current, to = {row: [] for row in rows}, {row: [] for row in rows}, None, None
    to = values
    for line in lines:
        if line.endswith(": 95 % intervals"):
            to = limits
        first, *rest = re.split(r" {2,}", line.strip())
        if line.startswith(" ") and first in values and line[1:].startswith(first):
            current = first
            to[current] += rest
        elif current and re.match(r" {3}", line):  # an interval below its value
            limits[current] += [first, *rest]
        else:
            current = None
    return values, limits


def span(cell):
    low, high = cell.limits
    return f"{low}–{high}" if low[0].isdigit() else f"{low} to {high}"


@examples(40)
@given(drawn_tables(), st.sampled_from(WIDTHS))
def test_a_terminal_shows_every_name_and_number_whole(drawn, width):
    lines = table_lines(drawn, width)
    assert max(map(cell_len, lines)) <= width
    rows = {row[0].text: row[1:] for row in drawn.rows}
    values, limits = read_lines(lines[1:], rows)
    for name, own in rows.items():
        assert values[name] == [cell.value for cell in own]
        assert [each for each in limits[name] if each != "–"] == [span(cell) for cell in own if cell.limits]
    for heading in drawn.header:
        assert not heading.whole or any(heading.text in line for line in lines)


def test_a_name_wider_than_the_terminal_stands_alone():
    name = "n" * 100
    lines = table_lines(table("T", ["detector", "mAP"], [[name, fixed(20.54, 2, (10.2, 30.8))]]), 80)
    assert f" {name}" in lines
    assert "   mAP  20.54" in lines
    assert "   mAP  10.20–30.80" in lines


def test_the_narrow_terminal_keeps_the_digits_before_the_point():
    drawn = table("T", ["d", "FPs"], [["a", fixed(20.54, 2, (10.2, 110.8))], ["b", fixed(0.5, 2, (0.25, 0.75))]])
    text = "\n".join(table_lines(drawn, 80))
    assert "10.20–110.80" in text
    assert "0.25–0.75" in text


def read_markdown(text):
    """Return the cells of every table as CommonMark and GitHub's tables show them."""
    found, row = [], []
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            row = []
        elif token.type == "tr_close":
            found[-1].append(row)
        elif token.type == "inline" and token.level == 4 and found:
            assert all(child.type in ("text", "text_special") for child in token.children or [])
            row.append("".join(child.content for child in token.children or []))
    return found


@examples(40)
@given(drawn_tables())
def test_markdown_shows_every_name_and_number(drawn):
    [[header, *rows]] = read_markdown(as_markdown(drawn))
    assert header == [cell.text for cell in drawn.header]
    assert rows == [[str(cell) for cell in row] for row in drawn.rows]


@examples(50)
@given(drawn_tables())
def test_csv_holds_every_name_and_number(drawn):
    rows = list(csv.DictReader(io.StringIO(as_csv([drawn]))))
    told = [
        (row[0].text, heading.text, cell.text, *(cell.limits or ("", "")))
        for row in drawn.rows
        for heading, cell in zip(drawn.header[1:], row[1:], strict=True)
    ]
    assert [(r["row"], r["column"], r["value"], r["low"], r["high"]) for r in rows] == told


# metrics.json


@st.composite
def at_iou(draw):
    keys = ["sensitivity", "fps_per_slice", *(f"sensitivity_at_{fps:g}" for fps in MATCHED_FPS), "cpm", "mAP"]
    maybe, limits = st.one_of(st.none(), number), st.one_of(st.none(), pairs)
    return AtIou(
        sensitivity=draw(maybe), fps_per_slice=draw(maybe), at_fps={f"{fps:g}": draw(maybe) for fps in MATCHED_FPS},
        cpm=draw(maybe), mAP=draw(maybe), interval={key: draw(limits) for key in keys},
        thresholds={f"{fps:g}": draw(maybe) for fps in MATCHED_FPS}, curve_ends_at=draw(number),
    )  # fmt: skip


@st.composite
def paired(draw):
    p = draw(st.floats(0, 1))
    return PairedDifference(
        difference=draw(signed), interval=draw(signed_pairs), p=p, p_bootstrap=p, p_holm=p, verdict="inconclusive"
    )


@st.composite
def metrics(draw):
    rows = []
    for detector in draw(st.lists(names, min_size=1, max_size=3, unique=True)):
        compared = {key: draw(paired()) for key in ("mAP", "sensitivity_at_1", "sensitivity_at_4", "cpm")}
        rows.append(
            Row(
                detector=detector, mAP=draw(number), ap={}, iou={iou: draw(at_iou()) for iou in ("0.5", "0.25")},
                against_first={"0.5": compared} if rows else None, coco=None,
            )
        )  # fmt: skip
    return Metrics(
        threshold=0.001, split="test", slices=3, slices_without_boxes=0, boxes=3, boxes_by_label={"a": 3}, patients=3,
        resamples=100, seed=0, rows=rows,
    )  # fmt: skip


def told(found):
    """Return what metrics.json says in the tables' order: value, low, high of each number of Table 1 and the next."""
    for row in found["rows"]:
        yield row["mAP"], *(row["iou"]["0.5"]["interval"]["mAP"] or (None, None))
        for at in row["iou"].values():
            for key in ("sensitivity", "fps_per_slice"):
                yield at[key], *(at["interval"][key] or (None, None))
    for iou in ("0.5", "0.25"):
        for at in (row["iou"][iou] for row in found["rows"]):
            for key, value in at["at_fps"].items():
                yield value, *(at["interval"][f"sensitivity_at_{key}"] or (None, None))
            yield at["cpm"], *(at["interval"]["cpm"] or (None, None))


def shown(text):
    """Return the numbers of a cell: value, low, high."""
    found = re.fullmatch(r"([-+0-9.]+|–)(?: \[([-+0-9.]+), ([-+0-9.]+)\])?†?", text)
    return tuple(None if each in (None, "–") else each for each in found.groups())


def agree(text, value):
    """Tell whether a text is a number rounded to its own digits."""
    if text is None or value is None:
        return text is None and value is None
    return abs(float(text) - value) <= 0.5000001 * 10.0 ** -len(text.partition(".")[2]) + 1e-9 * abs(value)


def check(cells, found):
    expected = list(told(found))
    assert len(cells) == len(expected)
    for text, numbers in zip(cells, expected, strict=True):
        value, *limits = shown(text)
        assert agree(value, numbers[0]), (text, numbers)
        if numbers[0] is not None:
            assert all(map(agree, limits, numbers[1:])), (text, numbers)


def measured(grids):
    """Return the cells of Table 1 and of the tables at matched false positives, their names and scores left out."""
    return [cell for grid in grids[:3] for row in grid[1:] if not row[0].startswith("score behind") for cell in row[1:]]


class Grids(HTMLParser):
    """The text of the cells of every table of a page."""

    def __init__(self, text):
        super().__init__()
        self.grids, self.inside = [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "table":
            self.grids.append([])
        elif tag == "tr":
            self.grids[-1].append([])
        elif tag in ("td", "th"):
            self.grids[-1][-1].append("")
            self.inside = True
        elif tag == "small":
            self.grids[-1][-1][-1] += " "

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.grids[-1][-1][-1] += data


@examples(40)
@given(metrics())
def test_table_md_and_the_page_say_what_metrics_json_says(drawn):
    found = json.loads(drawn.model_dump_json())
    grids = read_markdown(markdown(drawn))
    page = Grids(evaluation_html(drawn, "", [], "")).grids
    for each in (grids, page):
        marked = [[[cell.replace("†", "") for cell in row] for row in grid] for grid in each]
        check(measured(marked), found)
        assert [row[0] for row in each[0][1:]] == [row["detector"] for row in found["rows"]]


@examples(40)
@given(metrics(), st.sampled_from(WIDTHS))
def test_the_terminal_says_what_metrics_json_says(drawn, width):
    found = json.loads(drawn.model_dump_json())
    cells = []
    for each in tables(drawn)[:3]:
        rows = {row[0].text: row[1:] for row in each.rows if not row[0].text.startswith("score behind")}
        assume(len(rows) >= len(drawn.rows))  # else a detector is called as a row of scores is
        values, limits = read_lines(table_lines(each, width)[1:], rows)
        for name, own in rows.items():
            spans = iter([span for span in limits[name] if span != "–"])
            for value, cell in zip(values[name], own, strict=True):
                low_high = next(spans).split("–") if cell.limits else None
                cells.append(value.replace("†", "") + (f" [{low_high[0]}, {low_high[1]}]" if low_high else ""))
    check(cells, found)


@examples(40)
@given(metrics())
def test_table_csv_says_what_metrics_json_says(drawn):
    found = json.loads(drawn.model_dump_json())
    rows = list(csv.DictReader(io.StringIO(as_csv(tables(drawn)[:3]))))
    cells = [
        row["value"] + (f" [{row['low']}, {row['high']}]" if row["low"] else "")
        for row in rows
        if not row["row"].startswith("score behind")
    ]
    check(cells, found)


@examples(40)
@given(metrics())
def test_differences_keep_their_signs(drawn):
    differences = [each for each in tables(drawn) if each.title.startswith("Difference")]
    for row, own in zip(drawn.rows[1:], [r for each in differences for r in each.rows][::8], strict=True):
        expected = row.against_first["0.5"]["mAP"]
        low, high = own[2].limits
        assert agree(own[2].text, expected.difference)
        assert agree(low, expected.interval[0])
        assert agree(high, expected.interval[1])
        assert own[2].text[0] in "+-"


@examples(10)
@given(metrics())
def test_one_verdict_of_a_detector_is_primary_and_the_rest_are_marked_exploratory(drawn):
    each = next((each for each in tables(drawn) if each.title.startswith("Difference")), None)
    if each is None:
        return
    verdicts = {(row[0].text, row[1].text): row[-1].value for row in each.rows if row[-1].value != "undefined"}
    plain = [key for key, said in verdicts.items() if said == "inconclusive"]
    assert plain == [(row.detector, "sensitivity at 1 FP, IoU 0.5") for row in drawn.rows[1:]]
    assert {said for key, said in verdicts.items() if key not in plain} == {"inconclusive*"}
    assert each.notes[-1].startswith("The primary measure is sensitivity at 1 FP, IoU 0.5. Verdicts marked * are")


@pytest.mark.parametrize("text", ["\x1b[2Jgone", "a\rb", "\x9b31m", "‮evil", "\x07", "\udc80"])
def test_a_name_moves_no_cursor(text):
    line = table_lines(table("T", ["d", "v"], [[text, "1"]]), 80)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", "".join(line))
    assert printable(text) != text or "\r" in text


def test_numbers_of_every_size_are_read_back():
    for value in (*np.geomspace(1e-6, 1e7, 40), 0.0, 20.54, 2.54, 100.0):
        for digits in (2, 3):
            assert agree(fixed(float(value), digits).text, float(value))
