"""A trained network on new scans: its answers lie where the scans' own pixels say."""

import csv
import json
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import tiny_scans
from PIL import Image
from typer.testing import CliRunner

from medaug_cli.cli import app
from medaug_cli.evaluation.class_files import read_class_truth, read_probabilities
from medaug_cli.predicting import PredictOptions, answers, predict, prediction
from medaug_cli.runs.metadata import Form, NetworkMetadata
from medaug_cli.scans.placement import Placement, place
from medaug_cli.store import open_store

CODES = ("LPS", "RAS", "SAR", "AIL", "PSL", "ILA")
SHAPE = (9, 14, 12)  # z first
LESION = np.s_[3:7, 5:9, 4:8]
PREPARED = {"size": 64, "strip": "none", "denoising": "none", "fit": "pad", "percentiles": [1.0, 99.9], "channels": 1}


class BrightIsTwo:
    """A segmenter: what is bright has the value 2."""

    def predict(self, images):
        for image in images:
            yield np.where(image[0] > 0.6, 2, 0).astype(np.uint8)


class HowBright:
    """A classifier: the brighter, the more it is of the second class."""

    def predict(self, images):
        for image in images:
            share = float(image.max() > 0.6)
            yield np.array([1 - 0.9 * share, 0.9 * share], np.float32)


@pytest.fixture
def network(tmp_path, monkeypatch):
    """Return a function that puts a network of a kind into a folder."""

    def put(kind, plugin, prepared=PREPARED, spatial=(64, 64), channels=1):
        folder = tmp_path / kind
        folder.mkdir()
        (folder / f"{kind}.json").write_text("{}", encoding="utf-8")
        form = Form(channels=channels, spatial=list(spatial), label_names=["lesion"], class_names=["plain", "bright"],
                    mask_names=["oedema", "tumour"])  # fmt: skip
        metadata = NetworkMetadata(
            tool_version="0", name="test", distribution="d", distribution_version="0", settings={}, form=form,
            weights="0" * 64, seed=0, precision="32", training_store="0" * 64, training_images=1, training_patients=[],
            steps=1, prepared=prepared,
        )  # fmt: skip
        monkeypatch.setattr(prediction, "load_network", lambda *args: (plugin, metadata))
        return folder

    return put


def write_volume(path, code, spacing=(1.0, 1.3, 2.5)):
    image = np.zeros(SHAPE, np.int16)
    image[1:-1, 1:-1, 1:-1] = 300
    image[LESION] = 1000
    made = sitk.GetImageFromArray(image)
    made.SetSpacing(spacing)
    made.SetOrigin((-31.0, 17.5, 240.25))
    made.SetDirection(sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation(code))
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(made, str(path))


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


@pytest.mark.parametrize("volume", [None, (32, 32, 32)], ids=["slices", "volumes"])
def test_masks_of_volumes_lie_in_the_voxels_of_their_files(tmp_path, network, volume):
    for code in CODES:
        write_volume(tmp_path / "scans" / code / "t1.nii.gz", code)
    folder = network("segmenter", BrightIsTwo(), PREPARED | ({} if volume is None else {"volume": list(volume)}),
                     spatial=volume or (64, 64))  # fmt: skip
    done = predict(PredictOptions(folder, tmp_path / "scans", tmp_path / "out", workers=1))
    assert (done.kind, done.scans, done.found) == ("segmenter", len(CODES), len(CODES))
    assert json.loads((tmp_path / "out/masks/labels.json").read_text(encoding="utf-8")) == {
        "background": 0, "oedema": 1, "tumour": 2,
    }  # fmt: skip
    truth = np.zeros(SHAPE, bool)
    truth[LESION] = True
    for code in CODES:
        scan = sitk.ReadImage(str(tmp_path / "scans" / code / "t1.nii.gz"))
        mask = sitk.ReadImage(str(tmp_path / "out/masks" / f"{code}-t1.nii.gz"))
        for of in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
            assert np.allclose(getattr(mask, of)(), getattr(scan, of)(), atol=1e-4), (code, of)
        values = sitk.GetArrayFromImage(mask)
        assert set(np.unique(values)) == {0, 2}
        assert dice(values == 2, truth) > 0.8, code


@pytest.mark.parametrize(
    ("says", "given", "read", "noted"),
    [
        ((1.0, 1.3, 2.5), None, (1.0, 1.3, 2.5), True),
        ((1.0, 1.0, 1.0), None, (1.0, 1.0, 4.0), False),  # as files say that know no spacing
        ((1.0, 1.3, 2.5), (2.0, 1.0, 1.0), (1.0, 1.0, 2.0), False),
    ],
)
def test_new_scans_have_the_spacing_that_they_say(tmp_path, network, says, given, read, noted):
    """That of the training images' --spacing is for scans that say none."""
    write_volume(tmp_path / "scans/t1.nii.gz", "LPS", says)
    prepared = PREPARED | {"volume": [16, 16, 16], "fit": "stretch", "spacing": [4.0, 1.0, 1.0]}
    folder, said = network("segmenter", BrightIsTwo(), prepared, spatial=(16, 16, 16)), []
    how = {"spacing": given, "workers": 1, "announce": said.append}
    predict(PredictOptions(folder, tmp_path / "scans", tmp_path / "out", **how))
    finer = min(read[:2])
    shape = SHAPE[0], round(SHAPE[1] * read[1] / finer), round(SHAPE[2] * read[0] / finer)
    expected = np.array((read[2], finer, finer)) * shape / 16
    np.testing.assert_allclose(open_store(tmp_path / "out/scans.h5").spacing[0], expected, rtol=1e-6)
    note = "t1.nii.gz: its own spacing is taken, 1 x 1.3 x 2.5 mm, not 1 x 1 x 4 mm"
    assert any(note in line for line in said) == noted
    mask, scan = (sitk.ReadImage(str(tmp_path / name / "t1.nii.gz")) for name in ("out/masks", "scans"))
    assert np.allclose(mask.GetSpacing(), scan.GetSpacing())


class Unsure:
    """A detector that is sure of nothing."""

    def predict(self, images):
        for _ in images:
            yield np.array([[4, 4, 9, 9]], np.float32), np.array([0.05], np.float32), np.array([0])


@pytest.mark.parametrize(("threshold", "found", "said"), [
    (0.1, 0, ["no score reaches 0.1, the highest is 0.05; see --threshold"]), (0.01, 1, []),
])  # fmt: skip
def test_where_nothing_is_found_the_highest_score_is_said(tmp_path, network, threshold, found, said):
    tiny_scans.picture(tmp_path / "scans/a.png", side=40)
    told = []
    options = PredictOptions(
        network("detector", Unsure()), tmp_path / "scans", tmp_path / "out", threshold=threshold, announce=told.append
    )
    assert predict(options).found == found
    assert [line for line in told if "score" in line] == said


def test_masks_of_pictures_have_their_size_and_are_read_with_their_names(tmp_path, network):
    tiny_scans.picture(tmp_path / "scans/a.png", (8, 6, 18, 16), side=40)
    tiny_scans.picture(tmp_path / "scans/b.png", side=24)
    done = predict(PredictOptions(network("segmenter", BrightIsTwo()), tmp_path / "scans", tmp_path / "found"))
    assert (done.scans, done.images) == (2, 2)
    mask = np.asarray(Image.open(tmp_path / "found/masks/a.png"))
    truth = np.zeros((40, 40), bool)
    truth[6:16, 8:18] = True
    assert mask.shape == (40, 40)
    assert dice(mask == 2, truth) > 0.9
    recipe = replace(tiny_scans.PLAIN, size=64)
    store = tiny_scans.made(tmp_path, recipe, masks=tmp_path / "found/masks", split="1,0,0", normals=True)
    assert store.spec.mask_names == ("oedema", "tumour")
    assert [store.spec.label_names[n] for n in store.labels[store.ids.index("a")]] == ["tumour"]


def test_classes_become_a_row_an_image_and_a_row_a_scan(tmp_path, network):
    write_volume(tmp_path / "scans/v.nii.gz", "LPS")
    predict(PredictOptions(network("classifier", HowBright()), tmp_path / "scans", tmp_path / "out"))
    with (tmp_path / "out/images.csv").open(encoding="utf-8", newline="") as file:
        images = list(csv.DictReader(file))
    bright = [int(row["slice"]) for row in images if float(row["bright"]) > 0.5]
    assert bright == [3, 4, 5, 6]
    assert all(abs(float(row["plain"]) + float(row["bright"]) - 1) < 1e-5 for row in images)
    with (tmp_path / "out/scans.csv").open(encoding="utf-8", newline="") as file:
        (scan,) = csv.DictReader(file)
    assert (scan["file"], int(scan["images"])) == ("v.nii.gz", len(images))
    assert abs(float(scan["bright"]) - 0.9 * len(bright) / len(images)) < 1e-5
    assert scan["class"] == ("bright" if float(scan["bright"]) > 0.5 else "plain")


@pytest.mark.parametrize("table", ["scans.csv", "images.csv"])
def test_probabilities_are_read_by_evaluate(tmp_path, network, table):
    tiny_scans.picture(tmp_path / "scans/a.png", (8, 6, 18, 16), side=40)
    tiny_scans.picture(tmp_path / "scans/p1/b.png", side=40)
    predict(PredictOptions(network("classifier", HowBright()), tmp_path / "scans", tmp_path / "out"))
    (tmp_path / "truth.csv").write_text("image,class\na.png,bright\np1/b.png,plain\n", encoding="utf-8")
    truth = read_class_truth(tmp_path / "truth.csv", None)
    found = read_probabilities(tmp_path / "out" / table, truth, tmp_path / "truth.csv")
    with (tmp_path / "out/scans.csv").open(encoding="utf-8", newline="") as file:
        expected = {row["file"]: [float(row[name]) for name in truth.cases.names] for row in csv.DictReader(file)}
    np.testing.assert_allclose(found, [expected[name] for name in truth.cases.ids])


def test_a_trained_detector_says_how_scans_are_prepared(tmp_path, tiny_plugins, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "abcd":
        tiny_scans.picture(tmp_path / f"scans/{name}.png", (8, 6, 18, 16), side=40)
    boxes = tiny_scans.rows(tmp_path, [f"{name},8,6,18,16" for name in "abcd"])
    tiny_scans.picture(tmp_path / "new/e.png", (20, 10, 32, 30), side=64)
    for line in (
        f"preprocess scans --boxes {boxes} --size 32 --strip none --split 1,0,0",
        "train-detector real.h5 --detector tiny --steps 2 --out detector",
        "predict detector new",
    ):
        done = CliRunner().invoke(app, line.split())
        assert done.exit_code == 0, done.output
    with (tmp_path / "predictions/detections.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    found = [float(row[name]) for name in ("x_min", "y_min", "x_max", "y_max")]
    assert np.abs(np.array(found) - (20, 10, 32, 30)).max() <= 2
    assert (tmp_path / "predictions/preprocess.html").exists()


BAD = {
    "regions": (PREPARED | {"region_mm": 64.0}, {}, "was trained on regions around lesions"),
    "older": ({}, {}, "does not say how its images were pre-processed"),
    "joined": (
        PREPARED | {"differing": ["label", "split", "window"]},
        {},
        r"on joined stores .* settings \(window\); ",
    ),
    "masks": (PREPARED | {"strip": "./masks"}, {}, "give those of the new scans with --strip"),
    "colour": (PREPARED, {"channels": 3}, "takes images of 3 channels, 64x64; these scans give 1, 64x64"),
    "size": (PREPARED, {"spatial": (32, 32)}, "takes images of 1 channels, 32x32; these scans give 1, 64x64"),
    "form": (PREPARED, {}, "--format word: the choices are"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_network_that_cannot_answer_is_refused_in_a_sentence(tmp_path, network, name):
    prepared, form, said = BAD[name]
    tiny_scans.picture(tmp_path / "scans/a.png")
    folder = network("segmenter", BrightIsTwo(), prepared, **form)
    options = PredictOptions(folder, tmp_path / "scans", tmp_path / "out", form="word" if name == "form" else "csv")
    with pytest.raises(Exception, match=said):
        predict(options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("kind", "asked", "said"), [
    ("segmenter", ("--format", "coco"), "--format coco: the choices are, for a segmenter, dicom-seg, or none for PNG"),
    ("classifier", ("--format", "coco"), "--format coco: the choices are, for a classifier, none: the answers are"),
    ("classifier", ("--format", "dicom-seg"), "--format dicom-seg: the choices are, for a classifier, none"),
    ("detector", ("--format", "dicom-seg"), "--format dicom-seg: the choices are coco, yolo, csv, dicom-sr"),
    ("segmenter", ("--threshold", "0.5"), "--threshold is for detections, and "),
    ("classifier", ("--threshold", "0.5"), "--threshold is for detections, and "),
])  # fmt: skip
def test_what_a_kind_of_network_would_not_use_is_refused(tmp_path, network, kind, asked, said):
    tiny_scans.picture(tmp_path / "scans/a.png")
    folder, out = network(kind, BrightIsTwo()), tmp_path / "out"
    done = CliRunner().invoke(app, ["predict", str(folder), str(tmp_path / "scans"), "--out", str(out), *asked])
    assert said in str(done.exception)
    assert not out.exists()


def test_masks_are_made_one_by_one(tmp_path, monkeypatch):
    """Whole scans are large: hundreds of them at once fill a memory that one by one they would not."""
    made = []
    monkeypatch.setattr(answers, "scan_mask", lambda details, found: (made.append(details) or found[0], None))
    store = SimpleNamespace(details=[{"file": "a.png"}, {"file": "b.png"}, {"file": "c.png"}])
    store.ids = ["a", "b", "c"]
    masks = answers.ScanMasks(store, [np.full((4, 4), value, np.uint8) for value in (0, 1, 2)])
    assert (len(masks), list(masks), made) == (3, ["a.png", "b.png", "c.png"], [])
    next(iter(masks.items()))
    assert made == [[{"file": "a.png"}]]
    assert answers.write_masks(masks, ["cyst", "mass"], tmp_path) == 2
    assert len(made) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "c.png", "labels.json"]


ODD = (
    "a.png", "A.png", "a b.png", "\u00fc.png", "img.001.png", "P 1/s.png", "P2/s.png", "P2-s.png", "M\u00fcller/h.png",
    "\u80ba/\u7d50\u7bc0.png", "Patient 1/slice 1.png", "Patient 1/slice_1.png", "x/a.png", "x/y/a.png",
)  # fmt: skip


@pytest.mark.parametrize("files", [ODD, ODD[5:], ("P 1/s.png", "P 2/s.png"), ("A/a.png", "a/a.png")])
def test_the_mask_of_every_scan_is_read_back_whatever_its_name(tmp_path, network, files):
    for number, name in enumerate(files):
        tiny_scans.picture(tmp_path / "scans" / name, (8, 6 + number, 18, 16 + number), side=40)
    predict(PredictOptions(network("segmenter", BrightIsTwo()), tmp_path / "scans", tmp_path / "found"))
    recipe, said = replace(tiny_scans.PLAIN, size=64), []
    store = tiny_scans.made(tmp_path, recipe, masks=tmp_path / "found/masks", split="1,0,0", said=said)
    assert len(store) == len(files)
    assert not [line for line in said if "no mask" in line or "left out" in line]
    for details, image, mask in zip(store.details, store.images, store.masks, strict=True):
        bright = np.asarray(image)[0] > 150
        assert dice(np.asarray(mask) > 0, bright) > 0.8, details["file"]


def test_masks_of_the_slices_of_volumes_in_folders_are_read_back(tmp_path, network):
    for name in ("P 1/v a.nii.gz", "P2/v.nii.gz", "v.nii.gz"):
        write_volume(tmp_path / "scans" / name, "LPS")
    done = predict(PredictOptions(network("segmenter", BrightIsTwo()), tmp_path / "scans", tmp_path / "found"))
    assert (done.scans, len(list((tmp_path / "found/masks").glob("*.nii.gz")))) == (3, 3)
    said = []
    store = tiny_scans.made(
        tmp_path, replace(tiny_scans.PLAIN, size=64), masks=tmp_path / "found/masks", split="1,0,0", said=said
    )
    assert {details["file"] for details in store.details} == {"P 1/v a.nii.gz", "P2/v.nii.gz", "v.nii.gz"}
    assert not [line for line in said if "no mask" in line or "left out" in line]


def test_a_folder_without_a_network_is_refused(tmp_path):
    for name in ("network", "scans"):
        (tmp_path / name).mkdir()
    with pytest.raises(Exception, match="holds no trained detector, classifier or segmenter"):
        predict(PredictOptions(tmp_path / "network", tmp_path / "scans", tmp_path / "out"))


@pytest.mark.parametrize("fit", ["pad", "stretch"])
def test_labels_go_back_to_the_pixels_that_they_were_cut_from(fit):
    rng = np.random.default_rng(0)
    for _ in range(30):
        shape = tuple(rng.integers(8, 40, 2).tolist())
        truth = np.zeros(shape, np.uint8)
        low = [rng.integers(0, side - 4) for side in shape]
        truth[low[0] : low[0] + rng.integers(3, 9), low[1] : low[1] + rng.integers(3, 9)] = 3
        placement = place(shape, None, 64, fit)
        assert placement == Placement(**asdict(placement))
        back = placement.inverse_labels(placement.apply(truth[None], "nearest")[0])
        assert back.shape == shape
        assert dice(back == 3, truth == 3) > 0.75
        assert set(np.unique(back)) <= {0, 3}
