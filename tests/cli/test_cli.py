"""The command line: fast to start, honest about what it is asked."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from forking import spoken
from typer.testing import CliRunner

from medaug_cli.cli import app

COMMANDS = (
    "preprocess", "train-gan", "synthesize", "filter", "train-detector", "evaluate", "tsne", "study", "plugins",
    "doctor", "store", "boxes", "export", "detect",
)  # fmt: skip
HEAVY = {"torch", "timm", "sklearn", "SimpleITK", "numba", "h5py", "torchvision", "matplotlib", "scipy"}
MEDAUG = str(Path(sys.executable).with_name("medaug"))
STARTED = (
    "import sys; sys.argv = ['medaug', *{arguments!r}]\n"
    "from medaug_cli.cli import main\n"
    "try:\n    main()\nexcept SystemExit:\n    pass\n"
    "print('LOADED', *sorted({heavy!r} & set(sys.modules)), file=sys.stderr)"
)


COCO = Path(__file__).parents[1] / "data/coco-example"
TWELVE = ["evaluate", "--coco-only", "--truth", str(COCO / "truth.json"), "--detections", str(COCO / "detections.json")]


def test_coco_numbers_import_nothing_heavy():
    code = STARTED.format(arguments=TWELVE, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=True)
    assert done.stderr.strip().splitlines()[-1] == "LOADED"
    assert done.stdout.strip()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command):
    done = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    if command not in ("plugins", "store"):
        assert "Example: medaug " + command in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train-gan", "none.h5"], 3, "none.h5 does not exist"),
        (["train-gan", "real.h5", "--generator", "gpgan"], 4, "no generator 'gpgan' is installed"),
        (["train-gan", "real.h5", "--set", "lr"], 2, "KEY=VALUE"),
        (["train-gan", "real.h5", "--device", "cuda:9"], 2, "--device"),
        (["train-gan", "real.h5", "--precision", "8"], 2, "--precision 8"),
        (["synthesize", "--n", "0"], 2, "--n"),
        (["synthesize", "--n", "5"], 3, "gan holds no trained generator"),
        (["synthesize", "--m", "5"], 2, "No such option"),
        (["evaluate", "real.h5"], 2, ""),
        (["evaluate", "real.h5", "detector"], 3, "detector"),
        (["preprocess", "nowhere", "--boxes", "b.json"], 3, "nowhere"),
        (["filter", "none.h5"], 3, "none.h5"),
        (["tsne", "none.h5", "real.h5"], 3, "none.h5"),
        (["store", "info", "none.h5"], 3, "none.h5"),
    ],
)
def test_one_clear_sentence_and_an_exit_code(real, arguments, code, words):
    status, printed, said = spoken(arguments, real.parent)
    assert status == code, said
    assert words in said
    assert "Traceback" not in said
    assert printed == ""
    assert {path.name for path in real.parent.iterdir()} == {"real.h5", "boxes.json"}


def test_a_terminal_without_letters_beyond_ascii(tmp_path):
    example = Path(__file__).parents[1] / "data/coco-example"
    command = [
        "evaluate", "--truth", str(example / "truth.json"), "--detections", str(example / "detections.json"),
        "--resamples", "100", "--overlays", "0", "--out",
    ]  # fmt: skip
    done = subprocess.run(
        [MEDAUG, *command, tmp_path / "table"], capture_output=True,
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.isascii()
    assert not (tmp_path / "table/table.md").read_text(encoding="utf-8").isascii()
    done = CliRunner(charset="ascii").invoke(app, [*command, str(tmp_path / "json"), "--json"])
    assert done.exit_code == 0, done.stderr
    assert done.stdout.isascii()
    assert json.loads(done.stdout)["rows"]


def test_help_lists_commands_in_groups_with_whole_sentences():
    shown = CliRunner().invoke(app, ["--help"]).stdout
    assert max(map(len, shown.splitlines())) <= 80
    groups = ("Pipeline:", "Look and judge:", "Files:", "Machine:")
    assert [line for line in shown.splitlines() if line in groups] == list(groups)
    words = " ".join(shown.split())
    for name, command in typer.main.get_command(app).commands.items():
        sentence = " ".join(command.help.split("\n\n")[0].split())
        assert f"{name} {sentence}" in words
