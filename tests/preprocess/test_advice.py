"""What a person may want to change: a fact a line with the option that mends it, at most five, in a dry run too."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from support.tiny_scans import BOX, PLAIN, grey_volume, made, mask, picture, rows, volume
from typer.testing import CliRunner

from medaug_cli.cli import app
from medaug_cli.preprocess.advice import LINES
from medaug_cli.preprocess.looking import may_show_head, shows_head
from medaug_cli.preprocess.recipe import Recipe

ROW = ",".join(map(str, BOX))
AUTO = Recipe(size=16, denoising="none")


def advised(folder, recipe=PLAIN, **changes):
    facts = []
    made(folder, recipe, advise=facts.append, split="1,0,0", **changes)
    return facts


def other(path, seed=0, side=48):
    """Write a picture of something that fills it, as tissue does an ultrasound picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = np.random.default_rng(seed).normal(120, 25, (side, side))
    Image.fromarray(grey.clip(0, 255).astype(np.uint8)).save(path)


def stripes(path, seed=0, side=48):
    """Write a picture in which no brain can be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = 100.0 * (np.indices((side, side))[1] // 6 % 2) + np.random.default_rng(seed).random((side, side))
    Image.fromarray(grey.astype(np.uint8)).save(path)


def head(path, number=0, side=64):
    """Write a disc with a bright rim in a black frame, as a head in air."""
    y, x = np.indices((side, side)) - side / 2 + 0.5
    away = np.hypot(y, x * (1.2 + number % 3 / 20))
    image = 90 * (away < 26) + 5 * ((y + x + number) % 3) * (away < 26) + 100 * ((away > 23) & (away < 26))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.astype(np.uint8)).save(path)


@pytest.mark.parametrize("given", [{"classes": "folders"}, {"masks": "scans"}, {"boxes": "scans"}])
def test_masks_beside_scans_that_are_not_read_are_said(tmp_path, given, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for kind in ("benign", "normal"):
        for name in "ab":
            picture(tmp_path / f"scans/{kind}/{kind}{name}.png", BOX)
            mask(tmp_path / f"scans/{kind}/{kind}{name}_mask.png", BOX)
    options = {name: path if path == "folders" else tmp_path / path for name, path in given.items()}
    facts = [fact for fact in advised(tmp_path, dry_run=True, **options) if "masks" in fact]
    assert facts == ([f"4 masks lie beside the scans; --masks {tmp_path / 'scans'} reads them"] * ("classes" in given))


@pytest.mark.parametrize(("side", "size", "fits"), [
    (51, 256, 64), (51, 128, 64), (32, 64, 32), (9, 32, 16), (51, 64, 0), (100, 128, 0), (33, 64, 0),
])  # fmt: skip
def test_pictures_that_are_enlarged_for_nothing_are_said(tmp_path, side, size, fits):
    picture(tmp_path / "scans/a.png", side=side)
    facts = advised(tmp_path, replace(PLAIN, size=size), dry_run=True, normals=True)
    said = f"pictures of {side} pixels are enlarged to {size}, which adds no detail; --size {fits} is enough"
    assert [fact for fact in facts if "enlarged" in fact] == [said] * (fits > 0)


@pytest.mark.parametrize("option", ["boxes", "classes"])
def test_a_column_that_may_name_patients_is_said(tmp_path, option):
    for name in "abcd":
        picture(tmp_path / f"scans/{name}.png", BOX)
    lines = [f"{name},g{number // 2},{'xy'[number % 2]},{ROW}" for number, name in enumerate("abcd")]
    table, said = rows(tmp_path, lines, "image,group,class,x_min,y_min,x_max,y_max"), []
    made(tmp_path, dry_run=True, said=said, **{option: str(table) if option == "classes" else table})
    assert sum("has no column patient; if group tells patients apart, give --patient-column group" in line
               for line in said) == 1  # fmt: skip


@pytest.mark.parametrize("dry_run", [False, True])
def test_pictures_that_show_no_head_are_not_stripped_and_that_is_said(tmp_path, dry_run):
    for name in "abcdefghijkl":
        other(tmp_path / f"scans/{name}.png")
    boxes, said = rows(tmp_path, [f"{name}.png,{ROW}" for name in "abcdefghijkl"]), []
    store = made(tmp_path, AUTO, boxes=boxes, split="1,0,0", said=said, dry_run=dry_run)
    assert any(
        line.startswith("8 of 8 pictures looked at show no head: nothing is stripped (--strip none)") for line in said
    )
    if not dry_run:
        assert store.info.settings["strip"] == "none"
        assert not any("brain" in str(details) for details in store.details)


def test_heads_are_stripped_and_nothing_is_said_of_it(tmp_path):
    for number in range(4):
        head(tmp_path / f"scans/{number}.png", number)
    said = []
    store = made(tmp_path, AUTO, unannotated=True, split="1,0,0", said=said)
    assert store.info.settings["strip"] == "auto"
    assert not any("no head" in line for line in said)


def test_a_named_stripper_strips_whatever_it_is_given(tmp_path):
    picture(tmp_path / "scans/a.png", BOX)
    store = made(
        tmp_path,
        Recipe(size=16, denoising="none", strip="brain2d"),
        boxes=rows(tmp_path, [f"a.png,{ROW}"]),
        split="1,0,0",
    )
    assert store.info.settings["strip"] == "brain2d"


def full_frame(rng, shape):
    return rng.normal(100, 20, shape)


def fan(rng, shape):
    y, x = np.indices(shape)
    return rng.normal(100, 20, shape) * (np.abs(x - shape[1] / 2) < 0.2 * shape[1] + 0.45 * y)


def cells(rng, shape):
    y, x = np.indices(shape)
    return 200 + 20 * np.sin(x / 5) * np.sin(y / 7) + rng.normal(0, 2, shape)


def chest(rng, shape):
    y, x = np.indices(shape)
    lungs = ((x - 0.3 * shape[1]) / 30) ** 2 + ((y - 0.5 * shape[0]) / 60) ** 2 < 1
    return 180 - 120.0 * lungs + rng.normal(0, 5, shape)


@pytest.mark.parametrize("draw", [full_frame, fan, cells, chest])
@pytest.mark.parametrize("shape", [(96, 96), (200, 240), (640, 480), (256, 320)])
def test_pictures_of_other_things_show_no_head(draw, shape):
    assert shows_head(draw(np.random.default_rng(1), shape)) is False


@pytest.mark.parametrize("side", [64, 128, 256, 900])
@pytest.mark.parametrize("place", ["middle", "low", "neck"])
def test_heads_of_any_size_are_seen(side, place):
    y, x = np.indices((side, side)) / side - 0.5
    image = 100.0 * (np.hypot((y - 0.08 * (place == "low")) * 1.05, x * 1.3) < 0.42)
    if place == "neck":
        image = np.maximum(image, 90.0 * ((np.abs(x) < 0.15) & (y > 0)))
    assert shows_head(image + np.random.default_rng(0).random((side, side))) is True


def test_a_blank_picture_says_nothing():
    assert shows_head(np.zeros((40, 40))) is None


def test_a_column_that_may_name_patients_is_named_at_the_end(tmp_path):
    for name in "abcd":
        picture(tmp_path / f"scans/{name}.png", BOX)
    lines = [f"{name}.png,{ROW},g{k // 2}" for k, name in enumerate("abcd")]
    boxes = rows(tmp_path, lines, "image,x_min,y_min,x_max,y_max,group")
    assert advised(tmp_path, boxes=boxes) == [
        "no patient column: split by image; a column `group` is there: --patient-column group"
    ]
    assert advised(tmp_path, boxes=boxes, patient_column="group", overwrite=True) == []


def test_unknown_patients_are_said_at_the_end(tmp_path):
    picture(tmp_path / "scans/a.png", BOX)
    (fact,) = advised(tmp_path, boxes=rows(tmp_path, [f"a.png,{ROW}"]))
    assert fact == "no patient is known: split by image; name patients with --patient-column, or give each a folder"
    picture(tmp_path / "scans/b.png", BOX)
    boxes = rows(tmp_path, [f"a.png,{ROW},P1", f"b.png,{ROW},"], "image,x_min,y_min,x_max,y_max,patient")
    (fact,) = advised(tmp_path, boxes=boxes, overwrite=True)
    assert fact.startswith("the patient of 1 of 2 scans is not known: split by image; name patients with")


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(
    ("others", "said"),
    [
        ("b", "1 picture has no box and is left out; --normals keeps it"),
        ("bc", "2 pictures have no box and are left out; --normals keeps them"),
    ],
)
def test_pictures_without_a_box_are_counted(tmp_path, others, said, dry_run):
    for name in "a" + others:
        picture(tmp_path / f"scans/p{name}/{name}.png", BOX)
    boxes = rows(tmp_path, [f"a.png,{ROW}"])
    assert advised(tmp_path, boxes=boxes, dry_run=dry_run) == [f"{said} as free of lesions"]
    if not dry_run:
        assert advised(tmp_path, boxes=boxes, normals=True, overwrite=True) == []


def test_cubes_wider_than_the_volumes_are_measured(tmp_path):
    values = grey_volume(20, 24)
    values[8:12, 10:14, 10:14] = 200
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((2.0, 2.0, 2.0))
    for folder, content in (("scans", image), ("masks", sitk.GetImageFromArray((values == 200).astype(np.uint8)))):
        (tmp_path / folder).mkdir()
        content.SetSpacing((2.0, 2.0, 2.0))
        sitk.WriteImage(content, str(tmp_path / folder / "a.nii.gz"))
    wide = Recipe(size=16, strip="none", denoising="none", region_mm=64.0)
    assert advised(tmp_path, wide, masks=tmp_path / "masks") == [
        "cubes of 64 mm are wider than the volumes (40 mm), and filled up with black; --region-mm 40 fits"
    ]
    narrow = Recipe(size=16, strip="none", denoising="none", region_mm=40.0)
    assert advised(tmp_path, narrow, masks=tmp_path / "masks", overwrite=True) == []


@pytest.mark.parametrize("dry_run", [False, True])
def test_many_doubtful_masks_ask_whether_these_are_heads(tmp_path, dry_run):
    for name in "abcd":
        stripes(tmp_path / f"scans/p{name}/{name}.png")
    boxes = rows(tmp_path, [f"{name}.png,{ROW}" for name in "abcd"])
    stripped = Recipe(size=16, denoising="none", strip="brain2d")
    looked_at = " looked at" if dry_run else ""
    (fact,) = advised(tmp_path, stripped, boxes=boxes, dry_run=dry_run)
    assert fact == f"4 of 4 brain masks{looked_at} are doubtful; are these heads? If not: --strip none"


def test_the_command_says_it_last_in_a_dry_run_too(tmp_path, monkeypatch):
    for name in "abcd":
        picture(tmp_path / f"scans/{name}.png", BOX)
        mask(tmp_path / f"masks/{name}.png", *([BOX] if name == "a" else []))
    rows(tmp_path, [f"{name}.png,{ROW}" for name in "ab"])
    monkeypatch.chdir(tmp_path)
    options = ["preprocess", "scans", "--boxes", "boxes.csv", "--size", "16", "--workers", "1", "--split", "1,0,0"]
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 0, done.output
    assert done.stderr.splitlines()[-2:] == [
        "no patient is known: split by image; name patients with --patient-column, or give each a folder",
        "2 pictures have no box and are left out; --normals keeps them as free of lesions",
    ]
    assert len(done.stdout.splitlines()) == 5
    again = CliRunner().invoke(app, [*options, "--dry-run", "--json"])
    assert again.stdout == '{"store": null}\n'
    assert again.stderr.splitlines()[-1].endswith("are left out; --normals keeps them as free of lesions")
    assert LINES == 5


CHEST = ((48, 28, 22, 14, -850.0), (48, 68, 22, 14, -850.0))  # row, column, half height, half width, HU
SKULL = ((48, 48, 36, 44, 1000.0), (48, 48, 32, 40, 35.0), (20, 48, 4, 6, -950.0))  # with a sinus


def trunk(inside, shape=(12, 96, 96)):
    """Return an ellipse of tissue in air along z, with ellipses in it."""
    y, x = np.indices(shape[1:])
    plane = np.full(shape[1:], -1000.0)
    for row, column, height, width, value in ((48, 48, 36, 44, 40.0), *inside):
        plane[((y - row) / height) ** 2 + ((x - column) / width) ** 2 < 1] = value
    return plane + np.random.default_rng(0).normal(0, 12, shape)


@pytest.mark.parametrize(
    ("volume", "spacing", "expected"),
    [
        (trunk(CHEST), (5, 3, 3), False),
        (trunk(CHEST), None, False),
        (trunk(CHEST, (70, 96, 96)), (1, 1, 1), False),
        (trunk(CHEST)[:3], (10, 3, 3), False),
        (trunk(SKULL), (5, 2, 2), True),
        (trunk(SKULL), None, True),
        (trunk(()), (5, 2, 2), True),
        (np.abs(trunk(CHEST)), (5, 3, 3), True),  # an MR of whatever it is
        (trunk(())[:, 20:71, 20:71], (1, 1, 1), False),
        (trunk(SKULL), (1, 0.5, 0.5), False),
        (np.abs(trunk(())), (5, 0.6, 0.7), True),
        (np.zeros((8, 8, 8)), (1, 1, 1), None),
    ],
)
def test_volumes_that_may_show_a_head(volume, spacing, expected):
    assert may_show_head(volume, spacing) is expected


def test_volumes_that_show_no_head_are_not_stripped_and_that_is_said(tmp_path):
    for name in "ab":
        volume(tmp_path / f"scans/{name}.nii.gz", grey_volume())
    said = []
    recipe = replace(AUTO, volume=(8, 16, 16), spacing=(1.0, 1.0, 1.0))
    store = made(tmp_path, recipe, unannotated=True, split="1,0,0", said=said)
    assert store.info.settings["strip"] == "none"
    assert any(line.startswith("2 of 2 volumes looked at show no head: nothing is stripped") for line in said)
