"""The filter drops boxes without a lesion, keeps what looks artificial, and obeys a person."""

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
from conftest import make_records, make_store
from heads import COUNT, filtered_folder, heads, sifted, synthetic

from medaug_cli.embedding.probe import dealt
from medaug_cli.errors import BadInput, BrokenContract, UsageError
from medaug_cli.figures.filter_page import Card, filter_html
from medaug_cli.lesion_filter import FilterOptions, sift
from medaug_cli.lesion_filter.evidence import Calibration, DetectorEvidence, calibrate, fit_regions, scores_of
from medaug_cli.lesion_filter.realism import realism
from medaug_cli.lesion_filter.sifting import _command, _Judge, read_decisions
from medaug_cli.plugin import ImageSpec
from medaug_cli.runs import RunOptions, train_detector
from medaug_cli.store import StoreWriter, open_store
from medaug_cli.store.folds import split_as

pytestmark = pytest.mark.usefixtures("few_trees")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return filtered_folder(tmp_path_factory.mktemp("filter"))


@pytest.fixture(scope="module")
def judged(folder):
    """Return what the filter keeps and its report, with all its trees."""
    (folder / "judged").mkdir()
    return sifted(folder, "judged/kept.h5")


def shares(report):
    kept = np.array([verdict.keep for verdict in report.images])
    return kept[:COUNT].mean(), kept[COUNT : 2 * COUNT].mean(), kept[2 * COUNT :].mean()


def test_boxes_without_a_lesion_go_and_artefacts_stay(judged):
    store, report = judged
    with_lesion, without, artificial = shares(report)
    assert with_lesion > 0.8
    assert without < 0.3
    assert artificial > 0.8
    assert len(store) == sum(verdict.keep for verdict in report.images)
    assert all(verdict.reason for verdict in report.images)
    assert "AUC" in report.calibration


def test_the_half_that_looks_most_real_is_kept(folder, monkeypatch):
    monkeypatch.setattr("medaug_cli.lesion_filter.realism.TREES", 60)
    store, report = sifted(folder, by="realism")
    assert len(store) == -(-3 * COUNT // 2)
    with_lesion, _, artificial = shares(report)
    assert artificial < with_lesion
    assert {verdict.reason.split(" (")[0] for verdict in report.images} == {
        "of the more realistic half", "of the less realistic half",
    }  # fmt: skip
    assert "a judge of real against synthetic images (AUC" in report.calibration


def test_the_judge_of_realism_needs_images_of_both_kinds(folder, tmp_path):
    few = make_store(tmp_path / "few.h5", n=6)
    with pytest.raises(UsageError, match=r"needs 10 of each, and 2 training patients; .* has 4 of 4"):
        realism(few, open_store(folder / "synthetic.h5"), 0)


def test_the_line_is_where_the_asked_share_of_real_lesions_falls_below(folder):
    strict, lenient = sifted(folder, real_share=0.3)[1], sifted(folder, real_share=0.0)[1]
    assert strict.threshold > lenient.threshold
    assert sum(v.keep for v in strict.images) < sum(v.keep for v in lenient.images)


def test_what_is_kept_is_the_same_image_with_its_reason(folder):
    store, report = sifted(folder)
    drawn = open_store(folder / "synthetic.h5")
    for i, name in enumerate(store.ids):
        j = drawn.ids.index(name)
        assert (store.images[i] == drawn.images[j]).all()
        assert (store.boxes[i] == drawn.boxes[j]).all()
        assert store.seeds[i] == drawn.seeds[j]
        assert store.details[i]["filter"] == report.images[j].reason
    assert store.info.generators == drawn.info.generators
    assert json.loads((folder / "filter.json").read_text(encoding="utf-8"))["images"][0]["reason"]


def decide(folder, rows):
    with (folder / "decisions.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "keep"), *rows])
    return folder / "decisions.csv"


@pytest.mark.parametrize(("boxes", "scores", "words"), [
    (1, [0.1], "its box shows less of a lesion (0.10) than nearly all real ones (0.20 or more)"),
    (2, [0.05, 0.1], "all of its 2 boxes show less of a lesion (0.10) than nearly all real ones (0.20 or more)"),
    (2, [0.05, 0.3], "lesion evidence 0.30, kept from 0.20 on"), (0, [], "it has no box: a normal image"),
])  # fmt: skip
def test_a_reason_is_true_of_all_boxes(boxes, scores, words):
    calibration = Calibration(0.2, auc=0.9, real_dropped=0.05, elsewhere_dropped=0.6, boxes=30, decides=True)
    assert _Judge(None, calibration, {}, "lesion")._machine(boxes, scores) == ("less" not in words, words)


def test_a_person_overrules(folder):
    _, machine = sifted(folder)
    kept = next(v.id for v in machine.images if v.keep)
    dropped = next(v.id for v in machine.images if not v.keep)
    store, report = sifted(folder, decisions=decide(folder, [(kept, "no"), (dropped, "yes")]))
    assert dropped in store.ids
    assert kept not in store.ids
    reasons = {verdict.id: verdict.reason for verdict in report.images}
    assert reasons[dropped] == "kept by a person"
    assert reasons[kept] == "dropped by a person"
    for before, after in zip(machine.images, report.images, strict=True):
        assert before.keep == after.keep or before.id in (kept, dropped)


def test_by_hand_alone_and_not_at_all(folder):
    store, _ = sifted(folder, by="manual", decisions=decide(folder, [("s000", "no")]))
    assert len(store) == 3 * COUNT - 1
    store, report = sifted(folder, by="none")
    assert len(store) == 3 * COUNT
    assert report.threshold is None


@pytest.mark.parametrize(
    "text", ["Image;Keep\ns000;NO\n", "\ufeffimage,keep\r\n s000 ,no\r\n", "sep=;\nimage;keep\ns000;no"]
)
def test_decisions_are_read_as_spreadsheets_write_them(folder, text):
    path = folder / "decisions.csv"
    path.write_text(text, encoding="utf-8", newline="")
    assert read_decisions(path, open_store(folder / "synthetic.h5")) == {"s000": False}


@pytest.mark.parametrize(
    ("rows", "word"),
    [([("nobody", "yes")], "nobody"), ([("s000", "perhaps")], "perhaps"), ([("s000", "")], "yes or no")],
)
def test_decisions_that_are_none_are_named_by_line(folder, rows, word):
    with pytest.raises(BadInput, match=rf"line 2.*{word}"):
        sifted(folder, decisions=decide(folder, rows))


def test_a_person_who_says_both_is_asked_again(folder):
    rows = [("s000", "yes"), ("s001", "no"), ("s000", "yes"), ("s001", "yes")]
    with pytest.raises(BadInput, match=r"line 5: image 's001' is kept in one line and dropped in another"):
        sifted(folder, decisions=decide(folder, rows))
    assert sifted(folder, by="none", decisions=decide(folder, rows[:3]))[0].ids == [
        name for name in open_store(folder / "synthetic.h5").ids if name != "s001"
    ]


def test_decisions_that_are_no_csv_are_said_to_be_none(folder):
    path = folder / "decisions.csv"
    path.write_text('image,keep\ns000,"' + "no\n" * 50_000, encoding="utf-8")
    with pytest.raises(BadInput, match=r"decisions\.csv, line \d+: not a row of a CSV file"):
        sifted(folder, decisions=path)


@pytest.mark.parametrize("above", [1e-9, 1e-6, 2e-5, 4.9e-5])
@pytest.mark.parametrize("line", [0.23451, 0.5, 0.99999, 0.00002])
def test_an_image_at_the_line_is_kept_whatever_is_written_of_it(folder, line, above):
    store, scores = open_store(folder / "synthetic.h5"), iter([line + above, line, line - above])
    evidence = SimpleNamespace(scores=lambda images, boxes, labels: [np.array([next(scores)]) for _ in boxes])
    calibration = Calibration(line, auc=0.9, real_dropped=0.05, elsewhere_dropped=0.6, boxes=30, decides=True)
    verdicts = _Judge(evidence, calibration, {}, "lesion").verdicts(store, [0, 1, 2])
    assert [verdict.keep for verdict in verdicts] == [True, True, False]


def test_a_detector_that_misses_many_real_lesions_drops_nothing_and_says_so():
    """Three of forty real boxes score 0, as an image without a lesion does: no line lies between them."""
    found = calibrate(np.concatenate([np.zeros(3), np.linspace(0.2, 1, 37)]), np.zeros(0), 0.05)
    assert not found.decides
    assert found.sentence().startswith("The evidence sees nothing in 7.5 % of 40 real boxes")
    assert found.sentence().endswith("no image is dropped.")
    judge = _Judge(None, found, {}, "lesion")
    assert judge._machine(1, [0.0]) == (True, "the evidence sees nothing in too many real boxes")
    assert calibrate(np.concatenate([np.zeros(1), np.linspace(0.2, 1, 39)]), np.zeros(0), 0.05).threshold > 0


def test_the_judge_of_realism_needs_no_box(tmp_path, monkeypatch):
    monkeypatch.setattr("medaug_cli.lesion_filter.realism.TREES", 10)
    (tmp_path / "real").mkdir()
    records = [replace(record, boxes=record.boxes[:0], labels=[], annotated=False) for record in make_records(60)]
    real = make_store(tmp_path / "real/real.h5", records)
    drawn = make_store(tmp_path / "drawn.h5", make_records(24, seed=1))
    scores, kept, _ = realism(real, drawn, 0)
    assert len(scores) == 24
    assert kept.sum() == 12


@pytest.mark.parametrize("sizes", [(40, 40), (100, 12), (7,) * 20])
def test_images_drawn_alike_are_kept_alike_whichever_judge_they_have(sizes, monkeypatch):
    """A judge that has seen fewer real images finds all others less real: scores of two judges are not compared."""
    monkeypatch.setattr("medaug_cli.lesion_filter.realism.TREES", 30)
    rng, drawn = np.random.default_rng(0), 200
    patients = [f"p{k}" for k, images in enumerate(sizes) for _ in range(images)]
    features = {
        "real": np.concatenate([rng.normal(0, 0.5, (1, 30)) + rng.normal(size=(images, 30)) for images in sizes]),
        "drawn": rng.normal(0.2, 1.1, (drawn, 30)),
    }
    monkeypatch.setattr("medaug_cli.lesion_filter.realism._features", lambda store, indices: features[store.path])
    stores = {"real": MagicMock(path="real", patients=patients), "drawn": MagicMock(path="drawn")}
    stores["real"].indices.return_value = np.arange(len(patients))
    stores["drawn"].__len__.return_value = drawn
    _, kept, _ = realism(stores["real"], stores["drawn"], 0)
    part = dealt([str(k) for k in range(drawn)], 0, min(5, len(sizes)))
    assert kept.sum() == drawn // 2
    assert all(abs(kept[part == each].mean() - 0.5) < 0.02 for each in np.unique(part))


@pytest.mark.parametrize("sick", [20, 25, 35])
def test_two_patients_of_whom_one_is_healthy_teach_nothing_and_drop_nothing(tmp_path, sick):
    records = [
        replace(record, patient="sick" if i < sick else "healthy", split="train",
                **({} if i < sick else {"boxes": record.boxes[:0], "labels": []}))
        for i, record in enumerate(heads(40, 0))
    ]  # fmt: skip
    real = make_store(tmp_path / "real.h5", records)
    synthetic(tmp_path / "synthetic.h5", heads(12, 1), real)
    store, report = sift(FilterOptions(tmp_path / "synthetic.h5", tmp_path / "kept.h5"))
    assert len(store) == 12
    assert "cannot tell" in report.calibration
    assert report.threshold is None
    assert report.advice(0.05) == []


@pytest.fixture
def detectors(tmp_path, tiny_plugins):
    """Return a folder of stores and detectors: of other labels, of another size, and of the validation patients."""
    real = make_store(tmp_path / "real.h5", n=240)
    synthetic(tmp_path / "synthetic.h5", make_records(12, seed=3), real)
    turned = {"train": "val", "val": "train", "test": "test"}
    make_store(tmp_path / "turned.h5", [replace(one, split=turned[one.split]) for one in make_records(240)])
    make_store(tmp_path / "other.h5", n=240, labels=("cyst",))
    make_store(tmp_path / "large.h5", make_records(60, 32))
    for name in ("real", "turned", "other", "large"):
        options = RunOptions(tmp_path / f"detector-{name}", device="cpu")
        train_detector(tmp_path / f"{name}.h5", "tiny", options, steps=2)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "words"),
    [("turned", "was fitted on 1 of the patients in the validation split"), ("other", "knows the classes cyst"),
     ("large", "was fitted on images of 1 channels, 32x32")],
)  # fmt: skip
def test_a_detector_that_cannot_judge_is_refused(detectors, name, words):
    options = FilterOptions(
        detectors / "synthetic.h5", detectors / "kept.h5", detector=detectors / f"detector-{name}", device="cpu",
        real=detectors / "real.h5",
    )  # fmt: skip
    with pytest.raises(BadInput, match=words):
        sift(options)
    assert not (detectors / "kept.h5").exists()
    assert len(sift(replace(options, detector=detectors / "detector-real"))[0]) > 0


@pytest.mark.parametrize(
    ("options", "words", "not_words"),
    [
        ({"by": "lesion"}, "never for artefacts. The evidence is contrast and texture", "artificial"),
        ({"by": "none"}, "No evidence was used (--by none).", "dropped for"),
        ({"by": "realism"}, "dropped for looking artificial", "never for"),
    ],
)
def test_the_page_says_what_images_are_dropped_for(folder, monkeypatch, options, words, not_words):
    monkeypatch.setattr("medaug_cli.lesion_filter.realism.TREES", 20)
    sifted(folder, **options)
    [note] = re.findall(r"<h1>.*?</h1>\s*<p>(.*?)</p>", (folder / "filter.html").read_text(encoding="utf-8"), re.DOTALL)
    assert words in note
    assert not_words not in note


@pytest.mark.parametrize("d", [2, 3])
def test_a_detector_is_believed_where_its_best_box_of_the_label_lies(d):
    box = np.array([[4] * d + [8] * d], np.float32)
    boxes, labels = np.concatenate([box, box + 8]), np.array([0, 1])

    def best(found, scores, kinds):
        answer = np.reshape(found, (-1, 2 * d)), np.array(scores, np.float32), np.array(kinds, np.int64)
        detector = SimpleNamespace(predict=lambda images: (answer for _ in images))
        shape, spec = (1, *(16,) * d), ImageSpec(1, (16,) * d, ("a", "b"))
        [found_of_none, scores] = DetectorEvidence(detector, "own", spec).scores(
            [np.zeros(shape)] * 2, [box[:0], boxes], [labels[:0], labels]
        )
        assert found_of_none.shape == (0,)
        return scores.tolist()

    assert best([], [], []) == [0, 0]
    assert best([box, box, box + 8, box + 40], [0.25, 0.5, 0.75, 1], [0, 0, 0, 1]) == [0.5, 0]
    assert best([box, box + 8, box + 9.9], [0.5, 0.25, 1], [1, 1, 1]) == [0, 0.25]


@pytest.mark.parametrize("few", [0, 1])
def test_a_detector_that_answers_for_fewer_images_is_refused(few):
    box = np.array([[4, 4, 8, 8]], np.float32)
    detector = SimpleNamespace(
        predict=lambda images: ((box, np.ones(1, np.float32), np.zeros(1, int)) for _ in range(few))
    )
    evidence = DetectorEvidence(detector, "own", ImageSpec(1, (16, 16), ("a",)))
    with pytest.raises(BrokenContract, match=f"'own' breaks its contract: predict yields {few} results for 2 images"):
        evidence.scores([np.zeros((1, 16, 16))] * 2, [box, box], [np.zeros(1, int)] * 2)


def test_verdicts_of_two_detectors_are_not_mixed(detectors):
    def stop(images):
        raise KeyboardInterrupt

    options = FilterOptions(
        detectors / "synthetic.h5", detectors / "kept.h5", detector=detectors / "detector-real", device="cpu",
        real=detectors / "real.h5",
    )  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        sift(replace(options, report=stop))
    shutil.rmtree(detectors / "detector-real")
    train_detector(detectors / "real.h5", "tiny", RunOptions(detectors / "detector-real", device="cpu"), steps=9)
    with pytest.raises(UsageError, match="was begun with other settings \\(detector "):
        sift(replace(options, resume=True))
    assert len(sift(replace(options, overwrite=True))[0]) > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, ""),
        ({"by": "none"}, " --by none"),
        ({"by": "realism", "seed": 3}, " --by realism --seed 3"),
        ({"real_share": 0.1}, " --real-share 0.1"),
        ({"real": Path("my scans/real.h5")}, " --real 'my scans/real.h5'"),
        ({"detector": Path("detector"), "real": Path("real.h5")}, " --detector detector --real real.h5"),
    ],
)
def test_the_page_names_the_command_that_filters_in_the_same_way(options, words):
    said = _command(FilterOptions(Path("a/drawn.h5"), Path("b/kept.h5"), **options))
    assert said == f"medaug filter drawn.h5{words} --decisions decisions.csv --out kept.h5 --overwrite"


def page_data(text):
    return json.loads(text.split('type="application/json">')[1].split("</script>")[0])


def test_a_page_that_does_not_show_all_says_so_and_loses_no_decision(monkeypatch):
    monkeypatch.setattr("medaug_cli.figures.filter_page.MOST", 3)
    image, nothing = np.zeros((1, 16, 16), np.uint8), np.zeros((0, 4), np.float32)
    cards = [Card(f"i{k}", image, nothing, k >= 5, "", k / 9, decided=k in (4, 8)) for k in range(9)]
    text = filter_html(cards, "", "drawn.h5", "medaug filter")
    assert "Not shown: 4 more that are kept, and 2 that are dropped." in text
    data = page_data(text)
    assert (data["kept"], data["dropped"]) == (4, 2)
    assert data["decided"] == [{"id": "i4", "now": False}, {"id": "i8", "now": True}]
    monkeypatch.undo()
    assert "Not shown" not in filter_html(cards, "", "drawn.h5", "medaug filter")


def test_a_folder_without_the_training_store_is_told_to_name_it(folder, tmp_path):
    lonely = tmp_path / "synthetic.h5"
    lonely.write_bytes((folder / "synthetic.h5").read_bytes())
    with pytest.raises(UsageError, match="--real"):
        sift(FilterOptions(lonely, tmp_path / "kept.h5"))
    store, _ = sift(FilterOptions(lonely, tmp_path / "kept.h5", real=folder / "real.h5"))
    assert len(store) > COUNT
    make_store(tmp_path / "other.h5", [replace(each, patient=f"other-{each.patient}") for each in heads(30, 9)])
    with pytest.raises(UsageError, match="not the store that the generator"):
        sift(FilterOptions(lonely, tmp_path / "more" / "again.h5", real=tmp_path / "other.h5"))


def test_a_store_that_was_drawn_for_does_in_place_of_the_training_store(folder, tmp_path):
    """So it is where installed weights drew: nobody has the store that they were fitted on."""
    lonely = tmp_path / "synthetic.h5"
    lonely.write_bytes((folder / "synthetic.h5").read_bytes())
    fewer = make_store(tmp_path / "fewer.h5", list(heads(200, 0))[:100])
    store, report = sift(FilterOptions(lonely, tmp_path / "kept.h5"))
    assert (len(store) > COUNT, "AUC" in report.calibration) == (True, True)
    turned = {"train": "test", "val": "train", "test": "train"}
    held_out = [replace(each, split=turned[each.split]) for each in heads(200, 0)]
    make_store(tmp_path / "held-out.h5", held_out)
    with pytest.raises(UsageError, match="not the store that the generator"):
        sift(FilterOptions(lonely, tmp_path / "more" / "kept.h5", real=tmp_path / "held-out.h5"))
    (tmp_path / "again.h5").write_bytes(fewer.path.read_bytes())
    with pytest.raises(UsageError, match="--real"):  # which of the two is not said
        sift(FilterOptions(lonely, tmp_path / "kept.h5", overwrite=True))


@pytest.mark.parametrize("named", [True, False])
def test_a_store_drawn_for_by_a_generator_of_other_labels_is_told_them(folder, tmp_path, named):
    real = make_store(tmp_path / "real.h5", labels=("cyst",))
    drawn = open_store(folder / "synthetic.h5")
    info = drawn.info.model_copy(update={"inputs": {"real.h5": real.hash}})
    writer = StoreWriter(tmp_path / "synthetic.h5", info, {})
    writer.add(0, [drawn.record(0)])
    writer.publish()
    with pytest.raises(BadInput, match=r"synthetic.h5 has the labels lesion, .*real.h5 has cyst$"):
        sift(FilterOptions(tmp_path / "synthetic.h5", tmp_path / "kept.h5", real=real.path if named else None))


def test_nothing_is_replaced_unasked_and_a_finished_run_is_kept(folder):
    sifted(folder)
    before = (folder / "kept.h5").stat().st_mtime_ns
    with pytest.raises(UsageError, match="--overwrite"):
        sift(FilterOptions(folder / "synthetic.h5", folder / "kept.h5"))
    sift(FilterOptions(folder / "synthetic.h5", folder / "kept.h5", resume=True))
    assert (folder / "kept.h5").stat().st_mtime_ns == before


def test_what_another_detector_or_store_has_judged_is_not_taken_for_done(detectors):
    real, kept = detectors / "real.h5", detectors / "kept.h5"
    options = FilterOptions(
        detectors / "synthetic.h5", kept, detector=detectors / "detector-real", real=real, device="cpu", resume=True,
    )  # fmt: skip
    before = sift(options)[0].hash
    assert sift(options)[0].hash == before
    train_detector(real, "tiny", RunOptions(detectors / "detector-real", device="cpu", overwrite=True), steps=9)
    with pytest.raises(UsageError, match=r"kept.h5 was made by medaug .* with other settings \(detector "):
        sift(options)
    sift(replace(options, detector=None, resume=False, overwrite=True))
    make_store(detectors / "more.h5", [*make_records(240), replace(next(iter(make_records(1, seed=9))), id="more")])
    for other in ({"real": detectors / "more.h5"}, {"fold": fold_in_which_all_train(real)}):
        with pytest.raises(UsageError, match=r"kept.h5 was made by medaug .* with other settings \(store "):
            sift(replace(options, detector=None, **other))


def fold_in_which_all_train(real):
    """Return a stand-in for a fold: the store with a hash of its own, as folds give it."""
    return SimpleNamespace(of=lambda store: split_as(store, list(store.splits)))


def test_what_an_earlier_version_kept_is_taken_for_done(folder):
    store, _ = sifted(folder)
    info = store.info.model_copy(update={"settings": dict(store.info.settings)})
    assert info.settings.pop("learnt_from") == {"store": open_store(folder / "real.h5").hash}
    writer = StoreWriter(folder / "kept.h5", info, {}, overwrite=True)
    for unit in range(len(store)):
        writer.add(unit, [store.record(unit)])
    older = writer.publish(lambda made, place: write_report(folder, made, place))
    again, _ = sift(FilterOptions(folder / "synthetic.h5", folder / "kept.h5", resume=True))
    assert again.hash == older.hash


def write_report(folder, store, place):
    report = json.loads((folder / "filter.json").read_text(encoding="utf-8"))
    (place / "filter.json").write_text(json.dumps(report | {"kept": store.hash}), encoding="utf-8")


def test_evidence_that_tells_nothing_apart_drops_nothing(tmp_path):
    real = make_store(tmp_path / "real.h5", heads(100, 0, lesion=False))
    synthetic(tmp_path / "synthetic.h5", heads(20, 1), real)
    store, report = sift(FilterOptions(tmp_path / "synthetic.h5", tmp_path / "kept.h5"))
    assert len(store) == 20
    assert "cannot tell" in report.calibration


def test_where_nothing_would_be_left_it_says_so(folder, tmp_path):
    real = open_store(folder / "real.h5")
    (tmp_path / "real.h5").write_bytes(real.path.read_bytes())
    synthetic(tmp_path / "synthetic.h5", heads(12, 8, lesion=False), real)
    with pytest.raises(UsageError, match=r"no image of .*synthetic\.h5 shows a lesion"):
        sift(FilterOptions(tmp_path / "synthetic.h5", tmp_path / "kept.h5", real_share=0.5))
    assert not (tmp_path / "kept.h5").exists()
    assert not (tmp_path / "kept.h5.parts").exists()
    assert (tmp_path / "filter.html").exists()


def test_a_result_is_left_whole_where_nothing_would_be_kept_in_its_place(folder):
    sifted(folder)
    store = open_store(folder / "synthetic.h5")
    names = ("kept.h5", "filter.json", "filter.html")
    before = [(folder / name).read_bytes() for name in names]
    decisions = folder / "none.csv"
    decisions.write_text("image;keep\n" + "".join(f"{name};no\n" for name in store.ids), encoding="utf-8")
    options = FilterOptions(
        store.path, folder / "kept.h5", by="manual", real=folder / "real.h5", decisions=decisions, overwrite=True
    )
    with pytest.raises(UsageError, match=r"is dropped by .*none\.csv; .*kept\.h5 and its report are unchanged"):
        sift(options)
    assert [(folder / name).read_bytes() for name in names] == before
    assert not (folder / "kept.h5.parts").exists()


def test_a_verdict_depends_on_its_image_alone(folder):
    store = open_store(folder / "synthetic.h5")
    evidence, _ = fit_regions(open_store(folder / "real.h5"), 0.05, 0)
    _, report = sifted(folder)
    for i in (0, 50, 100, 50):
        [scores] = scores_of(evidence, store, [i])
        assert report.images[i].evidence == [round(float(score), 4) for score in scores]


def test_real_stores_are_not_filtered(folder):
    with pytest.raises(UsageError, match="holds real images"):
        sift(FilterOptions(folder / "real.h5", folder / "x.h5"))
