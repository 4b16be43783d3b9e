"""What results look like in 80 and 120 columns, drawn from recorded ones: looked at, and kept as text."""

import json
from pathlib import Path

import pytest
from rich.cells import cell_len

from medaug_cli.commands.console import wrapped
from medaug_cli.commands.table_lines import table_lines
from medaug_cli.embedding.layout import MapReport
from medaug_cli.embedding.tables import numbers_table
from medaug_cli.metrics import table as detection
from medaug_cli.metrics.report import Metrics
from medaug_cli.study import StudyReport
from medaug_cli.study.page import measures
from medaug_cli.study.tables import compared, pairs
from medaug_cli.tasks import report as whole_images
from medaug_cli.tasks.report import TaskMetrics
from medaug_cli.tasks.task import task_named
from medaug_cli.turing import report as turing
from medaug_cli.turing.report import TuringReport

RECORDED = Path(__file__).with_name("recorded")
SCREENS = Path(__file__).with_name("results.txt")
WIDTHS = (80, 120)


def of_detection(found):
    metrics = Metrics.model_validate(found)
    return [" ".join(detection.data_note(metrics))], detection.tables(metrics)


def of_whole_images(found):
    metrics = TaskMetrics.model_validate(found)
    task = task_named(metrics.task)
    said = " ".join(whole_images.data_note(metrics))
    return [said], whole_images.tables(metrics, task.measures, task.main)[:2]


def of_map(found):
    return [], [numbers_table(MapReport.model_validate(found))]


def of_readers(found):
    report = TuringReport.model_validate(found)
    return turing.sentences(report), turing.tables(report)


def of_study(found):
    report = StudyReport.model_validate(found)
    names = [name for name in measures(report) if name in task_named(report.task).main]
    shown = [compared(report, part, name, seeds=False) for part in report.fractions for name in names]
    return [], [*shown, *(pairs(report, part, names[0]) for part in report.fractions if part.pairs)]


RESULTS = {  # command: recorded result, and what makes its sentences and tables as the command does
    "evaluate, detectors": (RECORDED / "detectors.json", of_detection),
    "evaluate, classifiers": (RECORDED / "classifiers.json", of_whole_images),
    "evaluate, segmenters": (RECORDED / "segmenters.json", of_whole_images),
    "tsne": (RECORDED / "tsne.json", of_map),
    "turing score": (RECORDED / "turing.json", of_readers),
    "study": (RECORDED / "study.json", of_study),
}


def screen(command, width):
    """Return the lines that a terminal of so many columns shows."""
    path, shown = RESULTS[command]
    sentences, tables = shown(json.loads(path.read_text(encoding="utf-8")))
    lines = [line for sentence in sentences for line in wrapped(sentence, width)]
    for table in tables:
        lines += table_lines(table, width)
        lines += [line for note in table.notes for line in wrapped(note, width)]
    return lines


def screens():
    """Return every screen, under a heading."""
    parts = [["", f"# {command}, {width} columns", *screen(command, width)] for command in RESULTS for width in WIDTHS]
    return "\n".join(line for part in parts for line in part).lstrip("\n") + "\n"


def test_screens_are_those_that_were_looked_at():
    assert screens() == SCREENS.read_text(encoding="utf-8")


@pytest.mark.parametrize("command", RESULTS)
@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_is_cut_by_its_terminal(command, width):
    assert [line for line in screen(command, width) if cell_len(line) > width] == []
