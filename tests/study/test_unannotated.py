"""Studies in which generators see images without annotation, and real-only's sure answers on those as the control."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import make_records, make_store, tiny_installed
from tiny import TinyGenerator

from medaug_cli.errors import UsageError
from medaug_cli.store import digest_patient, open_store
from medaug_cli.study import StudyOptions, run_study
from medaug_cli.study.analysis import ArmResult, LearningPoint
from medaug_cli.study.arms import one_thing_apart, parse_arms
from medaug_cli.study.learning import best_point, learning, steps_to
from medaug_cli.study.rounds import Round
from medaug_cli.study.subsets import subset
from medaug_cli.study.tables import learning as learning_table
from medaug_cli.study.trials import Trial, trained_folder
from medaug_cli.study.unannotated import Labeller, labeller, pseudo_labelled, rest_of
from medaug_cli.tasks.classification import Classification
from medaug_cli.tasks.detection import Detection
from medaug_cli.tasks.segmentation import Segmentation

ANSWER = np.array([[1, 1, 9, 9]], np.float32), np.array([0.9], np.float32), np.zeros(1, np.int64)
SEEING = replace(TinyGenerator.capabilities, unannotated=True)


@pytest.fixture(scope="module")
def seeing():
    """Let the tiny generator learn from images without annotation."""
    with tiny_installed(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(TinyGenerator, "capabilities", SEEING)
        patch.setattr("matplotlib.figure.Figure.savefig", lambda figure, target, **_: target.write(b"<svg/>"))
        yield


def options(real, arms, **changed):
    asked = {
        "network": "tiny", "steps": 3, "kimg": 0.02, "seeds": 1, "resamples": 100, "fractions": (0.5,), "device": "cpu",
        "precision": "32", "out": real.parent / "study", "unannotated": True, **changed,
    }  # fmt: skip
    return StudyOptions(real, parse_arms(list(arms), "tiny", rest=asked["unannotated"]), **asked)


@pytest.fixture(scope="module")
def finished(seeing, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rest")
    real = make_store(folder / "real.h5")
    said = []
    report = run_study(options(real.path, ("tiny", "tiny/annotated", "pseudo-label"), announce=said.append))
    return real, report, said


def test_arms_say_whether_their_generator_sees_the_rest(finished):
    _, report, _ = finished
    assert [arm.arm for arm in report.fractions[0].arms] == ["real-only", "tiny/unannotated", "tiny", "pseudo-label"]
    assert report.settings["unannotated"] == "rest"
    apart = {(pair.arm, pair.against): pair.changed for pair in report.fractions[0].pairs}
    assert apart == {("tiny/unannotated", "tiny"): "images without annotation"}
    assert "pseudo-label" in report.fractions[0].arms[1].against  # a control, with which it is compared there alone
    by_name = {arm.arm: arm for arm in report.fractions[0].arms}
    assert not by_name["pseudo-label"].learnt
    assert "pseudo-label" in by_name["tiny/unannotated"].against  # as a control


@pytest.mark.usefixtures("seeing")
def test_pseudo_labels_of_another_network_are_made_anew(finished, tmp_path):
    shutil.copytree(finished[0].path.parent, tmp_path / "copy")
    real, two = tmp_path / "copy/real.h5", {"batch": "2"}
    arms = parse_arms(["tiny", "pseudo-label", "pseudo-label~batch=4"], "tiny", settings=two, rest=True)
    seed = real.parent / "study/patients50/seed0"
    shutil.copy(seed / "pseudo-label.h5", seed / "pseudo-label~batch=4.h5")  # trained as before, labelled by another
    shutil.copytree(seed / "detectors/pseudo-label", seed / "detectors/pseudo-label~batch=4")
    asked = replace(options(real, ("tiny",)), arms=arms, network_settings=two)
    with pytest.raises(UsageError, match="batch: 4 there, 2 asked for"):
        run_study(asked)
    said = []
    run_study(replace(asked, overwrite=True, dry_run=True, announce=said.append))
    assert any("4 detectors (tiny), 0 of them trained" in sentence for sentence in said)
    run_study(replace(asked, overwrite=True))
    weights = json.loads((seed / "detectors/real-only/detector.json").read_text(encoding="utf-8"))["weights"]
    for name in ("pseudo-label", "pseudo-label~batch=4"):
        assert open_store(seed / f"{name}.h5").info.settings["pseudo_labels"] == weights
        plan = json.loads((seed / f"detectors/{name}/plan.json").read_text(encoding="utf-8"))
        assert plan["settings"]["batch"] == (4 if "4" in name else 2)


def test_the_generator_sees_all_training_patients_and_boxes_of_a_share_alone(finished):
    real, _, _ = finished
    part = real.path.parent / "study/patients50"
    rest, own = open_store(part / "with-rest.h5"), open_store(part / "real.h5")
    kept = {own.patients[i] for i in own.indices("train")}
    assert len(kept) == 2
    train = rest.indices("train", unannotated=True)
    assert {rest.patients[i] for i in train} == {"p0", "p1", "p2", "p3"}
    assert {rest.patients[i] for i in train if rest.annotated[i]} == kept
    assert not any(len(rest.boxes[i]) for i in train if not rest.annotated[i])
    for name, patients in (("tiny, unannotated", {"p0", "p1", "p2", "p3"}), ("tiny", kept)):
        card = json.loads((part / f"seed0/synthetic/{name}/gan/generator.json").read_text(encoding="utf-8"))
        assert set(card["training_patients"]) == {digest_patient(patient) for patient in patients}
        assert card["unannotated_images"] == (8 if len(patients) == 4 else 0)


def test_real_onlys_sure_answers_become_annotations(finished):
    real, _, said = finished
    made = open_store(real.path.parent / "study/patients50/seed0/pseudo-label.h5")
    marked = [i for i in range(len(made)) if made.details[i].get("pseudo_label")]
    assert marked
    assert all(made.annotated[i] and len(made.boxes[i]) for i in marked)
    assert all(made.splits[i] == "train" for i in marked)
    assert f"pseudo-label: {len(marked)} of 8 images without annotation get one from real-only" in " ".join(said)
    plan = json.loads(
        (real.path.parent / "study/patients50/seed0/detectors/pseudo-label/plan.json").read_text(encoding="utf-8")
    )
    assert plan["store_hash"] == made.hash


@pytest.mark.usefixtures("seeing")
def test_how_many_images_got_an_annotation_is_told(finished):
    real, report, _ = finished
    seed = real.path.parent / "study/patients50/seed0"
    made, part = open_store(seed / "pseudo-label.h5"), open_store(seed.parent / "real.h5")
    rest = len(rest_of(real, Detection(), 0.5, 0))
    said = f"images that real-only annotated for pseudo-label: {len(made) - len(part)} of {rest} (seed 0)"
    assert said in report.remarks


def test_copies_of_images_without_annotation_are_found(tmp_path, monkeypatch):
    """A generator that repeats what it was shown without annotation is judged against that, too."""

    def fit(self, data, run):
        self.spec, self.mean = data.spec, data.read(np.flatnonzero(~data.annotated))

    def sample(self, conditions, seeds):
        yield from (self.mean[seed % len(self.mean)] for _, seed in zip(conditions, seeds, strict=True))

    monkeypatch.setattr(TinyGenerator, "fit", fit)
    monkeypatch.setattr(TinyGenerator, "sample", sample)
    real = make_store(tmp_path / "real.h5", list(make_records(60)))
    [part] = run_study(options(real.path, ("tiny",))).fractions
    shown = {real.patients[i] for i in rest_of(real, Detection(), 0.5, 0)}
    for picture in part.arms[1].similarity:
        assert picture.suspicious > 0.9
        assert {real.patients[real.ids.index(original)] for _, original in picture.nearest} <= shown
    assert len(part.arms[1].similarity) == 2


def test_nothing_is_done_twice_and_other_images_are_noticed(finished, seeing, tmp_path):
    real, _, _ = finished
    study = real.path.parent / "study"
    before = {path: path.stat().st_mtime_ns for path in study.rglob("*.safetensors")}
    run_study(options(real.path, ("tiny", "tiny/annotated", "pseudo-label")))
    assert {path: path.stat().st_mtime_ns for path in study.rglob("*.safetensors")} == before


def test_without_the_rest_names_keep_their_meaning(seeing):
    (_, plain) = parse_arms(["tiny"], "tiny")
    (_, annotated, _) = parse_arms(["tiny/annotated", "pseudo-label"], "tiny", rest=True)
    assert plain == annotated
    assert plain.source == "tiny"
    (_, seen) = parse_arms(["tiny@2+filter~pause=0.001"], "tiny", rest=True)
    assert (seen.name, seen.source) == ("tiny/unannotated@2+filter~pause=0.001", "tiny/unannotated")
    (_, each, _) = parse_arms(["tiny/each-class", "pseudo-label"], "tiny", rest=True)
    assert not each.unannotated
    _, one, other = parse_arms(["tiny", "tiny/annotated"], "tiny", rest=True)
    assert [words for *_, words in one_thing_apart([one, other], 1.0)] == ["images without annotation"]


@pytest.mark.parametrize(
    ("arms", "rest", "words"),
    [
        (["pseudo-label"], False, "give --unannotated rest"),
        (["tiny/unannotated"], False, "give --unannotated rest"),
        (["copy-paste/unannotated"], True, "copy-paste is fitted on annotated images only"),
        (["tiny/each-class/unannotated"], True, "a generator for each class is"),
        (["copy-paste"], True, "no arm takes images without annotation"),
    ],
)
def test_what_sees_nothing_is_refused(seeing, arms, rest, words):
    with pytest.raises(UsageError, match=words):
        parse_arms(arms, "tiny", rest=rest)


def test_a_share_that_leaves_nobody_is_refused(seeing, tmp_path):
    real = make_store(tmp_path / "real.h5")
    with pytest.raises(UsageError, match=r"--fraction 1 .* no training image is left without annotation"):
        run_study(options(real.path, ("pseudo-label",), fractions=(0.5, 1.0)))


class Sure:
    """A network that answers as it is told."""

    def __init__(self, answers):
        self.answers = answers

    def predict(self, images):
        yield from (answer for _, answer in zip(images, self.answers, strict=False))


def annotated_by(task, answers, real, tmp_path, monkeypatch):
    network = SimpleNamespace(weights="w")
    monkeypatch.setattr("medaug_cli.study.unannotated.load_for", lambda *_, **__: (Sure(answers), network))
    indices = rest_of(real, task, 0.5, 0)
    by = labeller(task, tmp_path, real, "cpu")
    made = pseudo_labelled(real, real, [], by, 0, tmp_path / "none.h5")
    assert len(made) == len(real)
    return by.annotated(real, indices[: len(answers)]), indices


def test_classes_are_taken_from_sure_probabilities_alone(tmp_path, monkeypatch):
    from classed import publish

    names = ["benign", "malignant"]
    records = [replace(r, image_class=names[i % 2]) for i, r in enumerate(make_records())]
    real = publish(tmp_path / "real.h5", records, class_names=names)
    answers = [np.array([0.95, 0.05]), np.array([0.6, 0.4]), np.array([0.05, 0.95])]
    found, indices = annotated_by(Classification(), answers, real, tmp_path, monkeypatch)
    assert [(each.id, each.image_class) for each in found] == [
        (real.ids[indices[0]], "benign"), (real.ids[indices[2]], "malignant"),
    ]  # fmt: skip


def test_masks_that_mark_nothing_are_no_annotation(tmp_path, monkeypatch):
    real = make_store(tmp_path / "real.h5", list(make_records(masks=True)))
    mask = np.zeros((16, 16), np.uint8)
    mask[2:5, 3:6] = 1
    found, indices = annotated_by(Segmentation(), [np.zeros_like(mask), mask], real, tmp_path, monkeypatch)
    assert [each.id for each in found] == [real.ids[indices[1]]]
    assert (found[0].mask == mask).all()


@pytest.mark.parametrize("bare", [0, 1, 4, 12])
def test_a_kept_patients_own_image_without_annotation_is_annotated_in_place(tmp_path, monkeypatch, bare):
    """So many images of all patients are not annotated: none appears twice, annotated by hand and by the network."""
    hidden = [replace(r, boxes=r.boxes[:0], labels=[], annotated=False) for r in make_records()][:bare]
    real = make_store(tmp_path / "real.h5", [*hidden, *list(make_records())[bare:]])
    part = subset(real, Detection(), 0.5, 0, tmp_path / "part/real.h5")
    monkeypatch.setattr("medaug_cli.study.unannotated.predicted", lambda *asked: [ANSWER] * len(asked[-1]))
    rest = rest_of(real, Detection(), 0.5, 0)
    made = pseudo_labelled(real, part, rest.tolist(), Labeller(Detection(), None, "w", 0.5), 0, tmp_path / "made.h5")
    assert len(made) == len(set(made.ids))
    marked = {made.ids[i] for i in range(len(made)) if made.details[i].get("pseudo_label")}
    assert marked == {real.ids[i] for i in rest}


def test_boxes_are_kept_from_a_score_and_within_the_image(tmp_path, monkeypatch):
    real = make_store(tmp_path / "real.h5", [r for r in make_records() if r.split == "train"])  # no validation: 0.5
    boxes = np.array([[-2, 1, 20, 9], [2, 2, 6, 6], [3, 3, 3.5, 8]], np.float32)
    answer = boxes, np.array([0.9, 0.4, 0.9], np.float32), np.zeros(3, np.int64)
    found, _ = annotated_by(Detection(), [answer], real, tmp_path, monkeypatch)
    assert [each.boxes.tolist() for each in found] == [[[0, 1, 16, 9]]]
    assert found[0].labels == ["lesion"]


def test_learning_curves_are_means_at_common_steps(tmp_path):
    study = SimpleNamespace(out=tmp_path, task=Detection(), steps=4, network="tiny")
    (arm,) = [arm for arm in parse_arms(["early-stopped"], "yolov3") if arm.name == "real-only"]
    trials = [Trial(Round(None, None), 1.0, seed, arm) for seed in (0, 1)]
    for trial, scores in zip(trials, ({1: 0.2, 2: 0.4, 4: 0.5}, {1: 0.4, 3: 0.9, 4: 0.7}), strict=True):
        folder = trained_folder(study, trial)
        folder.mkdir(parents=True)
        lines = [json.dumps({"done": done, "val_score": score}) for done, score in scores.items()]
        (folder / "metrics.jsonl").write_text("\n".join([*lines, '{"done": 4, "loss": 1}']) + "\n", encoding="utf-8")
    found = learning(study, trials)
    assert [(point.steps, pytest.approx(point.score), point.low, point.high) for point in found] == [
        (1, 0.3, 0.2, 0.4), (4, 0.6, 0.5, 0.7),
    ]  # fmt: skip


def test_faster_and_better_are_told_apart():
    def arm(name, **scores):
        points = [LearningPoint(steps=int(k[1:]), score=v, low=v, high=v) for k, v in scores.items()]
        return ArmResult(arm=name, seeds={}, mean={}, against={}, learning=points)

    arms = [arm("real-only", s1=0.1, s2=0.4, s3=0.5), arm("faster", s1=0.5, s2=0.5, s3=0.4), arm("never", s1=0.2)]
    assert (best_point(arms[0]).steps, steps_to(arms[1], 0.5), steps_to(arms[2], 0.5)) == (3, 1, None)
    rows = learning_table(SimpleNamespace(arms=arms)).rows
    assert [row[3].text for row in rows] == ["3", "1", "never"]
