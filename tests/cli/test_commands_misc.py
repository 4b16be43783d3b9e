"""What every command owes: a quick start, an example; and what `plugins` and `doctor` say."""

import json
import os
import resource
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from medaug_cli import inspection, registry
from medaug_cli.commands.doctor import doctor
from medaug_cli.commands.plugins import app as plugins_app
from medaug_cli.errors import MissingPlugin

HEAVY = {
    "torch", "torchvision", "timm", "sklearn", "SimpleITK", "numba", "h5py", "scipy", "matplotlib",
}  # fmt: skip
START = "import sys; sys.argv = ['medaug', *{arguments}]; from medaug_cli.cli import main; main()"
SECONDS, TIMES = 0.4, 70  # of processor time on an idle core; and of the time that Python alone takes, on a busy one
doctor_app = typer.Typer()
doctor_app.command()(doctor)


def run(app, *arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def seconds(words):
    """Run a process; return its stdout and the processor seconds it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, capture_output=True, text=True, encoding="utf-8")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def start(*arguments):
    """Run a command in a process of its own; return its stdout and the processor seconds it took."""
    return seconds([sys.executable, "-c", START.format(arguments=list(arguments))])


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["plugins"], ["plugins", "--json"]])
def test_a_quick_start(arguments):
    least, python = float("inf"), float("inf")
    for _ in range(6):  # a busy machine counts more seconds for the same work; three are enough on an idle one
        least = min(least, start(*arguments)[1])
        python = min(python, seconds([sys.executable, "-I", "-S", "-c", "pass"])[1])
        if least <= max(SECONDS, TIMES * python):
            return
    pytest.fail(f"medaug {' '.join(arguments)} takes {least:.2f} s of processor time, Python alone {python:.3f} s")


@pytest.mark.parametrize("arguments", [
    ["--help"], ["--version"], ["plugins"], ["plugins", "--help"], ["store", "export", "--help"], ["doctor", "--help"],
])  # fmt: skip
def test_nothing_heavy_is_imported(arguments):
    code = START.format(arguments=arguments)
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, encoding="utf-8"
    )
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert done.returncode == 0
    assert "medaug_cli" in loaded
    assert not loaded & HEAVY


def commands():
    """Return every command and subcommand as its words."""
    from medaug_cli.cli import app

    def below(group, words):
        for name, command in group.commands.items():
            yield (*words, name), command
            yield from below(command, (*words, name)) if hasattr(command, "commands") else ()

    return dict(below(typer.main.get_command(app), ()))


def test_every_help_has_an_example():
    found = commands()
    assert len(found) >= 15
    without = [
        words for words, command in found.items() if f"Example: medaug {' '.join(words)}" not in (command.help or "")
    ]
    assert not without


def test_every_option_has_help():
    silent = [
        (words, option.name)
        for words, command in commands().items()
        for option in command.params
        if option.name != "help" and not getattr(option, "help", None)
    ]
    assert not silent


def test_plugins_lists_the_built_in_ones():
    rows = json.loads(run(plugins_app, "--json").stdout)["plugins"]
    found = {(row["kind"], row["name"]): row for row in rows}
    assert {("generator", "cpggan"), ("generator", "boxgan"), ("detector", "yolov3")} <= set(found)
    row = found["generator", "cpggan"]
    assert (row["distribution"], row["place"], row["state"]) == ("medaug", "medaug_plugins.cpggan:CPGGAN", "installed")
    assert "cpggan" in run(plugins_app).stdout


def test_a_disabled_plugin_is_not_listed(monkeypatch):
    monkeypatch.setenv(registry.DISABLE, "cpggan")
    rows = json.loads(run(plugins_app, "--json").stdout)["plugins"]
    assert "cpggan" not in {row["name"] for row in rows}


@pytest.mark.parametrize(("entry", "reason"), [
    ("nowhere_at_all:Thing", "the module nowhere_at_all is not found"),
    ("json.nowhere:Thing", "the module json.nowhere is not found"),
    ("needs_lost:Thing", "it imports lost_library, which is not installed"),
    ("pack.needs_lost:Thing", "it imports lost_library, which is not installed"),
    ("no_python:Thing", "no_python.py cannot be read as Python"),
    ("tries_lost:Thing", ""),
    ("fine:Thing", ""),
])  # fmt: skip
def test_what_is_seen_without_importing(tmp_path, monkeypatch, entry, reason):
    marks = "import sys\nsys.imported_by_the_listing = True\n"
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text(marks, encoding="utf-8")
    for folder in (tmp_path, tmp_path / "pack"):
        (folder / "needs_lost.py").write_text(marks + "from lost_library.deep import thing\n", encoding="utf-8")
    (tmp_path / "no_python.py").write_text("class Thing(:\n", encoding="utf-8")
    (tmp_path / "tries_lost.py").write_text(
        marks + "try:\n    import lost_library\nexcept ImportError:\n    pass\n", encoding="utf-8"
    )
    (tmp_path / "fine.py").write_text(marks + "import json\nfrom . import fine\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "entry_points", lambda group: [EntryPoint("odd", entry, group)])
    states = inspection.plugin_states()
    assert len(states) == len(registry.GROUPS)
    assert all(state.reason.startswith(reason) and bool(state.reason) == bool(reason) for state in states), states
    assert {state.state for state in states} == {"does not load" if reason else "installed"}
    assert not hasattr(sys, "imported_by_the_listing")


def test_show_tells_settings_limits_and_capabilities(tiny_plugins):
    told = json.loads(run(plugins_app, "show", "tiny", "--json").stdout)
    generator, detector = told["kinds"][:2]
    assert (generator["kind"], detector["kind"]) == ("generator", "detector")
    assert generator["settings"][1] == {
        "name": "amount", "default": 0.3, "help": "Brightness of the box", "takes": "float from 0.0 to 1.0",
        "minimum": 0.0, "maximum": 1.0, "choices": None,
    }  # fmt: skip
    assert generator["capabilities"]["channels"] == [1, 2, 3]
    assert "condition" not in detector["capabilities"]
    alone = json.loads(run(plugins_app, "show", "tiny", "--kind", "detector", "--json").stdout)
    assert [one["kind"] for one in alone["kinds"]] == ["detector"]


def test_check_runs_both_kinds_and_takes_settings(tiny_plugins):
    for kind in ("generator", "detector"):
        done = run(plugins_app, "check", "tiny", "--kind", kind, "--json")
        told = json.loads(done.stdout)
        assert done.exit_code == 0, told
        assert told["ok"]
        assert {one["kind"] for one in told["checks"]} == {kind}
    every = json.loads(run(plugins_app, "check", "tiny", "--json").stdout)
    assert {"generator", "detector", "classifier", "segmenter"} <= {one["kind"] for one in every["checks"]}
    text = run(plugins_app, "check", "tiny", "--kind", "generator", "--set", "amount=0").stdout
    assert "FAILED conditions: 6 of 6 images stay the same" in text or "FAILED conditions: 5 of 6" in text
    assert text.rstrip().endswith("tiny does not meet the contract")


def test_check_of_an_unknown_name_or_kind(tiny_plugins):
    error = run(plugins_app, "check", "tin").exception
    assert isinstance(error, MissingPlugin)
    assert "did you mean 'tiny'" in str(error)
    assert "kind of plugin is called 'painter'" in str(run(plugins_app, "check", "tiny", "--kind", "painter").exception)


def test_doctor_tells_what_is_there(monkeypatch, tiny_plugins, tmp_path):
    kept = [entry for entry in registry.entry_points(group="medaug.generators") if entry.name == "tiny"]
    monkeypatch.setattr(registry, "entry_points", lambda group: kept * (group == "medaug.generators"))
    done = run(doctor_app, "--json", "--folder", tmp_path)
    told = json.loads(done.stdout)
    assert (done.exit_code, told["problems"]) == (0, [])
    import torch

    assert told["torch"] == torch.__version__
    assert "cpu" in {device["device"] for device in told["devices"]}
    assert told["threads"] == torch.get_num_threads()
    assert told["cores"] == len(os.sched_getaffinity(0))
    assert told["disk"]["total"] >= told["disk"]["free"] > 0
    assert told["memory"]["total"] > told["memory"]["free"] > 0
    assert {"torch", "typer", "simpleitk"} <= {need["name"].lower() for need in told["dependencies"]}
    text = run(doctor_app, "--folder", tmp_path).stdout
    assert "nothing is wrong" in text
    assert "generator tiny: ok" in text


def test_doctor_names_what_is_wrong(monkeypatch):
    monkeypatch.setattr(registry, "entry_points", lambda group: [EntryPoint("lost", "nowhere_at_all:Thing", group)])
    monkeypatch.setattr(
        inspection, "requires",
        lambda name: ["numpy>=999", "nowhere-at-all>=1", "nothing; extra == 'logs'", "scipy>=999; extra == 'onnx'"],
    )  # fmt: skip
    done = run(doctor_app, "--json")
    assert done.exit_code == 1
    problems = json.loads(done.stdout)["problems"]
    assert problems[0].startswith("numpy >=999 is required; 2")
    assert problems[1] == "nowhere-at-all >=1 is required; it is not installed"
    assert problems[2].startswith("scipy >=999 is required by medaug[onnx]; 1")
    assert "No module named 'nowhere_at_all'" in problems[3]
    assert "PROBLEM: numpy" in run(doctor_app).stdout


def test_doctor_knows_every_part_that_a_user_may_leave_out():
    project = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text(encoding="utf-8"))
    assert set(inspection.OPTIONAL) == set(project["project"]["optional-dependencies"]) - {"dev", "site"}


def test_doctor_says_why_torch_does_not_import(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(inspection, "plugin_states", lambda load: [])
    found = inspection.diagnosis(tmp_path)
    assert found["torch"] is None
    assert found["problems"][0].startswith("torch cannot be imported (ModuleNotFoundError")
