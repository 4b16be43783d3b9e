"""What each command says in terminals of 80 and 120 columns, from scans to predictions: looked at, and kept as text."""

import io
import re
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from conftest import install_tiny
from support.every_writing_command import write_classed_store, write_two_stores
from support.writing_commands import write_scans
from typer.main import get_command

from medaug_cli.cli import GROUPS, app
from medaug_cli.commands import console
from medaug_cli.commands.console import wrapped

SCREENS = Path(__file__).with_name("said.txt")
WIDTHS = (80, 120)
SMALL = "--device cpu --precision 32"
LINES = (
    "boxes boxes.csv --scans scans --to coco --out coco.json",
    "preprocess scans --boxes boxes.csv --size 16 --strip none --split 0.5,0.25,0.25 --workers 1 --dry-run",
    "preprocess scans --boxes boxes.csv --size 16 --strip none --split 0.5,0.25,0.25 --workers 1",
    "store info real.h5",
    "store verify real.h5",
    "store preview real.h5",
    "store export real.h5 --format yolo",
    "store join one/real.h5 two/real.h5 --out joined/both.h5",
    f"train-gan real.h5 --generator tiny --kimg 0.012 {SMALL}",
    "synthesize --n 8 --device cpu",
    "filter synthetic.h5 --by none --device cpu",
    f"train-detector real.h5 --synthetic kept.h5 --detector tiny --steps 2 {SMALL}",
    f"train-classifier classed/real.h5 --classifier tiny --steps 2 {SMALL}",
    f"train-segmenter classed/real.h5 --segmenter tiny --steps 2 {SMALL}",
    "detect real.h5 detector --threshold 0 --device cpu",
    "predict detector scans --threshold 0 --workers 1 --device cpu",
    "export gan",
    f"study real.h5 --arm tiny --detector tiny --steps 2 --kimg 0.01 --split val --dry-run {SMALL}",
    "turing make real.h5 synthetic.h5 --n 4 --practice 0 --split all --dry-run",
    "turing make real.h5 synthetic.h5 --n 4 --practice 0 --split all",
    "plugins show tiny --kind generator",
    "plugins check tiny --kind detector",
)
CHANGING = {  # what differs from version to version, or from machine to machine
    r"\b[0-9a-f]{64}\b": "0" * 64,
    r"medaug \d+\.\d+\.\d+\S*": "medaug 0.0.0",
    r"(tiny|real\.h5|boxes\.csv|scans)( +)\d+\.\d+\.\d+": r"\1\g<2>0.0.0",
    r"\d+ detections?": "N detections",
    r"(less than a minute|about [\d.]+ \w+( \d+ min)?) by": "a while by",
}


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """Return what each command says, in this order, in one folder."""
    place = tmp_path_factory.mktemp("said")
    write_scans(place)
    write_two_stores(place)
    (place / "classed").mkdir()
    write_classed_store(place / "classed")
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        install_tiny(patch)
        patch.chdir(place)
        patch.setattr(console, "FIRST_SECONDS", float("inf"))  # progress has screens of its own
        for line in LINES:
            text = io.StringIO()
            with redirect_stdout(text), redirect_stderr(text):
                get_command(app)(line.split(), standalone_mode=False)
            found[line] = text.getvalue().replace(f"{place}/", "")
    return found


def normalised(text):
    for changing, plain in CHANGING.items():
        text = re.sub(changing, plain, text)
    return text


def screens(said):
    """Return what a terminal shows of each command, width by width."""
    parts = []
    for line, text in said.items():
        for width in WIDTHS:
            lines = [part for each in normalised(text).splitlines() for part in wrapped(each, width) or [""]]
            parts.append("\n".join([f"$ medaug {line}   # {width} columns", *lines]))
    return "\n\n".join(parts) + "\n"


def help_screen(width, monkeypatch):
    """Return what `medaug --help` shows."""
    monkeypatch.setenv("COLUMNS", str(width))
    text = io.StringIO()
    with redirect_stdout(text):
        get_command(app)(["--help"], prog_name="medaug", standalone_mode=False)
    return text.getvalue()


def test_screens_are_those_that_were_looked_at(said):
    assert screens(said) == SCREENS.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", WIDTHS)
def test_help_is_grouped_and_fits(width, monkeypatch):
    lines = help_screen(width, monkeypatch).splitlines()
    assert max(map(len, lines)) <= width
    assert [line.rstrip(":") for line in lines if line in ("Pipeline:", "Look and judge:", "Files:", "Machine:")] == [
        "Pipeline", "Look and judge", "Files", "Machine"
    ]  # fmt: skip
    for panel in GROUPS.values():
        for name in panel:
            assert sum(line.split()[:1] == [name] for line in lines) == 1


def test_no_word_is_broken_and_no_line_is_wider_than_its_terminal(said):
    for text in said.values():
        for line in text.splitlines():
            for width in WIDTHS:
                shown = wrapped(line, width)
                assert " ".join(shown).split() == line.split()
                assert all(len(part) <= width or " " not in part.strip() for part in shown)
