"""What the README says can be typed, read and found."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medaug_cli.cli import app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"^medaug [^#\n]+", README, re.MULTILINE)))


def test_the_plugin_shown_is_the_example():
    source = (ROOT / "examples/medaug-blobs/medaug_blobs.py").read_text(encoding="utf-8")
    assert source.split('"""', 2)[2].strip() in README


def test_every_linked_file_exists():
    linked = [target for target in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in target]
    assert len(linked) >= 4
    assert [target for target in linked if not (ROOT / target).exists()] == []


def test_two_commands_are_targets_of_the_makefile():
    block = re.search(r"## Two commands\n+```sh\n(.*?)```", README, re.DOTALL).group(1)
    targets = [line.split()[1] for line in block.splitlines()]
    assert targets == ["demo", "test"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_option_shown_is_an_option(line):
    words = shlex.split(line)[1:]
    name = words[:2] if words[0] in ("store", "plugins", "turing") else words[:1]
    help_text = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*name, "--help"]).stdout
    for option in (word for word in words if word.startswith("--")):
        assert option in help_text


def test_the_pipeline_has_eight_lines():
    assert len(COMMANDS) >= 8


def test_every_installed_generator_and_detector_is_listed():
    entries = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    for group in ("medaug.generators", "medaug.detectors"):
        assert [name for name in entries[group] if f"`{name}`" not in README] == []


def test_no_placeholder_is_left():
    assert "<!--" not in README
