"""Cubes around lesions: as wide in millimetres whatever the voxels, and every voxel where the scanner had it."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from medaug_cli.cli import app
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.figures.planes import planes
from medaug_cli.preprocess.strip import Stripped
from medaug_cli.scans.placement import Placement, around
from medaug_cli.scans.way_back import scanner_boxes
from medaug_cli.store import open_store

TURNS = [(1, 0, 0, 0, 1, 0, 0, 0, 1), (-1, 0, 0, 0, -1, 0, 0, 0, 1), (0, 0, 1, 1, 0, 0, 0, 1, 0)]
SPACING = (1.0, 1.0, 2.5)  # x, y, z
LESIONS = ((4, 12, 8), (7, 20, 14)), ((14, 24, 24), (17, 28, 30))  # low and high corner, z first


def written(path, array, spacing=SPACING, direction=TURNS[0]):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin((-30.0, 12.0, 5.0))
    image.SetDirection(direction)
    sitk.WriteImage(image, str(path))


def volume(folder, name="a", lesions=LESIONS, shape=(24, 44, 40), **how):
    """Write a grey volume with a brighter rim of zeros, bright lesions, and their labels; z first."""
    values, labels = np.zeros(shape, np.int16), np.zeros(shape, np.uint8)
    values[1:-1, 3:-3, 3:-3] = 300 + np.indices(shape).sum(0)[1:-1, 3:-3, 3:-3]
    for low, high in lesions:
        place = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        values[place], labels[place] = 1000, 1
    written(folder / f"scans/{name}/t1.nii.gz", values, **how)
    written(folder / f"masks/{name}/t1.nii.gz", labels, **how)
    return values


def invoke(*arguments):
    done = CliRunner().invoke(app, [*map(str, arguments)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def run(folder, *more, out="real.h5", annotated=True):
    masks = ("--masks", folder / "masks") if annotated else ()
    invoke("preprocess", folder / "scans", *masks, "--out", folder / out, "--strip", "none", "--denoise", "none",
           "--split", "1,0,0", *more)  # fmt: skip
    return open_store(folder / out)


def cubes(folder, *more, **how):
    return run(folder, "--regions", 16, "--region-mm", 32, *more, **how)


def report_of(store):
    return json.loads(store.path.with_name("preprocess.json").read_text(encoding="utf-8"))


@given(st.floats(-6, 30), st.floats(3, 40), st.sampled_from([4, 16, 32]))
def test_a_ramp_stays_a_ramp_and_what_lies_outside_is_zero(centre, side, size):
    ramp = np.indices((20, 22, 24)).astype(np.float32)  # each channel its own coordinate
    placement = around((20, 22, 24), (centre, 11.0, 12.0), (side, 8.0, 6.0), size)
    middles = placement.low[0] + (np.arange(size) + 0.5) * side / size
    found = placement.sample(ramp + 5)[0, :, size // 2, size // 2]
    inside = (middles >= 0) & (middles < 20)
    assert (found[~inside] == 0).all()
    far = inside & (middles >= side / size + 1) & (middles < 19 - side / size)
    assert abs(found[far] - (middles[far] - 0.5 + 5)).max(initial=0) < (0.15 if side > size else 1e-3)
    assert (found[inside] >= 5).all()


def test_shrinking_averages_and_a_constant_stays():
    checkers = (np.indices((30, 30, 30)).sum(0) % 2).astype(np.float32)[None]
    small = around((30, 30, 30), (15.3, 14.9, 15.1), (24.0, 24.0, 24.0), 4).sample(checkers)
    assert abs(small - 0.5).max() < 0.1
    shown = around((30, 30, 30), (0.0, 15.0, 15.0), (10.5, 10.5, 10.5), 8).sample(np.ones_like(checkers))[0]
    assert (shown[:4] == 0).all()
    assert shown[4:] == pytest.approx(1)


def test_boxes_come_back_from_a_placement_between_pixels():
    placement = around((20, 22, 24), (9.37, 11.1, 12.9), (7.3, 31.9, 33.3), 32)
    again = Placement.from_details(json.loads(json.dumps(placement.details())))
    assert again == placement
    boxes = np.array([[3.25, 4.5, 7, 11.5, 12.75, 9]], np.float32)
    assert again.inverse_boxes(again.boxes(boxes, clip=False)) == pytest.approx(boxes, abs=1e-4)


@pytest.mark.parametrize("direction", TURNS)
def test_a_cube_holds_its_lesion_where_the_scanner_had_it(tmp_path, direction):
    volume(tmp_path, direction=direction)
    store = cubes(tmp_path)
    assert store.images.shape == (2, 1, 16, 16, 16)
    truth = np.array([[*low[::-1], *high[::-1]] for low, high in LESIONS])
    homes = []
    for i in range(2):
        found = scanner_boxes(store.details[i], store.boxes[i])
        distance = abs(found[:, None] - truth[None]).max(-1)
        assert (distance.min(1) < (0.5 if direction == TURNS[2] else 0.01)).all()  # there it is resampled first
        homes.append(int(distance.min(0).argmin()))
        image, mask, box = store.images[i][0], store.masks[i] > 0, store.boxes[i][0]
        inner = tuple(slice(int(np.ceil(a)), int(b)) for a, b in zip(box[2::-1], box[:2:-1], strict=True))
        assert mask[inner].all()
        assert mask.sum() == pytest.approx(np.prod(box[3:] - box[:3]), rel=0.5)
        assert image[inner].mean() > 200 > image[~mask & (image > 0)].mean()
        assert (box[:3] + box[3:]) / 2 == pytest.approx(8)  # in the middle
    assert sorted(homes) == [0, 1]


def test_lesions_of_one_size_are_of_one_size_whatever_the_voxels(tmp_path):
    volume(tmp_path, "thick", [((4, 12, 8), (8, 22, 18))], spacing=(1, 1, 2.5))
    volume(tmp_path, "fine", [((20, 12, 8), (30, 22, 18))], (60, 44, 40), spacing=(1, 1, 1))
    volume(tmp_path, "wide", [((5, 6, 4), (10, 11, 9))], (30, 22, 20), spacing=(2, 2, 2))
    store = cubes(tmp_path)
    assert len(store) == 3
    for boxes in store.boxes:
        assert boxes[0] == pytest.approx([5.5, 5.5, 5.5, 10.5, 10.5, 10.5])
    invoke("store", "export", store.path, "--format", "nifti", "--out", tmp_path / "nifti")
    for path in (tmp_path / "nifti/images").iterdir():
        assert sitk.ReadImage(str(path)).GetSpacing() == (2, 2, 2)


def test_a_spacing_that_is_given_replaces_that_of_the_files(tmp_path):
    volume(tmp_path, spacing=(1, 1, 1))
    given = cubes(tmp_path, "--spacing", "1,1,2.5")
    volume(tmp_path)
    known = cubes(tmp_path, out="other/real.h5")
    for one, other in zip(given.boxes, known.boxes, strict=True):
        assert (one == other).all()
    assert (given.images == known.images).all()


def test_neighbours_are_named_and_specks_are_no_lesions(tmp_path):
    near = (((4, 12, 8), (7, 20, 14)), ((4, 12, 20), (7, 20, 24)), ((14, 38, 30), (15, 39, 31)))
    volume(tmp_path, lesions=near)
    store = cubes(tmp_path, "--bits", 16, "--label", "met")
    assert [len(boxes) for boxes in store.boxes] == [2, 2]
    assert store.images.dtype == np.uint16
    assert store.spec.label_names == ("met",)
    assert cubes(tmp_path, "--min-area", 1, out="all/real.h5").spec.spatial == (16, 16, 16)
    assert len(open_store(tmp_path / "all/real.h5")) == 3


def test_a_lesion_that_does_not_fit_is_flagged_or_left_out(tmp_path):
    volume(tmp_path, "a", [((4, 6, 8), (8, 42, 14))])
    volume(tmp_path, "b", [((1, 4, 4), (22, 40, 36))], spacing=(2, 2, 2.5))
    store = cubes(tmp_path)
    kept, out = report_of(store)["slices"]
    assert len(store) == 1
    assert kept["doubtful"]
    assert "6x36x10 mm, does not fit its region of 32 mm; --region-mm 40 would hold it" in kept["reason"]
    assert store.boxes[0][0].tolist() == [6.5, 0, 5.5, 9.5, 16, 10.5]
    assert out["state"] == "skipped"
    assert "--region-mm 72" in out["reason"]
    page = (tmp_path / "preprocess.html").read_text(encoding="utf-8")
    assert "1 region is doubtful" in page
    assert "place of the region" in page
    whole = run(tmp_path, "--regions", 16, "--region-mm", 72, out="whole/real.h5")
    assert len(whole) == 2
    assert not any(row["doubtful"] for row in report_of(whole)["slices"])


def test_boxes_in_three_dimensions_become_cubes(tmp_path):
    volume(tmp_path)
    rows = [f"a/t1.nii.gz,{x0},{y0},{z0},{x1},{y1},{z1},met" for (z0, y0, x0), (z1, y1, x1) in LESIONS]
    header = "image,x_min,y_min,z_min,x_max,y_max,z_max,label"
    (tmp_path / "boxes.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    store = cubes(tmp_path, "--boxes", tmp_path / "boxes.csv", annotated=False, out="out/real.h5")
    masked = cubes(tmp_path)
    assert store.masks is None
    assert (store.images == masked.images).all()
    assert (np.concatenate(store.boxes) == np.concatenate(masked.boxes)).all()
    boxes = json.loads((tmp_path / "out/boxes.json").read_text(encoding="utf-8"))["images"]
    assert [len(one["boxes"][0]["box"]) for one in boxes] == [6, 6]
    assert {one["depth"] for one in boxes} == {16}


def test_what_lies_outside_the_brain_is_zero_and_the_mask_is_doubted(tmp_path):
    values = volume(tmp_path)
    brain = np.zeros(values.shape, np.uint8)
    brain[:, :20, :20] = 1  # the second lesion is left out
    written(tmp_path / "brains/a/t1.nii.gz", brain)
    store = cubes(tmp_path, "--strip", f"{tmp_path}/brains", "--bias", "n4")
    first, second = report_of(store)["slices"]
    assert first["measures"]["lesion_cover"] == 1
    assert not first["doubtful"]
    assert "covers 0 % of a lesion" in second["reason"]
    assert not store.images[1][0][store.masks[1] > 0].any()
    assert store.details[0]["bias_field"] == "n4"


def test_a_lesion_knows_the_doubts_of_its_own_slices():
    stripped = Stripped(np.ones((9, 4, 4), bool), "brain2d", True, "some", doubts={2: "ragged", 7: "cut"})
    assert stripped.in_slices(range(3, 6)).reason == ""
    assert stripped.in_slices(range(1, 4)).reason == "ragged"
    assert stripped.in_slice(7).reason == "cut"


def test_parts_resume_and_damaged_volumes_work_as_for_slices(tmp_path):
    for name in "abc":
        volume(tmp_path, name)
    volume(tmp_path, "none", lesions=())
    whole = cubes(tmp_path, "--workers", 2)
    assert [row["reason"] for row in report_of(whole)["slices"] if row["state"] == "skipped"] == ["no lesion"]
    assert cubes(tmp_path, "--resume").hash == whole.hash
    parts = [tmp_path / f"{k}/real.h5" for k in range(2)]
    for k in range(2):
        cubes(tmp_path, "--num-parts", 2, "--part-id", k, out=f"{k}/real.h5")
    invoke("store", "join", *parts, "--out", tmp_path / "joined/real.h5")
    assert open_store(tmp_path / "joined/real.h5").hash == whole.hash
    damaged = tmp_path / "scans/b/t1.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    left = cubes(tmp_path, "--keep-going", out="left/real.h5")
    assert len(left) == 4
    said = invoke("preprocess", tmp_path / "scans", "--masks", tmp_path / "masks", "--regions", 32, "--dry-run",
                  "--keep-going", "--out", tmp_path / "no.h5")  # fmt: skip
    assert "each lesion becomes 32x32x32 voxels, 64 mm wide" in said
    assert not (tmp_path / "no.h5").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--region-mm", "40"], "--regions"),
        (["--regions", "20"], "--regions 20: expected a power of two"),
        (["--regions", "16", "--fit", "stretch"], "--fit and --slices"),
        (["--regions", "16", "--slices", "lesions"], "--fit and --slices"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(tmp_path, options, words):
    volume(tmp_path)
    with pytest.raises(UsageError, match=words):
        run(tmp_path, *options)


def test_flat_plugins_refuse_cubes(tmp_path):
    volume(tmp_path)
    store = cubes(tmp_path)
    study = ["study", "--task", "detection", "--arm", "duplicate"]
    for arguments in (["train-detector", "--detector", "yolov3"], study):
        with pytest.raises(BadInput, match=r"holds 3D images; \w+ takes 2D"):
            invoke(arguments[0], store.path, *arguments[1:], "--out", tmp_path / "x")


def test_planes_show_the_middle_and_the_boxes_there():
    image = np.zeros((1, 8, 10, 12))
    image[0, 6, 4, 9] = 1
    boxes = np.array([[9, 4, 6, 10, 5, 7], [5, 4, 3, 8, 6, 6]], np.float32)
    axial, coronal, sagittal = planes(image, boxes)
    assert [picture.shape for picture, _ in (axial, coronal, sagittal)] == [(1, 10, 12), (1, 8, 12), (1, 8, 10)]
    assert axial[1].tolist() == [[5, 4, 8, 6]]
    assert coronal[1].tolist() == [[5, 2, 8, 5]]  # the head is up
    assert sagittal[1].tolist() == [[4, 2, 6, 5]]


def test_planes_cut_the_newest_lesion_wherever_it_lies():
    image = np.zeros((1, 8, 10, 12))
    image[0, 6, 1, 9] = 1
    old, new = [5, 4, 3, 8, 6, 6], [8.5, 0, 6, 10.5, 3, 7]
    for picture, boxes in planes(image, np.array([old, new], np.float32)):
        assert picture.max() == 1
        assert len(boxes) == 1
    for picture, boxes in planes(image, np.array([new, old], np.float32)):
        assert picture.max() == 0
        assert len(boxes) == 1


def test_a_class_of_which_there_is_no_region_is_no_class_of_the_store(tmp_path):
    lesion = ((2, 4, 4), (10, 28, 28))  # which leaves no room for a region without one
    for name in "abcd":
        volume(tmp_path, name, [lesion], shape=(12, 32, 32))
    table = "image,label,x_min,y_min,z_min,x_max,y_max,z_max\n" + "".join(
        f"{name}/t1.nii.gz,{'benign' if name < 'c' else 'malignant'},4,4,2,28,28,10\n" for name in "abcd"
    )
    (tmp_path / "boxes.csv").write_text(table, encoding="utf-8")
    options = ("--boxes", tmp_path / "boxes.csv", "--regions", "16", "--region-mm", "30", "--normals")
    store = run(tmp_path, *options)
    assert store.class_names == ["benign", "malignant"]
    assert [store.class_names[number] for number in store.classes] == ["benign", "benign", "malignant", "malignant"]
    again = run(tmp_path, *options, "--resume")
    assert again.hash == store.hash
