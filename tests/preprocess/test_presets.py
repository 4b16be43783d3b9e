"""`--modality` stands for documented options, each of which can be given beside it instead."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from support.tiny_scans import BOX, grey_volume, picture, rows
from typer.testing import CliRunner

from medaug_cli.cli import app
from medaug_cli.errors import UsageError
from medaug_cli.preprocess.presets import PRESETS, chosen_preset, with_preset
from medaug_cli.preprocess.recipe import Recipe
from medaug_cli.runs.fitting import warn_of_mirrors
from medaug_cli.store import open_store

DOCS = Path(__file__).parents[2] / "docs/preprocessing.md"


def run(folder, *more, monkeypatch):
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(
        app,
        ["preprocess", "scans", "--boxes", "boxes.csv", "--size", "16", "--workers", "1", "--split", "1,0,0", *more],
    )
    assert done.exit_code == 0, done.output
    return open_store(folder / "real.h5").info.settings, done.stderr


@pytest.fixture
def pictures(tmp_path):
    picture(tmp_path / "scans/p1/a.png", BOX)
    rows(tmp_path, [f"a.png,{','.join(map(str, BOX))}"])
    return tmp_path


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_recorded_with_the_options_that_it_stands_for(pictures, monkeypatch, name):
    settings, _ = run(pictures, "--modality", name, monkeypatch=monkeypatch)
    preset = PRESETS[name]
    assert (settings["preset"], settings["strip"], settings["denoising"]) == (name, preset.strip, preset.denoising)
    assert settings.get("mirrored", True) is preset.mirrored
    assert "modality" not in settings


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_given_overrides_a_preset(name):
    given = Recipe(strip="brain2d", denoising="median", window=(1.0, 2.0))
    kept = with_preset(given, name, lambda field: field in ("strip", "denoising", "window"))
    assert (kept.strip, kept.denoising, kept.window) == ("brain2d", "median", (1.0, 2.0))
    assert with_preset(given, name, lambda field: field == "strip").strip == "brain2d"
    assert with_preset(given, name, lambda field: field == "strip").denoising == PRESETS[name].denoising


def test_options_override_on_the_command_line(pictures, monkeypatch):
    more = ["--modality", "us", "--denoise", "auto", "--strip", "auto"]  # which are the defaults, but typed
    settings, _ = run(pictures, *more, monkeypatch=monkeypatch)
    assert (settings["preset"], settings["strip"], settings["denoising"]) == ("us", "auto", "auto")


def test_the_window_of_ct_is_for_hounsfield_units_alone(pictures, monkeypatch):
    settings, said = run(pictures, "--modality", "ct", monkeypatch=monkeypatch)
    assert "window" not in settings
    assert "are not Hounsfield units: --window -1000,400 is not used" in said


def test_the_window_of_ct_is_used_for_volumes_in_hounsfield_units(tmp_path, monkeypatch):
    (tmp_path / "scans").mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(grey_volume(3) - np.int16(1000)), str(tmp_path / "scans/a.nii.gz"))
    rows(tmp_path, ["a.nii.gz,8,6,0,18,16,2"], "image,x_min,y_min,z_min,x_max,y_max,z_max")
    settings, said = run(tmp_path, "--modality", "ct", monkeypatch=monkeypatch)
    assert settings["window"] == [-1000, 400]
    assert "Hounsfield" not in said


CHOICES = {
    "us": ("us", None), "US": ("us", None), "t1ce": (None, "t1ce"), "all": (None, "all"), "0000": (None, "0000"),
    "mr-brain,t1ce": ("mr-brain", "t1ce"), "flair, mr-brain": ("mr-brain", "flair"), "ct,all": ("ct", "all"),
}  # fmt: skip


@pytest.mark.parametrize("said", CHOICES)
def test_a_preset_and_the_files_of_a_case_are_told_apart(said):
    assert chosen_preset(said) == CHOICES[said]


def test_nothing_is_chosen_unless_it_is_asked_for():
    assert chosen_preset(None) == (None, None)
    assert with_preset(Recipe(), None, lambda field: False) == Recipe()


@pytest.mark.parametrize("said", ["us,ct", "t1ce,flair", "us,t1,t2"])
def test_two_of_a_kind_are_refused(said):
    with pytest.raises(UsageError, match=f"--modality {said}: expected one of mr-brain, ct, us, xray, other"):
        chosen_preset(said)


def test_every_preset_is_documented_with_its_options():
    text = DOCS.read_text(encoding="utf-8")
    for name, preset in PRESETS.items():
        line = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert f"`--strip {preset.strip}`" in line
        assert f"`--denoise {preset.denoising}`" in line
        assert ("`--window -1000,400`" in line) is (preset.window is not None)
        assert ("flip=false" in line) is not preset.mirrored


class Flipping:
    flip = True


@pytest.mark.parametrize(("name", "flip", "lines"), [("xray", True, 1), ("xray", False, 0), ("us", True, 0)])
def test_training_says_where_mirror_images_are_no_patients(pictures, monkeypatch, name, flip, lines):
    run(pictures, "--modality", name, monkeypatch=monkeypatch)
    plugin, said = Flipping(), []
    plugin.flip = flip
    warn_of_mirrors(said.append, open_store(pictures / "real.h5"), plugin)
    assert len(said) == lines
    assert all("--set flip=false" in line for line in said)
