"""`medaug evaluate`: from a store or from COCO files to metrics.json, tables, curves and pictures; or one sentence."""

import csv
import json
import signal
import sys
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import make_records, make_store
from jsonschema import Draft202012Validator
from PIL import Image
from scenes import sightings
from typer.testing import CliRunner

import data_schemas
from medaug_cli.cli import app, main
from medaug_cli.evaluation.folder import file_names
from medaug_cli.evaluation.found_rows import read_csv
from medaug_cli.evaluation.pictures import choose_images
from medaug_cli.figures.evaluation_page import evaluation_html
from medaug_cli.figures.froc import drawn_curve
from medaug_cli.figures.overlays import View, draw_overlay
from medaug_cli.metrics import twelve_numbers
from medaug_cli.metrics.coco_files import read_detections, read_truth
from medaug_cli.metrics.operating import Froc
from medaug_cli.metrics.report import Metrics
from medaug_cli.runs import RunOptions, train_detector

pytestmark = pytest.mark.usefixtures("tiny_plugins", "undrawn")
FAST = ("--resamples", "100", "--overlays", "2")
FILES = [
    ".medaug.json", "detections", "errors.html", "evaluation.html", "froc.csv", "froc.svg", "metrics.json", "overlays",
    "table.csv", "table.md",
]  # fmt: skip
CHECK = {name: Draft202012Validator(data_schemas.load(name)) for name in ("metrics", "coco", "detections")}


@pytest.fixture
def evaluate(monkeypatch, capsys):
    """Return a function that runs `medaug evaluate` in this process: (exit code, standard output, standard error)."""
    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["medaug", "evaluate", *map(str, arguments), *FAST])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        return code, *capsys.readouterr()

    yield run
    for number, handler in handlers:
        signal.signal(number, handler)


@pytest.fixture
def detector(real, monkeypatch):
    """Go to a folder with real.h5 and a detector fitted on it."""
    monkeypatch.chdir(real.parent)
    train_detector(real, "tiny", RunOptions(real.parent / "detector", device="cpu", precision="32"), steps=4)
    return real.parent / "detector"


BOX, FAR = [10, 10, 20, 20], [40, 40, 10, 10]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Go to a folder with truth.json of six images of three patients, and good.json and poor.json on them."""
    monkeypatch.chdir(tmp_path)
    truth = {
        "images": [
            {"id": 10 + i, "file_name": f"{i}.png", "width": 64, "height": 64, "patient": f"p{i // 2}"}
            for i in range(6)
        ],
        "categories": [{"id": 3, "name": "lesion"}],
        "annotations": [
            {"id": i, "image_id": 10 + i, "category_id": 3, "bbox": BOX, "area": 400, "iscrowd": 0} for i in range(1, 6)
        ],
    }  # fmt: skip
    good = [row(11 + i, BOX, 0.9) for i in range(4)] + [row(10, FAR, 0.4), row(13, [10, 10, 20, 8], 0.0005)]
    poor = [row(11 + i, BOX if i < 2 else [10, 10, 20, 8], 0.6) for i in range(4)] + [
        row(10 + i, FAR, 0.7) for i in range(6)
    ]
    for name, content in (("truth", truth), ("good", good), ("poor", poor)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return tmp_path


def row(image, box, score, category=3):
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


def change(path, alter):
    value = json.loads(path.read_text(encoding="utf-8"))
    alter(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def everything(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def identity_holds(found):
    """Tell whether every row of metrics.json counts the same detections at each IoU (Table 1)."""
    counted = [
        [at["sensitivity"] * found["boxes"] + at["fps_per_slice"] * found["slices"] for at in row["iou"].values()]
        for row in found["rows"]
    ]
    return all(np.allclose(each, each[0]) and np.allclose(each, np.round(each)) for each in counted)


# from a store


def test_one_detector_on_a_store(detector, evaluate):
    code, said, progress = evaluate("real.h5", "detector", "--json")
    assert code == 0, progress
    out = detector.parent / "evaluation"
    found = json.loads(said)
    assert found == json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    CHECK["metrics"].validate(found)
    assert sorted(path.name for path in out.iterdir()) == [*FILES, "truth.json"]
    assert (found["split"], found["slices"], found["boxes"], found["patients"]) == ("test", 4, 4, 1)
    assert [row["detector"] for row in found["rows"]] == ["detector"]
    assert found["rows"][0]["against_first"] is None
    assert found["rows"][0]["coco"] is None
    assert found["rows"][0]["iou"].keys() == {"0.5", "0.25"}
    assert identity_holds(found)
    assert not list(out.parent.glob("evaluation.*"))


def test_what_it_writes_evaluates_to_the_same(detector, evaluate):
    _, said, _ = evaluate("real.h5", "detector", "--json")
    out = detector.parent / "evaluation"
    CHECK["coco"].validate(json.loads((out / "truth.json").read_text(encoding="utf-8")))
    CHECK["detections"].validate(json.loads((out / "detections/detector.json").read_text(encoding="utf-8")))
    code, again, progress = evaluate(
        "--truth", out / "truth.json", "--detections", out / "detections/detector.json", "--out", "again", "--json"
    )
    assert code == 0, progress
    first, second = json.loads(said), json.loads(again)
    assert first["rows"][0]["iou"] == second["rows"][0]["iou"]
    assert (first["slices"], first["boxes"], first["patients"]) == (4, second["boxes"], second["patients"])


def test_two_detectors_are_compared_on_the_same_patients(detector, evaluate):
    code, said, progress = evaluate("real.h5", "one=detector", "other=detector", "--split", "train", "--json")
    assert code == 0, progress
    found = json.loads(said)
    CHECK["metrics"].validate(found)
    one, other = found["rows"]
    assert [one["detector"], other["detector"]] == ["one", "other"]
    assert one["iou"] == other["iou"]
    for paired in other["against_first"]["0.5"].values():
        assert (paired["difference"], paired["interval"], paired["p"]) == (0, [0, 0], 1)
    assert "one=detector" not in (detector.parent / "evaluation/table.md").read_text(encoding="utf-8")


@pytest.mark.drawn
def test_the_same_command_writes_the_same_bytes(detector, evaluate):
    evaluate("real.h5", "detector", "--out", "one")
    evaluate("real.h5", "detector", "--out", "two")
    assert everything(detector.parent / "one") == everything(detector.parent / "two")


def test_a_detector_is_not_judged_on_patients_it_was_fitted_on(detector, evaluate):
    moved = [r for r in make_records() if r.split == "train"]
    for record in moved:
        object.__setattr__(record, "split", "test")
    make_store(detector.parent / "moved.h5", moved)
    code, _, said = evaluate("moved.h5", "detector")
    assert code == 3
    assert "was fitted on 4 of the patients" in said
    assert not (detector.parent / "evaluation").exists()


@pytest.mark.parametrize(
    ("source", "said"),
    [("gan", "synthetic images in the train split (i000); networks"), ("external:web", "external images in the train")],
)
def test_images_that_nothing_is_judged_on_are_refused(detector, evaluate, source, said):
    marked = [replace(record, source=source, split="train", seed=0) for record in make_records(6)]
    make_store(detector.parent / "other.h5", marked)
    code, _, words = evaluate("other.h5", "detector", "--split", "train")
    assert code == 3
    assert said in words


def test_a_split_without_a_box_is_refused(detector, evaluate):
    empty = []
    for record in make_records():
        if record.split == "test":
            object.__setattr__(record, "boxes", np.empty((0, 4), np.float32))
            object.__setattr__(record, "labels", [])
        empty.append(record)
    make_store(detector.parent / "real.h5", empty)
    code, _, said = evaluate("real.h5", "detector")
    assert (code, said.strip().splitlines()[-1]) == (
        3, "medaug: real.h5 has no box in the test split, so there is nothing to find",
    )  # fmt: skip


# from COCO files


def test_anyones_detections(files, evaluate):
    code, said, progress = evaluate("--truth", "truth.json", "--detections", "good.json", "--json")
    assert code == 0, progress
    found = json.loads(said)
    CHECK["metrics"].validate(found)
    assert sorted(path.name for path in (files / "evaluation").iterdir()) == FILES
    assert (found["slices"], found["boxes"], found["patients"], found["slices_without_boxes"]) == (6, 5, 3, 1)
    assert (found["resampled"], found["split"]) == ("patients", None)
    [mine] = found["rows"]
    half = mine["iou"]["0.5"]
    assert (half["sensitivity"], half["fps_per_slice"]) == (pytest.approx(4 / 5), pytest.approx(1 / 6))
    assert half["curve_ends_at"] == pytest.approx(2 / 6)  # the detection below the threshold is on the curve
    data = read_truth(files / "truth.json")
    assert mine["coco"] == twelve_numbers(data, read_detections(files / "good.json", data)[0])
    assert identity_holds(found)


def test_the_better_of_two(files, evaluate):
    code, said, progress = evaluate(
        "--truth", "truth.json", "--detections", "good.json", "--detections", "second=poor.json", "--json"
    )
    assert code == 0, progress
    found = json.loads(said)
    CHECK["metrics"].validate(found)
    assert identity_holds(found)
    good, poor = found["rows"]
    assert [good["detector"], poor["detector"]] == ["good", "second"]
    assert poor["iou"]["0.5"]["sensitivity"] == pytest.approx(2 / 5)
    assert poor["iou"]["0.25"]["sensitivity"] == pytest.approx(4 / 5)
    paired = poor["against_first"]["0.5"]["sensitivity"]
    assert paired["difference"] == pytest.approx(-2 / 5)
    assert paired["interval"][0] <= -2 / 5 <= paired["interval"][1]
    assert 0 < paired["p"] <= paired["p_holm"] <= 1
    assert poor["against_first"]["0.25"]["sensitivity"]["difference"] == pytest.approx(0)
    table = (files / "evaluation/table.md").read_text(encoding="utf-8")
    assert "| good | " in table
    assert "## Difference to good" in table
    assert "## COCO's twelve numbers" in table


def test_a_person_reads_tables(files, evaluate):
    code, said, progress = evaluate("--truth", "truth.json", "--detections", "good.json")
    assert code == 0
    for part in ("Table 1", "6 images of 3 patients, 5 boxes (lesion 5); 1 image holds no box", "CPM", "APmedium"):
        assert part in said
    assert "evaluation: metrics.json, table.md" in progress


def test_the_chosen_ious_threshold_and_note(files, evaluate):
    code, said, _ = evaluate(
        "--truth", "truth.json", "--detections", "good.json", "--iou", "0.3", "--iou", "0.75", "--iou", "0.3",
        "--threshold", "0.0001", "--note", "<b>Pilot</b>", "--json",
    )  # fmt: skip
    found = json.loads(said)
    assert code == 0
    assert list(found["rows"][0]["iou"]) == ["0.3", "0.75"]
    assert found["rows"][0]["iou"]["0.75"]["fps_per_slice"] == pytest.approx(2 / 6)
    assert found["note"] == "<b>Pilot</b>"
    page = (files / "evaluation/evaluation.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;Pilot" in page
    assert "<b>Pilot" not in page


def test_no_detection_at_all_is_a_result(files, evaluate):
    (files / "none.json").write_text("[]", encoding="utf-8")
    code, said, _ = evaluate("--truth", "truth.json", "--detections", "none.json", "--json")
    assert code == 0
    [none] = json.loads(said)["rows"]
    assert (none["mAP"], none["iou"]["0.5"]["sensitivity"], none["iou"]["0.5"]["fps_per_slice"]) == (0, 0, 0)
    assert none["iou"]["0.5"]["thresholds"]["1"] is None


def test_images_are_resampled_where_no_patient_is_named(files, evaluate):
    change(files / "truth.json", lambda v: [image.pop("patient") for image in v["images"]])
    code, said, _ = evaluate("--truth", "truth.json", "--detections", "good.json", "--json")
    assert code == 0
    assert (json.loads(said)["resampled"], json.loads(said)["patients"]) == ("images", 6)
    assert "intervals are too narrow" in (files / "evaluation/table.md").read_text(encoding="utf-8")


def test_detections_keep_their_categories(files, evaluate):
    change(files / "good.json", lambda v: v.append(row(10, FAR, 0.8, category=77)))
    code, said, _ = evaluate("--truth", "truth.json", "--detections", "good.json", "--json")
    assert code == 0
    assert json.loads(said)["rows"][0]["iou"]["0.5"]["fps_per_slice"] == pytest.approx(2 / 6)
    written = json.loads((files / "evaluation/detections/good.json").read_text(encoding="utf-8"))
    given = json.loads((files / "good.json").read_text(encoding="utf-8"))
    written, given = (sorted(rows, key=lambda r: (r["image_id"], r["score"])) for rows in (written, given))
    assert written == given


# rules, seeds, sizes, other forms


@pytest.mark.parametrize(("rule", "keys"), [("voc", ["0.5", "0.25"]), ("luna", ["0"]), ("center", ["0"])])
def test_another_rule_is_named_wherever_its_figures_are(files, evaluate, rule, keys):
    pictures_of(files)
    code, said, progress = evaluate(*COCO, "--rule", rule, "--images", ".", "--json")
    assert code == 0, progress
    found = json.loads(said)
    CHECK["metrics"].validate(found)
    assert (found["rule"], list(found["rows"][0]["iou"])) == (rule, keys)
    assert f"Matching rule: {rule}." in (files / "evaluation/table.md").read_text(encoding="utf-8")
    assert f"(rule {rule})" in (files / "evaluation/errors.html").read_text(encoding="utf-8")
    assert found["rows"][0]["coco"][1] > 0  # COCO's numbers are by COCO's rule, whatever the other


def test_seeds_are_one_row(files, evaluate):
    code, said, progress = evaluate(
        "--truth", "truth.json", "--detections", "good.json", "--detections", "both=good.json,poor.json", "--json"
    )
    assert code == 0, progress
    found = json.loads(said)
    CHECK["metrics"].validate(found)
    good, both = found["rows"]
    assert (good["seeds"], both["detector"], both["seeds"]) == (1, "both", 2)
    half = both["iou"]["0.5"]
    assert half["sensitivity"] == pytest.approx((4 / 5 + 2 / 5) / 2)
    assert [seed["sensitivity"] for seed in half["seeds"]] == [pytest.approx(4 / 5), pytest.approx(2 / 5)]
    assert both["against_first"]["0.5"]["sensitivity"]["difference"] == pytest.approx(-1 / 5)
    written = sorted(path.name for path in (files / "evaluation/detections").iterdir())
    assert written == ["both--seed-1.json", "both--seed-2.json", "good.json"]
    assert "Means over seeds (both of 2)" in (files / "evaluation/table.md").read_text(encoding="utf-8")


def test_sizes_in_mm_and_as_asked(files, evaluate):
    change(files / "truth.json", lambda v: [image.update(spacing=[0.5, 0.5]) for image in v["images"]])
    code, said, _ = evaluate(*COCO, "--sizes", "8,12", "--json")
    assert code == 0
    sizes = json.loads(said)["rows"][0]["iou"]["0.5"]["breakdown"]["sizes"]
    assert [(group["unit"], group["boxes"]) for group in sizes] == [("mm", 0), ("mm", 5), ("mm", 0)]


def test_the_curves_table_has_every_corner_with_its_score(files, evaluate):
    evaluate(*COCO)
    rows = list(csv.DictReader((files / "evaluation/froc.csv").read_text(encoding="utf-8").splitlines()))
    half = [row for row in rows if row["iou"] == "0.5"]
    assert [float(row["score"]) for row in half] == [np.inf, 0.9, 0.0005]
    assert [float(row["sensitivity"]) for row in half] == [0, 0.8, 0.8]
    assert float(half[-1]["fps_per_slice"]) == pytest.approx(2 / 6)


def test_detections_as_csv_and_yolo(files, evaluate):
    code, _, said = evaluate(*COCO, "--write", "csv", "--write", "yolo")
    assert code == 0, said
    rows = list(csv.DictReader((files / "evaluation/detections/good.csv").read_text(encoding="utf-8").splitlines()))
    given = json.loads((files / "good.json").read_text(encoding="utf-8"))
    assert len(rows) == len(given)
    first = rows[0]
    assert (first["image"], first["patient"], first["label"], float(first["score"])) == ("0.png", "p0", "lesion", 0.4)
    assert [float(first[f"{axis}_{end}"]) for end in ("min", "max") for axis in "xy"] == [40, 40, 50, 50]
    folder = files / "evaluation/detections/good"
    assert (folder / "classes.txt").read_text(encoding="utf-8") == "lesion\n"
    assert sorted(path.name for path in (folder / "labels").iterdir()) == [f"{i}.txt" for i in range(6)]
    assert (folder / "labels/5.txt").read_text(encoding="utf-8") == ""
    lines = (folder / "labels/3.txt").read_text(encoding="utf-8").splitlines()
    values = np.array([line.split() for line in lines], float)
    assert values[:, 0].tolist() == [0, 0]
    assert values[0, 1:].tolist() == pytest.approx([20 / 64, 20 / 64, 20 / 64, 20 / 64, 0.9], abs=1e-5)


def test_a_store_says_the_size_that_yolo_needs(detector, evaluate):
    code, _, said = evaluate("real.h5", "detector", "--write", "yolo")
    assert code == 0, said
    assert len(list((detector.parent / "evaluation/detections/detector/labels").iterdir())) == 4


def test_cocos_numbers_alone(files, evaluate):
    code, said, _ = evaluate(*COCO, "--coco-only", "--json")
    assert code == 0
    data = read_truth(files / "truth.json")
    numbers = twelve_numbers(data, read_detections(files / "good.json", data)[0])
    assert json.loads(said) == {"rows": [{"detector": "good", "coco": numbers}]}
    code, said, _ = evaluate(*COCO, "--coco-only")
    assert "APmedium" in said
    assert not (files / "evaluation").exists()


# pictures


def pictures_of(files):
    for i in range(6):
        grey = np.random.default_rng(i).integers(30, 60, (64, 64)).astype(np.uint8)
        Image.fromarray(grey).save(files / f"{i}.png")


@pytest.mark.drawn
def test_pictures_curves_and_page_can_be_opened(files, evaluate):
    pictures_of(files)
    code, _, said = evaluate(
        "--truth", "truth.json", "--detections", "good.json", "--detections", "poor.json", "--images", "."
    )
    assert code == 0, said
    overlays = sorted((files / "evaluation/overlays").iterdir())
    assert [path.name for path in overlays] == ["00001-1.png", "00003-3.png"]  # of two patients, where only one finds
    for path in overlays:
        picture = Image.open(path)
        picture.load()
        assert picture.width > 3 * 300
    svg = ElementTree.parse(files / "evaluation/froc.svg").getroot()
    texts = [element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert {"good", "poor", "sensitivity", "false positives per slice"} <= set(texts)
    page = (files / "evaluation/evaluation.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 2
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize("points", [3, 50, 9000])
def test_the_drawn_curve_is_the_measured_one(points):
    rng = np.random.default_rng(points)
    x, y = (np.append(0, np.cumsum(rng.integers(0, 3, points))) for _ in range(2))
    x, y = 20 * x / max(1, x[-1]), y / max(1, y[-1])
    drawn_x, drawn_y = drawn_curve(Froc(x, y, np.append(np.inf, -np.arange(points))))
    assert (np.diff(drawn_x) >= 0).all()
    assert (np.diff(drawn_y) >= 0).all()
    assert (drawn_x[-1], drawn_y[-1]) == (20, 1)
    assert len(drawn_x) <= 6100
    for rate in (1 / 16, 0.125, 0.5, 1, 2, 4, 8, 16):
        assert np.interp(rate, drawn_x, drawn_y) == pytest.approx(np.interp(rate, x, y), abs=0.003)


def test_a_curve_without_false_positives_is_drawn_at_the_edge():
    x, y = drawn_curve(Froc(np.zeros(3), np.array([0, 0.5, 1]), np.array([np.inf, 0.9, 0.8])))
    assert (x.tolist(), y.tolist()) == ([1 / 16], [1])


def test_a_picture_outside_the_folder_is_not_read(files, evaluate):
    (files / "inside").mkdir()
    pictures_of(files)
    change(files / "truth.json", lambda v: [i.update(file_name="../" + i["file_name"]) for i in v["images"]])
    code, _, said = evaluate("--truth", "truth.json", "--detections", "good.json", "--images", "inside")
    assert code == 0
    assert "no overlay is drawn" in said
    assert not list((files / "evaluation/overlays").iterdir())


def test_overlays_of_all_images(files):
    pictures_of(files)
    command = ["evaluate", "--truth", str(files / "truth.json"), "--detections", str(files / "good.json")]
    command += ["--images", str(files), "--resamples", "100", "--out", str(files / "all")]
    result = CliRunner().invoke(app, [*command, "--overlays", "all"])
    assert result.exit_code == 0
    assert len(list((files / "all/overlays").iterdir())) == 6
    result = CliRunner().invoke(app, [*command, "--overlays", "some", "--overwrite"])
    assert "expected a number, or all" in str(result.exception)


def test_overlays_take_patients_in_turn_and_disagreement_first(files):
    data = read_truth(files / "truth.json")
    found = [read_detections(files / f"{name}.json", data)[0] for name in ("good", "poor")]
    seen = [sightings(data, each, 0.5, 0.1) for each in found]
    assert choose_images(data, found, seen) == [3, 4, 0, 5, 1, 2]


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 256, 200), (1, 20, 300), (2, 8, 32, 32), (1, 700, 500)])
def test_overlays_of_every_form(shape):
    dims = len(shape) - 1
    box = np.array([[0.0] * dims + [side / 2 for side in shape[:0:-1]]])
    none = np.empty((0, 2 * dims))
    views = [
        View("found", box, ["0.90"], none, [], np.array([True]), np.array([True])),
        View("missed", none, [], box + 1, ["cyst 0.50"], np.array([False]), np.array([False])),
    ]
    picture = np.asarray(draw_overlay(np.full(shape, 40, np.uint8), box, views, "a name ≥ é" * 20, ["cyst"]))
    for colour in ((0, 214, 143), (255, 92, 72), (86, 180, 233), (255, 196, 0)):
        assert (picture == colour).all(-1).any()


def test_a_volume_shows_one_slice_and_the_boxes_on_it():
    near, deep = [2, 2, 0, 8, 8, 4], [2, 2, 6, 8, 8, 8]
    none, volume = np.empty((0, 6)), np.zeros((1, 8, 16, 16), np.uint8)

    def drawn(truth, hits, false):
        views = [
            View("v", np.reshape(hits, (-1, 6)), ["0.9"] * len(hits), np.reshape(false, (-1, 6)), ["0.5"] * len(false),
                 np.full(len(truth), True), np.full(len(truth), False))
        ]  # fmt: skip
        return np.asarray(draw_overlay(volume, np.reshape(truth, (-1, 6)), views, "v", ["cyst"] * len(truth)))

    assert (drawn([near, deep], [near, deep], [deep]) == drawn([near], [near], [])).all()
    assert (drawn([near], [near], [near]) != drawn([near], [near], [])).any()
    assert (drawn(none, none, none) == drawn(none, none, [[2, 2, 0, 8, 8, 3]])).all()


def test_the_page_escapes_what_people_named(files, evaluate):
    evaluate("--truth", "truth.json", "--detections", "<script>x</script>=good.json")
    found = json.loads((files / "evaluation/metrics.json").read_text(encoding="utf-8"))
    page = evaluation_html(Metrics.model_validate(found), "<svg/>", [("<i>", b"")], "note")
    assert "<script>" not in page
    assert "<i>" not in page


def test_files_are_named_distinctly():
    named = file_names({"a b": 1, "a/b": 2, "..": 3, "a_b": 4})
    assert len(set(named.values())) == 4
    assert not any("/" in stem or stem.startswith(".") for stem in named.values())


# what is refused


COCO = ("--truth", "truth.json", "--detections", "good.json")
BAD = {
    "truth is missing": (("--truth", "no.json", *COCO[2:]), 3, "no.json does not exist", None),
    "detections are missing": ((*COCO[:3], "no.json"), 3, "no.json does not exist", None),
    "truth is no JSON": (COCO, 3, "truth.json", lambda f: (f / "truth.json").write_text("{", encoding="utf-8")),
    "detections are no JSON": (COCO, 3, "good.json", lambda f: (f / "good.json").write_text("[{]", encoding="utf-8")),
    "truth is binary": (COCO, 3, "truth.json", lambda f: (f / "truth.json").write_bytes(b"\xff\xfe\x00")),
    "truth is a list": (COCO, 3, "truth.json", lambda f: (f / "truth.json").write_text("[]", encoding="utf-8")),
    "detections are the truth": ((*COCO[:3], "truth.json"), 3, "truth.json", None),
    "unknown image": (COCO, 3, "good.json: 0.image_id: 1 is not among", lambda f: change(
        f / "good.json", lambda v: v[0].update(image_id=1))),
    "annotation on an unknown image": (COCO, 3, "truth.json: 2.image_id: 99", lambda f: change(
        f / "truth.json", lambda v: v["annotations"][2].update(image_id=99))),
    "annotation of an unknown category": (COCO, 3, "truth.json: 2.category_id: 8", lambda f: change(
        f / "truth.json", lambda v: v["annotations"][2].update(category_id=8))),
    "image id twice": (COCO, 3, "image id 10 appears twice", lambda f: change(
        f / "truth.json", lambda v: v["images"][1].update(id=10))),
    "NaN score": (COCO, 3, "good.json: 1.score", lambda f: change(
        f / "good.json", lambda v: v[1].update(score=float("nan")))),
    "infinite box": (COCO, 3, "good.json: 1.bbox", lambda f: change(
        f / "good.json", lambda v: v[1].update(bbox=[0, 0, float("inf"), 1]))),
    "negative width": (COCO, 3, "negative size", lambda f: change(
        f / "good.json", lambda v: v[1].update(bbox=[5, 5, -1, 3]))),
    "no score": (COCO, 3, "good.json: 0.score: Field required", lambda f: change(
        f / "good.json", lambda v: v[0].pop("score"))),
    "no box at all": (COCO, 3, "truth.json annotates no box", lambda f: change(
        f / "truth.json", lambda v: v["annotations"].clear())),
    "only crowds": (COCO, 3, "truth.json annotates no box", lambda f: change(
        f / "truth.json", lambda v: [a.update(iscrowd=1) for a in v["annotations"]])),
    "no image": (COCO, 3, "lists no image", lambda f: change(
        f / "truth.json", lambda v: v.update(images=[], annotations=[]))),
    "a folder of images that is none": ((*COCO, "--images", "truth.json"), 3, "not a folder of images", None),
    "a broken picture": ((*COCO, "--images", "."), 3, "5.png cannot be read", lambda f: [
        (f / f"{i}.png").write_text("no picture", encoding="utf-8") for i in range(6)]),
    "no detections named": (("--truth", "truth.json"), 2, "--truth needs --detections", None),
    "nothing named": ((), 2, "give a store and networks", None),
    "detections without truth": (("--detections", "good.json"), 2, "give a store and networks", None),
    "both ways at once": (("real.h5", "detector", *COCO), 2, "takes no store", None),
    "a name twice": ((*COCO, "--detections", "good.json"), 2, "two systems are called 'good'", None),
    "a rule that is none": ((*COCO, "--rule", "pascal"), 2, "--rule pascal: coco, voc, luna, center", None),
    "an IoU where none is asked for": ((*COCO, "--rule", "luna", "--iou", "0.5"), 2, "uses no IoU", None),
    "sizes that are none": ((*COCO, "--sizes", "ten"), 2, "--sizes ten: expected numbers", None),
    "sizes that fall": ((*COCO, "--sizes", "20,10"), 2, "--sizes must be positive and increasing", None),
    "a form that is none": ((*COCO, "--write", "voc"), 2, "--write voc: the choices are coco, yolo, csv", None),
    "a seed that is missing": ((*COCO[:3], "two=good.json,no.json"), 3, "no.json does not exist", None),
    "a seed without a path": ((*COCO[:3], "two=good.json,"), 2, "NAME=PATH,PATH for the seeds", None),
    "YOLO without a size": ((*COCO, "--write", "yolo"), 3, "names no width and height", lambda f: change(
        f / "truth.json", lambda v: v["images"][0].pop("width"))),
    "spacing of three": (COCO, 3, "spacing has 3 numbers, expected 2", lambda f: change(
        f / "truth.json", lambda v: [i.update(spacing=[1, 1, 1]) for i in v["images"]])),
    "numbers alone of a store": (("real.h5", "detector", "--coco-only"), 2, "--coco-only needs --truth", None),
    "numbers alone by another rule": ((*COCO, "--coco-only", "--rule", "voc"), 2, "--rule is not used with --c", None),
    "numbers alone at an IoU": ((*COCO, "--coco-only", "--iou", "0.5"), 2, "--iou is not used with --coco-only", None),
    "numbers alone of a split": ((*COCO, "--coco-only", "--split", "val"), 2, "--split is not used with --c", None),
    "numbers alone of classes": ((*COCO, "--coco-only", "--predictions", "p"), 2, "--predictions is not used", None),
    "a number beyond 64 bits": (COCO, 3, "truth.json: images.0.id: Input should be less than", lambda f: change(
        f / "truth.json", lambda v: v["images"][0].update(id=2**63))),
    "IoU of 0": ((*COCO, "--iou", "0"), 2, "--iou must be above 0", None),
    "IoU of 50": ((*COCO, "--iou", "50"), 2, "--iou must be above 0", None),
    "threshold that is no number": ((*COCO, "--threshold", "nan"), 2, "nan: expected a finite number", None),
    "existing result": (COCO, 2, "evaluation exists; choose another --out, or replace it with --overwrite", lambda f: (
        f / "evaluation").mkdir()),
    "a folder that is no evaluation": ((*COCO, "--overwrite"), 2, "is not an evaluation", lambda f: (
        (f / "evaluation").mkdir(), (f / "evaluation/thesis.txt").write_text("years of work", encoding="utf-8"))),
    "a missing store": (("no.h5", "detector"), 3, "no.h5", None),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_writes_nothing(files, evaluate, case):
    arguments, code, sentence, damage = BAD[case]
    if damage:
        damage(files)
    before, folders = everything(files), sorted(files.rglob("*"))
    found, out, said = evaluate(*arguments)
    assert found == code, said
    assert out == ""
    last = said.strip().splitlines()[-1]
    assert last.startswith("medaug: ")
    assert sentence in last
    assert "Traceback" not in said
    assert (everything(files), sorted(files.rglob("*"))) == (before, folders)


def test_overwrite_replaces_the_whole_folder(files, evaluate):
    assert evaluate(*COCO)[0] == 0
    first = everything(files / "evaluation")
    (files / "evaluation/metrics.json").write_text("{}", encoding="utf-8")
    assert evaluate(*COCO)[0] == 2
    (files / "evaluation/detections/mine.json").write_text("[]", encoding="utf-8")
    code, _, said = evaluate(*COCO, "--overwrite")
    assert code == 2
    assert "holds detections/mine.json" in said
    (files / "evaluation/detections/mine.json").unlink()
    assert evaluate(*COCO, "--overwrite")[0] == 0
    assert everything(files / "evaluation") == first


@pytest.mark.parametrize("lone", [0, 2, 6])
def test_images_of_no_patient_among_others_are_said(files, evaluate, lone):
    change(files / "truth.json", lambda truth: [image.pop("patient") for image in truth["images"][:lone]])
    code, _, said = evaluate(*COCO, "--iou", "0.5")
    assert code == 0
    assert ("2 of 6 images of truth.json name no patient: each counts as one of its own" in said) == (lone == 2)


STRANGE = {  # category of each of four detections -> what is said of them
    (0, 0, 0, 0): "4 of 4 detections are of category 0, which truth.json lacks (it has 3 lesion)",
    (3, 3, 3, 4): "1 of 4 detections are of category 4, which",
    (3, 3, 3, 3): None,
    (9, 3, 8, 9): "3 of 4 detections are of categories 9, 8, which",
    (0, 1, 2, 5): "4 of 4 detections are of categories 0, 1, 2, 5, which",
}


@pytest.mark.parametrize("numbers", STRANGE)
@pytest.mark.parametrize("alone", [True, False])
def test_detections_of_unknown_categories_are_said(files, evaluate, numbers, alone):
    rows = [row(11 + i, BOX, 0.9, number) for i, number in enumerate(numbers)]
    (files / "found.json").write_text(json.dumps(rows), encoding="utf-8")
    coco = ("--truth", "truth.json", "--detections", "found.json")
    code, _, said = evaluate(*coco, *(["--coco-only"] if alone else ["--iou", "0.5"]))
    assert code == 0
    expected = STRANGE[numbers]
    assert (expected in said) if expected else ("categor" not in said)
    if expected and not alone:
        found = json.loads((files / "evaluation/metrics.json").read_text(encoding="utf-8"))
        assert expected in found["remarks"][0]
        assert "lacks" in (files / "evaluation/table.md").read_text(encoding="utf-8")


def test_two_categories_of_one_name_are_refused(files, evaluate):
    change(files / "truth.json", lambda truth: truth["categories"].append({"id": 7, "name": "lesion"}))
    code, _, said = evaluate("--truth", "truth.json", "--detections", "good.json")
    assert (code, "categories 3 and 7 are both called 'lesion'" in said) == (3, True)
    assert not (files / "evaluation").exists()


def as_found(rows, images, categories=None):
    """Return detections in the form of `medaug detect --format coco`."""
    content = {"images": images, "annotations": [{"id": i, **each} for i, each in enumerate(rows, 1)]}
    return content | ({} if categories is None else {"categories": categories})


FOUND = {  # how a file of annotations with scores numbers its images and categories -> category it is read as
    "as the truth": (lambda i: 10 + i, 3, [{"id": 3, "name": "lesion"}]),
    "from 1, by file name": (lambda i: 1 + i, 3, [{"id": 3, "name": "lesion"}]),
    "backwards": (lambda i: 40 - i, 1, [{"id": 1, "name": "lesion"}]),
    "shuffled among the truth's numbers": (lambda i: 10 + (i + 2) % 6, 3, None),
}


@pytest.mark.parametrize("form", FOUND)
def test_annotations_with_scores_are_detections(files, evaluate, form):
    number, category, categories = FOUND[form]
    images = [{"id": number(i), "file_name": f"{i}.png", "width": 64, "height": 64} for i in range(6)]
    good = json.loads((files / "good.json").read_text(encoding="utf-8"))
    rows = [{**each, "image_id": number(each["image_id"] - 10), "category_id": category} for each in good]
    (files / "found.json").write_text(json.dumps(as_found(rows, images, categories)), encoding="utf-8")
    code, said, progress = evaluate(
        "--truth", "truth.json", "--detections", "good.json", "--detections", "found.json", "--iou", "0.5", "--json"
    )
    assert code == 0, progress
    good, found = json.loads(said)["rows"]
    assert found["iou"] == good["iou"]
    assert found["coco"] == good["coco"]


def test_annotations_of_other_images_are_refused(files, evaluate):
    images = [{"id": 10 + i, "file_name": f"other{i}.png"} for i in range(6)]
    content = as_found([row(10, BOX, 0.9)], images)
    (files / "found.json").write_text(json.dumps(content), encoding="utf-8")
    code, _, said = evaluate("--truth", "truth.json", "--detections", "found.json")
    assert (code, "names no image as the truth does" in said) == (3, True)


def test_annotations_without_scores_are_no_detections(files, evaluate):
    code, _, said = evaluate("--truth", "truth.json", "--detections", "truth.json")
    assert (code, "annotations.0.score" in said) == (3, True)


@pytest.mark.parametrize("kind", ["crowds alone", "no box"])
def test_where_nothing_is_to_be_found_coco_says_minus_one(files, evaluate, kind):
    def alter(truth):
        truth["annotations"] = [{**each, "iscrowd": 1} for each in truth["annotations"] if kind != "no box"]

    change(files / "truth.json", alter)
    code, said, progress = evaluate(*COCO, "--coco-only", "--json")
    assert code == 0, progress
    assert json.loads(said)["rows"][0]["coco"] == [-1.0] * 12
    code, _, said = evaluate(*COCO)
    assert (code, "annotates no box" in said) == (3, True)


ALONE = {  # images with a box, patients of the six images -> what has no interval
    "one patient": (range(1, 6), "aaaaaa", ("sensitivity", "fps_per_slice", "cpm", "mAP", "sensitivity_at_1")),
    "one of two has boxes": ((0, 2, 4), "ababab", ("sensitivity", "cpm", "mAP", "sensitivity_at_1")),
    "one of six has boxes": ((3,), "abcdef", ("sensitivity", "cpm", "mAP")),
    "two patients": (range(1, 6), "aaabbb", ()),
}


@pytest.mark.parametrize("case", ALONE)
def test_one_patient_gives_no_interval(files, evaluate, case):
    boxes, patients, without = ALONE[case]

    def alter(truth):
        for image, patient in zip(truth["images"], patients, strict=True):
            image["patient"] = patient
        box = {"category_id": 3, "bbox": BOX, "area": 400, "iscrowd": 0}
        truth["annotations"] = [{"id": i, "image_id": 10 + i, **box} for i in boxes]

    change(files / "truth.json", alter)
    code, said, progress = evaluate(
        "--truth", "truth.json", "--detections", "good.json", "--detections", "poor.json", "--iou", "0.5", "--json"
    )
    assert code == 0, progress
    found = json.loads(said)
    good, poor = (each["iou"]["0.5"]["interval"] for each in found["rows"])
    assert {key for key in good if good[key] is None} >= set(without)
    assert all(poor[key] is None for key in without)
    assert all(found["rows"][1]["against_first"]["0.5"][key] is None for key in without)
    assert bool(found["remarks"]) == bool(without)
    assert (poor["fps_per_slice"] is None) == (case == "one patient")
    page = (files / "evaluation/table.md").read_text(encoding="utf-8")
    assert ("In brackets" in page) == (case != "one patient")


@pytest.mark.parametrize("content", [
    "\ufeffimage;label;score;x_min;y_min;x_max;y_max\n{};{};0,5;1,5;2;9;11\n",
    "Image,Label,Score,X Min,Y Min,X Max,Y Max\n{},{},0.5,1.5,2,9,11\n",
    "sep=;\nfile;class;confidence;x1;y1;x2;y2\n{};{};0.5;1.5;2;9;11\n\n",
])  # fmt: skip
def test_detections_in_a_csv_as_spreadsheets_write_it(files, content):
    data = read_truth(files / "truth.json")
    (files / "found.csv").write_text(content.format("0.png", "lesion"), encoding="utf-8")
    found = read_csv(files / "found.csv", data)
    assert found.boxes.tolist() == [[1.5, 2, 9, 11]]
    assert (found.images.tolist(), found.scores.tolist(), found.labels.tolist()) == ([0], [0.5], [0])


@pytest.mark.parametrize("form", ["csv", "yolo"])
def test_detections_that_evaluate_writes_are_read_back(files, evaluate, form):
    change(files / "truth.json", lambda truth: truth["categories"].append({"id": 5, "name": "two words"}))
    change(files / "good.json", lambda rows: rows.append(row(12, FAR, 0.3, 5)))
    code, said, _ = evaluate("--truth", "truth.json", "--detections", "good.json", "--write", form, "--json")
    assert code == 0
    written = files / "evaluation/detections" / ("good.csv" if form == "csv" else "good")
    code, again, progress = evaluate(
        "--truth", "truth.json", "--detections", f"good={written}", "--out", "again", "--json"
    )
    assert code == 0, progress
    first, second = json.loads(said)["rows"][0], json.loads(again)["rows"][0]
    assert second["iou"]["0.5"]["at_fps"] == first["iou"]["0.5"]["at_fps"]
    assert second["coco"] == pytest.approx(first["coco"])


ODD = {  # a file of detections -> what is said of it
    "no score": ("f.csv", "image,label,x_min,y_min,x_max,y_max\n1.png,lesion,1,1,2,2\n", "has no column score"),
    "a strange image": ("f.csv", "image,score,x_min,y_min,x_max,y_max\nx.png,1,1,1,2,2\n", "line 2: the image 'x.png'"),
    "a strange class": ("f.csv", "image,label,score,x_min,y_min,x_max,y_max\n1,cat,1,1,1,2,2\n", "the class 'cat'"),
    "no number": ("f.csv", "image,score,x_min,y_min,x_max,y_max\n1,1,a,1,2,2\n", "x_min 'a' is not a number"),
    "backwards": ("f.csv", "image,score,x_min,y_min,x_max,y_max\n1,1,9,1,2,2\n", "f.csv: a detection on image 1.png"),
    "an empty file": ("f.csv", "", "f.csv is empty; expected a header with the columns image"),
    "no text file": ("f/readme.md", "", "holds no text file of detections"),
    "five numbers": ("f/labels/1.txt", "0 .5 .5 .1 .1\n", "expected a class, four numbers of the box and a score"),
    "a text file of no image": ("f/labels/other.txt", "", "no image of the truth is called other"),
    "a class without a number": ("f/labels/1.txt", "nan .5 .5 .1 .1 .9\n", "1.txt: line 1: the class 'nan' is not"),
    "a class without end": ("f/labels/1.txt", "inf .5 .5 .1 .1 .9\n", "the class 'inf' is not a whole number"),
    "half a class": ("f/labels/1.txt", "\n0.5 .5 .5 .1 .1 .9\n", "line 2: the class '0.5' is not a whole number"),
    "a score without a number": ("f/labels/1.txt", "0 .5 .5 .1 .1 nan\n", "f: a detection on image 1.png"),
    "an unknown class": ("f/labels/1.txt", "4 .5 .5 .1 .1 .9\n", "class 4 is not among the 1"),
}


@pytest.mark.parametrize("case", ODD)
def test_other_files_of_detections_that_cannot_be_read(files, evaluate, case):
    place, text, expected = ODD[case]
    (files / place).parent.mkdir(parents=True, exist_ok=True)
    (files / place).write_text(text, encoding="utf-8")
    code, _, said = evaluate("--truth", "truth.json", "--detections", place.partition("/")[0])
    assert (code, expected in said) == (3, True), said
    assert not (files / "evaluation").exists()


NASTY = ("found[v2]", "[/]", "[bold]x", "_baseline", "$T_{1$", "$x$", ":smile:", "<b>b", "a&b", "{% x %}", "%s", "\\n")


@pytest.mark.drawn
def test_names_are_shown_as_they_are(files, evaluate):
    named = [f"{name}=good.json" for name in NASTY]
    pairs = [part for each in named for part in ("--detections", each)]
    code, said, progress = evaluate("--truth", "truth.json", *pairs, "--iou", "0.5")
    assert code == 0, progress
    legend = [text.text for text in ElementTree.parse(files / "evaluation/froc.svg").iter() if text.text]
    for name in NASTY:
        assert name in said
        assert name in legend
    for page in ("evaluation.html", "errors.html"):
        assert "<b>b" not in (files / "evaluation" / page).read_text(encoding="utf-8")


def test_a_path_in_an_error_is_shown_as_it_is(files, evaluate):
    _, _, said = evaluate("--truth", "truth.json", "--detections", ":x:/[b]none.json")
    assert ":x:/[b]none.json" in said
