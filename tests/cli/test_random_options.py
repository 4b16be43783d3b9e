"""Random bad options and files at every command end in an answer or in a sentence, never in a traceback."""

import json
import os
import signal
import zlib

import numpy as np
import pytest
from conftest import make_records, make_store
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

from medaug_cli.cli import UNWRITABLE, app
from medaug_cli.errors import MedaugError
from medaug_cli.runs import RunOptions, train_detector, train_generator

LINES = int(os.environ.get("MEDAUG_RANDOM_LINES", "8"))  # a command
LIMITS = {signal.ITIMER_REAL: 5, signal.ITIMER_PROF: 1}  # seconds, and those of the processor, to stop a line after
GOOD = ("real.h5", "detector", "scans", "gan")  # so that some lines come further than their first argument
NUMBERS = ("0", "1", "-1", "2.5", "nan", "inf", "-inf", "1e308", "1000000000000", "0x10", "1,2", "0.5,0.5", "")
WORDS = (
    "tiny", "none", "auto", "train", "coco", "no such thing", "\x1b[2J", "<script>", "a=b", "pause=x", "=", "pause",
    "é\u202e", "%s", "{0}", "[red]", "..", "-", "a" * 300,
)  # fmt: skip


class TooLong(Exception):
    """A line that would go on for long is as good as one that ends well."""


def commands(command, path=()):
    """Yield the path and the options and arguments of each command."""
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from commands(inner, (*path, name))
    else:
        yield path, [parameter for parameter in command.params if parameter.name != "help"]


COMMANDS = {" ".join(path): parameters for path, parameters in commands(get_command(app))}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with good files, damaged ones and others that are something else."""
    folder = tmp_path_factory.mktemp("random")
    make_store(folder / "real.h5", make_records(n=12, size=32))
    return folder


@pytest.fixture
def files(place, tiny_plugins):
    if not (place / "detector").exists():
        options = {"device": "cpu", "settings": {}}
        train_generator(place / "real.h5", "tiny", RunOptions(place / "gan", **options), 0.01)
        train_detector(place / "real.h5", "tiny", RunOptions(place / "detector", **options), steps=2)
        rng, whole = np.random.default_rng(0), (place / "real.h5").read_bytes()
        (place / "half.h5").write_bytes(whole[: len(whole) // 2])
        for name in ("noise.h5", "noise.json", "noise.csv", "noise.png", "noise.nii.gz", "noise.npz", "noise.dcm"):
            (place / name).write_bytes(rng.bytes(2000))
        for i, text in enumerate(("", "{}", "[]", "null", "1e999", "[" * 5000, '{"version": 1, "images": 3}')):
            (place / f"odd{i}.json").write_text(text, encoding="utf-8")
        (place / "odd.csv").write_text("image,x_min\n\x1b[2J,nan\n", encoding="utf-8")
        (place / "labels.json").write_text(json.dumps({"images": [], "annotations": [], "categories": []}), "utf-8")
        (place / "empty").mkdir()
        (place / "scans").mkdir()
        for i in range(3):
            pixels = rng.integers(0, 255, (40, 40)).astype(np.uint8)
            Image.fromarray(pixels).save(place / "scans" / f"<b>{i}\x1b.png")
        (place / "scans" / "half.png").write_bytes((place / "scans" / "<b>0\x1b.png").read_bytes()[:200])
        (place / "hollow").mkdir()
        (place / "hollow" / "detector.json").write_text("{}", encoding="utf-8")
        (place / "hollow" / "generator.json").write_text("[]", encoding="utf-8")
    return [*sorted(path.name for path in place.iterdir()), "missing", "missing/deeper.h5", "real.h5/below", ".", ".."]


def random_line(command, parameters, files, rng):
    """Return arguments: every required one, some options, values of every kind."""
    line = [*command.split()]
    for parameter in parameters:
        option = next((name for name in parameter.opts if name.startswith("--")), None)
        if option is None:
            count = 1 if parameter.nargs == 1 else int(rng.integers(1, 3))
            line += [str(rng.choice(GOOD if rng.random() < 0.5 else files)) for _ in range(count)]
        elif rng.random() < (0.6 if parameter.required else 0.15):
            line.append(option)
            if not getattr(parameter, "is_flag", False):
                pool = (files, NUMBERS, WORDS)[rng.integers(3)]
                line.append(str(rng.choice(pool)))
    return line


def limit(seconds):
    """Start timers, or stop those of 0 seconds."""
    for timer, value in seconds.items():
        signal.setitimer(timer, value)


@pytest.mark.parametrize("command", COMMANDS)
def test_random_lines_end_in_an_answer_or_a_sentence(command, files, place, monkeypatch):
    rng = np.random.default_rng(zlib.crc32(command.encode()))
    monkeypatch.chdir(place)

    def stop(number, frame):
        raise TooLong

    before = {number: signal.signal(number, stop) for number in (signal.SIGALRM, signal.SIGPROF)}
    try:
        for i in range(LINES):
            line = random_line(command, COMMANDS[command], files, rng)
            out = [] if "--out" in line or not any("--out" in p.opts for p in COMMANDS[command]) else ["--out", f"o{i}"]
            try:
                limit(LIMITS)
                result = CliRunner().invoke(app, [*line, *out])
                limit(dict.fromkeys(LIMITS, 0))
            except TooLong:
                continue
            error = result.exception
            fine = (SystemExit, MedaugError, TooLong, type(None))
            assert isinstance(error, fine) or getattr(error, "errno", None) in UNWRITABLE, (line, repr(error))
            assert "Traceback" not in result.output, line
            if isinstance(error, MedaugError):
                assert len(str(error)) > 10, line
    finally:
        limit(dict.fromkeys(LIMITS, 0))
        for number, handler in before.items():
            signal.signal(number, handler)
