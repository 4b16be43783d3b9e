"""Progress in one line that fits its terminal, with share, time left and two numbers; in words where there is none."""

import io
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from medaug_cli.commands import console
from medaug_cli.commands.progress_line import TIGHT, in_words, progress_line
from medaug_cli.study.arms import Arm
from medaug_cli.study.rounds import Round
from medaug_cli.study.running import about, where
from medaug_cli.study.trials import Trial
from medaug_cli.words import duration

SCREENS = Path(__file__).with_name("progress.txt")
WIDTHS = (60, 80, 120, 200)
COMMANDS = {  # title, share, time left, numbers
    "preprocess": ("preprocess", 0.36, "3 min left", ("233 of 647 scans", "in 2 min")),
    "train-gan": ("train-gan boxgan", 0.07, "27 min left", ("1,120 images", "loss_d 1.56")),
    "synthesize": ("synthesize", 0.5, "45 s left", ("2,000 of 4,000 images", "in 45 s")),
    "filter": ("filter", 1.0, "", ("4,000 of 4,000 images", "in 19 s")),
    "train-detector": ("train-detector yolov3", 0.4, "1 h 35 min left", ("800 steps", "score 0.62")),
    "train-classifier": ("train-classifier classifier", 0.995, "2 s left", ("1,990 steps", "loss 0.0413")),
    "evaluate": ("evaluate", 0.25, "8 s left", ("with-synthetic", "38 of 151 images")),
    "predict": ("predict", 0.75, "", ("70 of 140 images", "in 31 s")),
    "study": ("study", 0.42, "5 h 20 min left", ("arm 4 of 6 (boxgan)", "seed 2 of 3")),
    "tsne": ("tsne", 4 / 7, "", ("step 5 of 7", "t-SNE of 1,200 images")),
    "turing make": ("turing make", 1 / 4, "", ("step 2 of 4", "reader-1.html")),
    "turing score": ("turing score", 1 / 3, "", ("step 2 of 3", "2,000 resamples")),
    "store join": ("store join", 2 / 4, "", ("step 3 of 4", "writing real.h5")),
    "store export": ("export", 0.3, "4 s left", ("151 of 505 images", "in 2 s")),
    "detect": ("detect", 0.61, "9 s left", ("92 of 151 images", "in 14 s")),
    "of unknown length": ("tsne", None, "", ("12 s so far",)),
}


def screens():
    """Return what each command's progress looks like in terminals of four widths, and in a log."""
    text = []
    for command, (title, share, left, numbers) in COMMANDS.items():
        text.append(f"# {command}")
        text += [progress_line(title, share, left, numbers, width) for width in WIDTHS]
        text.append(in_words(title, share, left, numbers))
    return "".join(f"{line}\n" for line in text)


def test_screens_are_those_that_were_looked_at():
    assert screens() == SCREENS.read_text(encoding="utf-8")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("width", WIDTHS)
def test_a_line_fits_and_has_all_that_matters(command, width):
    title, share, left, numbers = COMMANDS[command]
    line = progress_line(title, share, left, numbers, width)
    assert len(line) <= width
    assert "\n" not in line
    assert line.startswith(title.split()[0])
    shown = line if width > 60 else line.replace("/", " of ")
    assert all(number in shown for number in numbers)
    assert sum(line.count(sign) for sign in "━─") >= TIGHT
    if share is not None:
        assert f"{int(100 * share)} %" in line
    if left:
        assert " left" in line
    if width > 60:
        assert left in line


WORDS = st.text("abcdefgh ,0123456789", min_size=1, max_size=40)


LEFT = st.sampled_from(["", "45 s left", "3 h 20 min left"])


@given(WORDS, st.none() | st.floats(-1, 2), LEFT, st.lists(WORDS, max_size=3), st.integers(20, 300))
def test_a_line_is_never_wider_than_its_terminal(title, share, left, numbers, width):
    assert len(progress_line(title, share, left, numbers, width)) <= width


@pytest.mark.parametrize(("seconds", "words"), [
    (0, "0 s"), (1.4, "1 s"), (89, "89 s"), (90, "2 min"), (600, "10 min"), (5340, "89 min"), (5400, "1 h 30 min"),
    (7200, "2 h"), (12_000, "3 h 20 min"), (170_000, "47 h 13 min"), (172_800, "2 days"), (1e6, "12 days"),
])  # fmt: skip
def test_durations_are_said_as_people_do(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(("minutes", "words"), [
    (0.2, "less than a minute"), (1, "about 1 min"), (44.6, "about 45 min"), (100, "about 1 h 40 min"),
    (8626, "about 6 days"),
])  # fmt: skip
def test_how_long_a_study_takes_is_said_as_people_do(minutes, words):
    assert about(minutes) == words


@pytest.mark.parametrize(("values", "said"), [
    ({"loss_d": 1.5612, "found_real": 1.13, "right": 0.75}, ("1,120 images", "loss_d 1.56")),
    ({"loss": 0.04128, "score": 0.618}, ("1,120 images", "score 0.618")),
    ({}, ("1,120 images", "")),
])  # fmt: skip
def test_of_ten_loss_terms_one_is_shown(values, said):
    assert console.training_numbers(1120, values, "image") == said


def test_a_bar_knows_its_share_time_left_and_numbers(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    bar = console.Bar("synthesize", 400, "images")
    assert (bar.share, bar.left) == (0, "")
    bar.to(100)
    assert bar.left == ""
    clock[0] += 10
    bar.by(100)
    assert (bar.share, bar.left) == (0.5, "20 s left")
    assert bar.numbers == ("200 of 400 images", "in 10 s")
    assert bar.line(80) == f"synthesize {'━' * 12}{'─' * 13}  50 %  20 s left  200 of 400 images in 10 s"


def test_steps_are_counted_and_none_promises_how_long_it_takes(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    with console.steps("store join") as step:
        for done, words in enumerate(("reading a.h5", "reading b.h5", "writing real.h5")):
            clock[0] += 40
            step(done, 3, words)
    assert capsys.readouterr().err.splitlines() == [
        "store join: 0 % done; step 1 of 3, reading a.h5",
        "store join: 33 % done; step 2 of 3, reading b.h5",
        "store join: 66 % done; step 3 of 3, writing real.h5",
    ]


@pytest.mark.parametrize("total", [None, 0, float("inf")])
def test_where_the_total_is_unknown_nothing_is_promised(total):
    bar = console.Bar("tsne", total)
    bar.to(3, "1,000 images")
    assert (bar.share, bar.left) == (None, "")
    assert "%" not in bar.line(80)


def test_a_log_gets_a_sentence_after_a_few_seconds_and_then_now_and_then(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    with console.bar("train-gan boxgan", 1.0) as bar:
        for second in range(91):
            clock[0] = float(second)
            bar.to(second / 100, f"{second * 10:,} images", "loss_d 1.56")
    assert capsys.readouterr().err.splitlines() == [
        f"train-gan boxgan: {second} % done, {duration(100 - second)} left; {second * 10:,} images, loss_d 1.56"
        for second in (5, 35, 65)
    ]


def test_processes_that_do_not_lead_are_silent(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    with console.bar("train-gan", 1.0, shown=False) as bar:
        clock[0] = 1000.0
        bar.to(0.5)
    assert capsys.readouterr().err == ""


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self):
        return True


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_terminal_shows_the_last_line_whole(monkeypatch, width):
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    with console.bar("synthesize", 4, "images") as bar:
        for _ in range(4):
            bar.by(1)
            time.sleep(0.001)
    plain = Console(file=io.StringIO(), width=width)
    last = [line for line in stream.getvalue().replace("\r", "\n").splitlines() if "synthesize" in line][-1]
    text = "".join(part.partition("m")[2] if index else part for index, part in enumerate(last.split("\x1b[")))
    assert "100 %" in text
    assert "4 of 4 images" in text
    assert len(text.rstrip()) < plain.width


class Arms:
    """Options of a study, so far as progress is about them."""

    arms = (Arm("real-only"), Arm("boxgan", "boxgan"), Arm("boxgan@2", "boxgan", ratio=2.0))
    seeds = 3

    def __init__(self, *fractions):
        self.fractions = fractions


def test_a_study_says_which_arm_and_seed_is_at_work():
    options, whole = Arms(1.0), Round(None, None)
    assert where(options, Trial(whole, 1.0, 0, options.arms[1])) == ("arm 2 of 3 (boxgan)", "seed 1 of 3")
    several = Arms(0.25, 1.0)
    said = where(several, Trial(whole, 0.25, 2, several.arms[0]))
    assert said == ("arm 1 of 3 (real-only)", "seed 3 of 3 of 25 % of patients")
    said = where(options, Trial(Round(None, None, deal=1, fold=4), 1.0, 0, options.arms[0]))
    assert said == ("arm 1 of 3 (real-only)", "deal 2, fold 4, seed 1 of 3")
