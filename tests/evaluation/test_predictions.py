"""Anyone's class probabilities and masks against the truth in files; and what is refused, in one sentence each."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from sklearn import metrics as sk
from typer.testing import CliRunner

from medaug_cli.cli import app
from medaug_cli.evaluation import mask_files
from medaug_cli.evaluation.mask_files import read_mask_truth
from medaug_cli.metrics.segmentation import dice

NAMES = ["benign", "malignant", "normal"]
ROWS = 12
pytestmark = pytest.mark.usefixtures("undrawn")


def evaluate(*arguments, code=0):
    """Run `medaug evaluate` in this process; return what it says, or the sentence that it stops with."""
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments), "--resamples", "100"])
    if code == 0:
        assert result.exit_code == 0, result.exception
        return result.output
    assert getattr(result.exception, "exit_code", None) == code, result.exception
    return str(result.exception)


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


@pytest.fixture
def classes(tmp_path, monkeypatch):
    """Go to a folder with truth.csv of twelve images of six patients, and good.csv with probabilities of them."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    truth = [f"i{i},p{i // 2},{NAMES[i // 2 % 3]}" for i in range(ROWS)]
    (tmp_path / "truth.csv").write_text("\n".join(["image,patient,class", *truth]), encoding="utf-8")
    scores = rng.random((ROWS, 3)) + 1.2 * np.eye(3)[np.arange(ROWS) // 2 % 3]
    scores /= scores.sum(1, keepdims=True)
    lines = [f"i{i}.png," + ",".join(map(repr, row.tolist())) for i, row in enumerate(scores)]
    (tmp_path / "good.csv").write_text("\n".join(["image," + ",".join(NAMES), *lines]), encoding="utf-8")
    return tmp_path


def changed(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def numbers(path):
    rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    return np.array([[float(cell) for cell in row[1:]] for row in rows])


def test_probabilities_are_measured_as_scikit_learn_does(classes):
    evaluate("--truth", "truth.csv", "--predictions", "good.csv", "--out", "e")
    found, truth = metrics_of(classes / "e"), np.arange(ROWS) // 2 % 3
    values, guess = found["rows"][0]["values"], numbers(classes / "good.csv")
    assert values["accuracy"]["value"] == pytest.approx(sk.accuracy_score(truth, guess.argmax(1)))
    assert values["auc"]["value"] == pytest.approx(sk.roc_auc_score(truth, guess, multi_class="ovr"))
    assert (found["images"], found["patients"], found["resampled"]) == (ROWS, 6, "patients")
    assert found["counts"] == dict.fromkeys(NAMES, 4)
    page = (classes / "e/evaluation.html").read_text(encoding="utf-8")
    assert page.count("data:image/svg") == 4


def test_columns_may_stand_in_any_order_and_beside_others(classes):
    evaluate("--truth", "truth.csv", "--predictions", "good.csv", "--out", "one")
    rows = [line.split(",") for line in (classes / "good.csv").read_text(encoding="utf-8").splitlines()]
    mixed = [";".join([row[3], row[1], row[0], "note", row[2].replace(".", ",")]) for row in rows]
    (classes / "mixed.csv").write_text("\n".join(mixed[:1] + mixed[:0:-1]), encoding="utf-16")
    evaluate("--truth", "truth.csv", "--predictions", "good=mixed.csv", "--out", "two")
    one, two = metrics_of(classes / "one")["rows"][0], metrics_of(classes / "two")["rows"][0]
    assert {**one, "weights": ""} == {**two, "weights": ""}


def test_two_systems_are_compared_and_seeds_are_one_row(classes):
    copied(classes / "good.csv", classes / "other.csv")
    changed(classes / "other.csv", "i0.png", "i0")
    systems = ("--predictions", "a=good.csv", "--predictions", "b=other.csv,good.csv")
    evaluate("--truth", "truth.csv", *systems, "--out", "e")
    first, second = metrics_of(classes / "e")["rows"]
    assert second["seeds"] == 2
    assert second["against_first"]["auc"]["difference"] == 0
    assert second["against_first"]["auc"]["verdict"] == "inconclusive"
    assert first["values"]["auc"]["value"] == second["values"]["auc"]["value"]


def copied(source, target):
    target.write_bytes(source.read_bytes())


def test_a_split_is_chosen_and_rows_of_others_are_passed_over(classes):
    lines = (classes / "truth.csv").read_text(encoding="utf-8").splitlines()
    splits = ["split", *("test" if i < 6 else "val" for i in range(ROWS))]
    (classes / "truth.csv").write_text("\n".join(map(",".join, zip(lines, splits, strict=True))), encoding="utf-8")
    command = ("--truth", "truth.csv", "--predictions", "good.csv", "--out", "e")
    assert "names the splits test, val; choose one with --split" in evaluate(*command, code=2)
    evaluate(*command, "--split", "test")
    assert (metrics_of(classes / "e")["images"], metrics_of(classes / "e")["split"]) == (6, "test")
    assert "--split train" in evaluate(*command, "--split", "train", "--overwrite", code=2)


def test_without_patients_images_are_resampled_and_that_is_said(classes):
    text = (classes / "truth.csv").read_text(encoding="utf-8")
    (classes / "truth.csv").write_text("\n".join(
        ",".join(line.split(",")[::2]) for line in text.splitlines()), encoding="utf-8")  # fmt: skip
    said = evaluate("--truth", "truth.csv", "--predictions", "good.csv", "--out", "e")
    assert metrics_of(classes / "e")["resampled"] == "images"
    assert "images are resampled" in " ".join(said.split())
    rows = "".join(f"i{i},q{i // 3}\n" for i in range(ROWS))
    (classes / "patients.csv").write_text(f"image,patient\n{rows}", encoding="utf-8")
    evaluate("--truth", "truth.csv", "--predictions", "good.csv", "--patients", "patients.csv", "--out", "f")
    assert metrics_of(classes / "f")["patients"] == 4


def test_spellings_of_patients_and_classes_are_one_as_in_preprocess(classes):
    evaluate("--truth", "truth.csv", "--predictions", "good.csv", "--out", "e")
    lines = (classes / "truth.csv").read_text(encoding="utf-8").splitlines()
    lines[1::3] = [image + "," + rest.upper() + " " for image, _, rest in (line.partition(",") for line in lines[1::3])]
    (classes / "truth.csv").write_text("\n".join(lines), encoding="utf-8")
    evaluate("--truth", "truth.csv", "--predictions", "good.csv", "--out", "f")
    one, two = metrics_of(classes / "e"), metrics_of(classes / "f")
    assert two["patients"] == one["patients"]
    assert list(two["counts"].values()) == list(one["counts"].values())
    key = "balanced_accuracy"
    assert two["rows"][0]["values"][key]["interval"] == one["rows"][0]["values"][key]["interval"]


BAD_CLASSES = {
    "sum below 1": ("good.csv", lambda t: with_row(t, "i3.png,0.2,0.2,0.2"), "line 5: the probabilities of image i3"),
    "sum above 1": ("good.csv", lambda t: with_row(t, "i3.png,0.8,0.8,0.2"), "sum to 1.8, not to 1"),
    "NaN": ("good.csv", lambda t: with_row(t, "i3.png,nan,0.5,0.5"), "line 5: the probability of 'benign' is nan"),
    "infinite": ("good.csv", lambda t: with_row(t, "i3.png,inf,0.5,0.5"), "line 5: the probability of 'benign' is inf"),
    "blank": ("good.csv", lambda t: with_row(t, "i3.png,,0.5,0.5"), "the probability of 'benign' is blank"),
    "a word": ("good.csv", lambda t: with_row(t, "i3.png,high,0.5,0.5"), "'benign' is high, not a number"),
    "negative": ("good.csv", lambda t: with_row(t, "i3.png,-0.2,0.7,0.5"), "is -0.2; expected a number from 0 to 1"),
    "percent": ("good.csv", lambda t: with_row(t, "i3.png,20,30,50"), "is 20; expected a number from 0 to 1"),
    "missing image": ("good.csv", lambda t: "\n".join(t.splitlines()[:-1]), "has no row for the image 'i11' of truth"),
    "unknown image": ("good.csv", lambda t: with_row(t, "x3.png,0.2,0.3,0.5"), "line 5: the image 'x3.png' is not"),
    "image twice": ("good.csv", lambda t: with_row(t, "i2,0.2,0.3,0.5"), "line 5: the image 'i2' appears twice"),
    "class without a column": ("good.csv", lambda t: t.replace("normal", "age", 1), "no column for the class"),
    "class with two columns": ("good.csv", lambda t: t.replace("malignant", "Benign", 1), "two columns"),
    "another class": ("good.csv", lambda t: added(t), "'cyst', which is not a class of the truth"),
    "no image column": ("good.csv", lambda t: t.replace("image", "who", 1), "lacks the column image"),
    "row too long": ("good.csv", lambda t: with_row(t, "i3.png,0.2,0.3,0.5,0.1"), "line 5: 5 cells"),
    "empty predictions": ("good.csv", lambda t: "", "good.csv is empty"),
    "image in two classes": ("truth.csv", lambda t: t + "\ni0,p0,normal", "image i0 has two classes"),
    "image of two patients": ("truth.csv", lambda t: t + "\ni0,p9,benign", "image i0 has two patients, p0 and p9"),
    "image without a class": ("truth.csv", lambda t: t + "\ni12,p9,", "image i12 has an empty class"),
    "one class": ("truth.csv", lambda t: t.replace("malignant", "benign").replace("normal", "benign"), "one class"),
    "some without a patient": ("truth.csv", lambda t: t.replace("i0,p0", "i0,"), "not of 'i0' (1 lack one)"),
    "truth without class": ("truth.csv", lambda t: t.replace("class", "colour", 1), "lacks the column class"),
    "truth names no image": ("truth.csv", lambda t: "image,class\n", "names no image"),
}


def with_row(text, row):
    """Return a CSV whose fifth line is another one."""
    lines = text.splitlines()
    return "\n".join([*lines[:4], row, *lines[5:]])


def added(text):
    first, *rows = text.splitlines()
    return "\n".join([f"{first},cyst", *(f"{row},0.25" for row in rows)])


@pytest.mark.parametrize("name", BAD_CLASSES)
def test_what_are_no_probabilities_of_these_images_is_refused(classes, name):
    file, change, words = BAD_CLASSES[name]
    (classes / file).write_text(change((classes / file).read_text(encoding="utf-8")), encoding="utf-8")
    said = evaluate("--truth", "truth.csv", "--predictions", "good.csv", "--out", "e", code=3)
    assert words in said
    assert file in said
    assert not (classes / "e").exists()


@pytest.fixture
def masks(tmp_path, monkeypatch):
    """Go to a folder with masks of six pictures in truth/ (0 and 255) and answers in net/ (0 and 1), and the images."""
    monkeypatch.chdir(tmp_path)
    for name in ("truth", "net", "images"):
        (tmp_path / name).mkdir()
    for i in range(6):
        mask = np.zeros((24, 32), np.uint8)
        mask[6:12, 4 + i : 14] = 255 * (i != 5)
        Image.fromarray(mask).save(tmp_path / f"truth/s{i}.png")
        Image.fromarray(np.roll(mask > 0, i, 0).astype(np.uint8)).save(tmp_path / f"net/s{i}.png")
        Image.fromarray(mask // 2 + 40).save(tmp_path / f"images/s{i}.jpg")
    return tmp_path


def picture(path):
    return np.asarray(Image.open(path)) > 0


def test_masks_in_pictures_are_measured_whatever_marks_a_lesion(masks):
    said = evaluate("--truth", "truth", "--predictions", "net", "--images", "images", "--out", "e")
    found = metrics_of(masks / "e")
    pairs = [(picture(masks / f"truth/s{i}.png"), picture(masks / f"net/s{i}.png")) for i in range(6)]
    expected = np.mean([float(dice(a.sum(), b.sum(), (a & b).sum())) for a, b in pairs])
    assert found["rows"][0]["values"]["dice_image"]["value"] == pytest.approx(expected)
    assert found["counts"] == {"lesion": 5}
    assert "1 image empty as the truth is (Dice 1)" in " ".join(said.split())
    page = (masks / "e/evaluation.html").read_text(encoding="utf-8")
    assert page.count("data:image/png") == 1


def save_volume(path, values, spacing):
    image = sitk.GetImageFromArray(values.astype(np.uint8))
    image.SetSpacing(spacing[::-1])
    sitk.WriteImage(image, str(path))


def test_volumes_are_measured_in_the_millimetres_of_their_files(masks):
    for name, moved in (("vt", 0), ("vn", 1)):
        (masks / name).mkdir()
        values = np.zeros((6, 10, 12), np.uint8)
        values[1:4, 3 + moved : 7 + moved, 2:5] = 1
        save_volume(masks / name / "case.nii.gz", values, (5.0, 2.0, 0.5))
    evaluate("--truth", "vt", "--predictions", "vn", "--out", "e")
    found = metrics_of(masks / "e")
    assert "Distances are in mm." in found["remarks"]
    assert found["rows"][0]["values"]["hausdorff95"]["value"] == pytest.approx(2.0)  # one row, of 2 mm
    np.save(masks / "vn/case.npy", values)
    (masks / "vn/case.nii.gz").unlink()
    evaluate("--truth", "vt", "--predictions", "vn", "--out", "f")
    assert metrics_of(masks / "f")["rows"][0]["values"] == found["rows"][0]["values"]


def test_flat_files_are_measured_in_their_millimetres_too(masks):
    for name, moved in (("vt", 0), ("vn", 1)):
        (masks / name).mkdir()
        values = np.zeros((10, 12), np.uint8)
        values[3 + moved : 7 + moved, 2:5] = 1
        save_volume(masks / name / "case.nii.gz", values, (2.0, 0.5))
    evaluate("--truth", "vt", "--predictions", "vn", "--out", "e")
    found = metrics_of(masks / "e")
    assert "Distances are in mm." in found["remarks"]
    assert found["rows"][0]["values"]["hausdorff95"]["value"] == pytest.approx(2.0)  # one row, of 2 mm
    save_volume(masks / "vn/case.nii.gz", values, (2.0, 0.7))
    said = evaluate("--truth", "vt", "--predictions", "vn", "--out", "f", code=3)
    assert "vn/case.nii.gz has another spacing than its truth vt/case.nii.gz" in said


def label_pictures(folder, shift):
    folder.mkdir()
    for i in range(4):
        values = np.zeros((24, 24), np.uint8)
        values[4:12, 4:12] = 1
        values[6 + shift : 10 + shift, 14:20] = 2
        Image.fromarray(values).save(folder / f"s{i}.png")


def test_several_labels_are_told_apart_by_their_values_or_names(masks):
    label_pictures(masks / "lt", 0)
    label_pictures(masks / "ln", 2)
    evaluate("--truth", "lt", "--predictions", "ln", "--out", "e")
    values = metrics_of(masks / "e")["rows"][0]["values"]
    assert values["dice[1]"]["value"] == 1
    assert values["dice[2]"]["value"] == pytest.approx(0.5)
    assert values["dice"]["value"] == pytest.approx(0.75)
    named = {"labels": {"background": 0, "oedema": 1, "core": 2, "necrosis": 3}}
    (masks / "lt/dataset.json").write_text(json.dumps(named), encoding="utf-8")
    evaluate("--truth", "lt", "--predictions", "ln", "--out", "f")
    found = metrics_of(masks / "f")
    assert found["counts"] == {"oedema": 4, "core": 4, "necrosis": 0}
    assert found["rows"][0]["values"]["dice[core]"]["value"] == pytest.approx(0.5)


def written(path, content):
    path.write_text(json.dumps(content), encoding="utf-8")


def test_a_folder_that_names_its_own_values_is_matched_by_name(masks):
    label_pictures(masks / "lt", 0)
    label_pictures(masks / "ln", 0)
    for file in (masks / "ln").iterdir():  # the other way round, as networks number names that are sorted
        values = np.asarray(Image.open(file))
        Image.fromarray(np.where(values > 0, 3 - values, 0).astype(np.uint8)).save(file)
    written(masks / "lt/dataset.json", {"labels": {"background": 0, "oedema": 1, "core": 2}})
    written(masks / "ln/labels.json", {"background": 0, "core": 1, "oedema": 2})
    evaluate("--truth", "lt", "--predictions", "ln", "--out", "e")
    found = metrics_of(masks / "e")
    assert found["rows"][0]["values"]["dice"]["value"] == 1
    assert found["counts"] == {"oedema": 4, "core": 4}
    evaluate("--truth", "ln", "--predictions", "lt", "--out", "f")  # a labels.json names the truth's, too
    assert metrics_of(masks / "f")["rows"][0]["values"]["dice[core]"]["value"] == 1
    evaluate("--truth", "lt/s0.png", "--predictions", "ln/s0.png", "--out", "g")
    assert metrics_of(masks / "g")["rows"][0]["values"]["dice"]["value"] == 1


@pytest.mark.parametrize(("truth", "names", "said"), [
    ({"oedema": 1, "core": 2}, {"core": 1, "scar": 2}, "scar, which is not among the labels of lt (oedema, core)"),
    (None, {"core": 1, "scar": 2}, "ln names what its values stand for (core, scar), but lt does not; name its labels"),
])  # fmt: skip
def test_names_that_the_truth_lacks_are_refused(masks, truth, names, said):
    label_pictures(masks / "lt", 0)
    label_pictures(masks / "ln", 0)
    if truth:
        written(masks / "lt/dataset.json", {"labels": {"background": 0} | truth})
    written(masks / "ln/labels.json", {"background": 0} | names)
    assert said in evaluate("--truth", "lt", "--predictions", "ln", "--out", "e", code=3)


def test_a_colour_is_the_same_label_in_every_file(masks):
    red, green = (255, 0, 0), (0, 255, 0)
    shown = {"a": ([red, green], [red, green]), "c": ([None, green], [red, green]), "e": ([red], [green])}
    for name, folders in shown.items():
        for folder, colours in zip(("lt", "ln"), folders, strict=True):
            values = np.zeros((32, 32, 3), np.uint8)
            for place, colour in zip((4, 18), colours, strict=False):
                if colour is not None:
                    values[place : place + 8, place : place + 8] = colour
            (masks / folder).mkdir(exist_ok=True)
            Image.fromarray(values).save(masks / folder / f"{name}.png")
    evaluate("--truth", "lt", "--predictions", "ln", "--out", "e")
    values = metrics_of(masks / "e")["rows"][0]["values"]
    assert values["dice_image[#ff0000]"]["value"] == pytest.approx(1 / 3)
    assert values["dice_image[#00ff00]"]["value"] == pytest.approx(2 / 3)


def test_one_mask_against_one(masks):
    evaluate("--truth", "truth/s1.png", "--predictions", "net/s1.png", "--out", "e")
    assert metrics_of(masks / "e")["images"] == 1


def test_patients_of_masks(masks):
    rows = "".join(f"s{i}.png,p{i // 2}\n" for i in range(6))
    (masks / "p.csv").write_text(f"image,patient\n{rows}", encoding="utf-8")
    evaluate("--truth", "truth", "--predictions", "net", "--patients", "p.csv", "--out", "e")
    assert (metrics_of(masks / "e")["patients"], metrics_of(masks / "e")["resampled"]) == (3, "patients")


def broken(path):
    path.write_bytes(b"\x89PNG\r\n\x1a\nno more")


def levels(path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 32)).astype(np.uint8)).save(path)


BAD_MASKS = {
    "another size": (lambda f: Image.new("L", (30, 24)).save(f / "net/s2.png"), "net/s2.png is 24x30, but its truth"),
    "missing": (lambda f: (f / "net/s2.png").unlink(), "net has no mask of the image 's2' of truth (1 of 6"),
    "unknown": (lambda f: copied(
        f / "net/s2.png", f / "net/x.png"), "net/x.png fits no image of truth"),
    "twice": (lambda f: np.save(f / "net/s2.npy", np.zeros((24, 32))), "are masks of the same image; keep one"),
    "NaN": (lambda f: as_npy(f / "net/s2", np.full((24, 32), np.nan)), "s2.npy holds values that are NaN or infinite"),
    "soft": (lambda f: as_npy(f / "net/s2", np.full((24, 32), 0.4)), "holds numbers between whole ones"),
    "below 0": (lambda f: as_npy(f / "net/s2", np.full((24, 32), -1)), "s2.npy holds -1"),
    "text": (lambda f: as_npy(f / "net/s2", np.full((24, 32), "a")), "a mask has two or three axes of numbers"),
    "objects": (lambda f: as_npy(f / "net/s2", np.full((24, 32), None)), "s2.npy cannot be read as an array of numb"),
    "four axes": (lambda f: as_npy(f / "net/s2", np.zeros((1, 1, 24, 32))), "a mask has two or three axes of numbers"),
    "unknown label": (lambda f: Image.fromarray(np.arange(768).reshape(24, 32).astype(np.uint8) // 100).save(
        f / "net/s2.png"), "net marks the value 1, which no mask of truth has (it has 255); name all labels in"),
    "damaged": (lambda f: broken(f / "net/s2.png"), "net/s2.png"),
    "a picture": (lambda f: levels(f / "truth/s2.png"), "grey values, as a picture has"),
    "white outside": (lambda f: Image.new("L", (32, 24), 255).save(f / "truth/s2.png"), "is it white outside?"),
    "no masks": (lambda f: [path.unlink() for path in (f / "net").iterdir()], "net holds no mask"),
    "image of another size": (lambda f: Image.new("L", (9, 9)).save(f / "images/s2.jpg"), "image s2 is 9x9, but"),
    "patient missing": (lambda f: (f / "p.csv").write_text("image,patient\ns0,p0\n", encoding="utf-8"),
                        "names no patient of the image 's1'"),
}  # fmt: skip


def as_npy(stem, values):
    stem.with_suffix(".png").unlink()
    np.save(stem.with_suffix(".npy"), values, allow_pickle=True)


@pytest.mark.parametrize("name", BAD_MASKS)
def test_what_are_no_masks_of_these_images_is_refused(masks, name):
    change, words = BAD_MASKS[name]
    change(masks)
    patients = ("--patients", "p.csv") if (masks / "p.csv").exists() else ()
    command = ("--truth", "truth", "--predictions", "net", "--images", "images", *patients, "--out", "e")
    assert words in evaluate(*command, code=3)
    assert not (masks / "e").exists()


@pytest.mark.parametrize("labels", [1, 255, 256, 300])
def test_more_labels_than_a_byte_holds_are_told_apart(tmp_path, labels):
    """Of lesions that are numbered through, each scan has a few: together they may be hundreds."""
    drawn = np.zeros((4, 4), np.int32)
    drawn[0], drawn[1] = 1, labels
    np.save(tmp_path / "a.npy", drawn)
    found = mask_files._maps(read_mask_truth(tmp_path), ["a"], {value: value for value in range(1, labels + 1)})[0]
    np.testing.assert_array_equal(found, drawn)


def test_a_volume_that_lies_elsewhere_is_refused(masks):
    for name, step in (("vt", 5.0), ("vn", 4.0)):
        (masks / name).mkdir()
        save_volume(masks / name / "case.nii.gz", np.ones((4, 4, 4)) * (np.indices((4, 4, 4))[0] == 1), (step, 1, 1))
    said = evaluate("--truth", "vt", "--predictions", "vn", "--out", "e", code=3)
    assert "vn/case.nii.gz has another spacing than its truth vt/case.nii.gz" in said


@pytest.mark.parametrize("code", ["RAS", "PSL"])
def test_a_volume_whose_axes_are_stored_otherwise_is_said_to_lie_where_its_truth_does(masks, code):
    image = sitk.GetImageFromArray((np.indices((4, 5, 6))[0] == 1).astype(np.uint8))
    image.SetSpacing((1.0, 1.5, 3.0))
    image.SetOrigin((-20.0, 7.0, 31.0))
    for name, stored in (("vt", "LPS"), ("vn", code)):
        (masks / name).mkdir()
        sitk.WriteImage(sitk.DICOMOrient(image, stored), str(masks / name / "case.nii.gz"))
    said = evaluate("--truth", "vt", "--predictions", "vn", "--out", "e", code=3)
    assert "vn/case.nii.gz lies where its truth vt/case.nii.gz does, but its axes are stored in another order" in said


@pytest.mark.parametrize(("arguments", "code", "words"), [
    (("--predictions", "net"), 2, "--predictions needs --truth"),
    (("--truth", "no", "--predictions", "net"), 3, "no does not exist"),
    (("--truth", "truth", "--predictions", "no"), 3, "no does not exist"),
    (("--truth", "truth", "--predictions", "net", "--iou", "0.5"), 2, "--iou is not used for classes or masks"),
    (("--truth", "truth", "--predictions", "net", "--rule", "coco"), 2, "--rule is not used for classes or masks"),
    (("--truth", "truth", "--predictions", "net", "--sizes", "10"), 2, "--sizes is not used"),
    (("--truth", "truth", "--predictions", "net", "--threshold", "0.5"), 2, "--threshold is not used"),
    (("--truth", "truth", "--predictions", "net", "--write", "csv"), 2, "--write is not used"),
    (("--truth", "truth", "--predictions", "net", "--device", "cpu"), 2, "--device is not used with --predictions"),
    (("--truth", "truth", "--predictions", "net", "--split", "test"), 2, "a folder of masks has no splits"),
    (("--truth", "truth", "--predictions", "net", "--overlays", "few"), 2, "expected a number, or all"),
    (("--truth", "truth/s1.png", "--predictions", "net"), 3, "net is a folder, but the truth is the one mask"),
    (("--truth", "truth", "--predictions", "net/s1.png"), 3, "is not a folder"),
    (("--truth", "images/s1.txt", "--predictions", "net"), 3, "lacks the column"),
    (("real.h5", "--truth", "truth", "--predictions", "net"), 2, "takes neither a store nor"),
    (("--truth", "truth", "--detections", "net", "--split", "val"), 2, "--split is not used with --detections"),
])  # fmt: skip
def test_options_that_do_not_go_together(masks, arguments, code, words):
    (masks / "images/s1.txt").write_text("hello, there\n1,2\n", encoding="utf-8")
    assert words in evaluate(*arguments, "--out", "e", code=code)
    assert not (masks / "e").exists()
