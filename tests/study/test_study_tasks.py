"""A study of every task, a stranger's too, and what is refused before anything is trained."""

import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import make_records
from tiny import CountAnswers, Counting
from typer.testing import CliRunner

from medaug_cli.cli import app
from medaug_cli.errors import UsageError
from medaug_cli.metrics.classification import Classified
from medaug_cli.store import Record, StoreInfo, StoreWriter, open_store
from medaug_cli.study import StudyOptions, run_study, running, task_of
from medaug_cli.study.analysis import Comparison, claim
from medaug_cli.study.answers import packed, unpacked
from medaug_cli.study.arms import one_thing_apart, parse_arms, split_arm
from medaug_cli.study.power import Spread
from medaug_cli.study.trials import part_store
from medaug_cli.tasks.classification import ClassAnswers, Classification
from medaug_cli.tasks.task import task_named

pytestmark = pytest.mark.usefixtures("tiny_plugins", "undrawn")

NAMES = ("bright", "dark")


def records(n=60, boxes=True, masks=True, classes=NAMES):
    """Yield images of four training patients and of three held-out ones each, every other one without a bright spot."""
    for i, record in enumerate(make_records(n, masks=True)):
        image_class = classes[i // 6 % len(classes)] if classes else None
        image = record.image
        if image_class == "dark":
            image = np.where(record.mask[None] > 0, 5, image).astype(np.uint8)
        patient = record.patient + ("" if record.split == "train" else "abc"[i // 6 % 3])
        changes = {} if boxes else {"boxes": np.empty((0, 4), np.float32), "labels": [], "annotated": False}
        mask = record.mask if masks else None
        yield replace(record, image=image, patient=patient, image_class=image_class, mask=mask, **changes)


def write(path, chosen, classes=NAMES):
    info = StoreInfo(
        tool_version="0", command="test", settings={}, seed=0, label_names=["lesion"], class_names=list(classes)
    )
    writer = StoreWriter(path, info, {})
    for unit, record in enumerate(chosen):
        writer.add(unit, [record])
    return writer.publish().path


@pytest.fixture
def real(tmp_path):
    return write(tmp_path / "real.h5", records())


def options(real, task, arms=("~over=0.3",), **changed):
    chosen = task_named(task)
    asked = {
        "task": chosen, "network": "tiny", "steps": 3, "kimg": 0.02, "seeds": 2, "resamples": 100, "device": "cpu",
        "precision": "32", **changed,
    }  # fmt: skip
    return StudyOptions(real, parse_arms(list(arms), "tiny", chosen.kind), real.parent / "study", **asked)


@pytest.mark.parametrize(
    ("task", "headline", "said"),
    [
        ("classification", "balanced_accuracy", "balanced accuracy"),
        ("segmentation", "dice", "Dice by patient"),
        ("counting", "error", "error of the count"),
    ],
)
def test_every_task_is_studied_by_the_same_code(real, task, headline, said):
    report = run_study(options(real, task, ("early-stopped", "~over=0.3", "~strict~batch=2")))
    kind = task_named(task).kind
    folder = real.parent / "study/patients100/seed0" / f"{kind}s"
    assert {path.name for path in folder.iterdir()} == {
        "real-only", "early-stopped", "real-only~over=0.3", "real-only~strict~batch=2",
    }  # fmt: skip
    assert json.loads((folder / f"real-only~strict~batch=2/{kind}.json").read_text(encoding="utf-8"))["settings"] == {
        "batch": 2, "over": 0.3, "augment": "both",
    }  # fmt: skip
    assert (report.task, report.patients, report.slices) == (task, 3, 10)
    [part] = report.fractions
    assert next(iter(part.arms[0].mean)) == headline or headline in part.arms[0].mean
    assert all(headline in arm.against_real_only for arm in part.arms[1:])
    [pair] = part.pairs
    assert (pair.arm, pair.against, pair.changed) == ("real-only~strict~batch=2", "real-only~over=0.3", "batch")
    page = (real.parent / "study/study.html").read_text(encoding="utf-8")
    assert f"{said}" in page
    assert f"trains the same {kind}" in page
    assert ("Seed 0, early-stopped: " in page) == (task == "segmentation")
    assert ("Distances are in pixels, since not every image names its spacing." in page) == (task == "segmentation")
    assert run_study(options(real, task, ("early-stopped", "~over=0.3", "~strict~batch=2"))) == report


def test_patients_without_a_lesion_count_where_the_task_says_so(tmp_path):
    bare = {"boxes": np.empty((0, 4), np.float32), "labels": [], "mask": np.zeros((16, 16), np.uint8)}
    told = next(record.patient for record in records() if record.split == "test")
    healthy = [replace(r, **bare) if r.split == "test" and r.patient != told else r for r in records()]
    real = write(tmp_path / "real.h5", healthy)
    for task, telling in (("detection", 1), ("segmentation", 3), ("classification", 3)):
        said, words = [], f"power: with {telling} patient{'s' if telling > 1 else ''} and 2 seeds"
        asked = options(real, task, ("early-stopped",), spread=Spread(0.2, 0.03, ""), announce=said.append)
        run_study(replace(asked, dry_run=True))
        assert any(sentence.startswith(words) for sentence in said)
        assert any("only one patient of the test split" in sentence for sentence in said) == (telling == 1)
    report = run_study(options(real, "segmentation"))
    assert (report.patients, report.telling) == (3, 3)
    assert report.fractions[0].arms[1].against_real_only["dice"] is not None


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_generated_images_carry_what_the_task_learns_from(real, task):
    report = run_study(options(real, task, ("duplicate", "copy-paste@0.5~augment=real"), seeds=1))
    folder = real.parent / "study/patients100/seed0"
    drawn = open_store(folder / "synthetic/duplicate/drawn-40.h5")
    assert task_named(task).usable(drawn).all()
    assert len(open_store(folder / "synthetic/copy-paste/drawn-20.h5")) == 20
    told = folder / f"{task_named(task).kind}s/copy-paste@0.5~augment=real/{task_named(task).kind}.json"
    said = json.loads(told.read_text(encoding="utf-8"))
    assert (said["ratio"], said["settings"]["augment"]) == (0.5, "real")
    assert [arm.arm for arm in report.fractions[0].arms] == ["real-only", "duplicate", "copy-paste@0.5~augment=real"]


def test_a_detectors_images_are_asked_for_with_the_masks_and_classes_that_a_generator_is_told(tmp_path):
    bare = {"boxes": np.empty((0, 4), np.float32), "labels": [], "mask": np.zeros((16, 16), np.uint8)}
    real = write(tmp_path / "real.h5", [replace(r, **bare) if i % 5 == 0 else r for i, r in enumerate(records())])
    arms = ("inpaint[form=mask]", "inpaint[classes=false]")
    small = {key: value for key, value in SMALL_GANS["inpaint"].items() if key != "form"}
    run_study(options(real, "detection", arms, seeds=1, generator_settings={"inpaint": small}))
    folder = real.parent / "study/patients100/seed0/synthetic"
    told, boxes_alone = (folder / name / "drawn-40.h5" for name in ("inpaint[form=mask]", "inpaint[classes=False]"))
    drawn = open_store(told)
    assert all(len(boxes) for boxes in drawn.boxes)
    assert {drawn.class_names[number] for number in drawn.classes} == {*NAMES}
    filled = [
        (np.asarray(drawn.masks[i])[y0:y1, x0:x1] > 0).mean()
        for i, boxes in enumerate(drawn.boxes) for x0, y0, x1, y1 in boxes.round().astype(int)
    ]  # fmt: skip
    assert np.mean(filled) > 0.9  # real masks fill their boxes; an ellipse fills 0.79 of one
    assert set(open_store(boxes_alone).classes) == {-1}


def test_images_that_an_earlier_version_drew_for_boxes_alone_are_told_apart(real, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr(running, "drawn_for", lambda *of: {"boxes": part_store(*of).with_name("boxes.json")})
        run_study(options(real, "detection", ["copy-paste"], seeds=1))
    with pytest.raises(UsageError, match=r"\(drawn for: boxes alone there, their masks and classes too asked for\)"):
        run_study(options(real, "detection", ["copy-paste"], seeds=1))
    run_study(options(real, "detection", ["copy-paste"], seeds=1, overwrite=True))
    drawn = open_store(real.parent / "study/patients100/seed0/synthetic/copy-paste/drawn-40.h5")
    assert {drawn.class_names[number] for number in drawn.classes} == {*NAMES}
    run_study(options(real, "detection", ["copy-paste"], seeds=1))  # nothing is left to be made anew


@pytest.mark.parametrize("all_boxed", [True, False])
def test_images_of_each_class_of_an_earlier_version_go_on_where_all_have_boxes(tmp_path, monkeypatch, all_boxed):
    bare = {"boxes": np.empty((0, 4), np.float32), "labels": []}
    chosen = [replace(r, **bare) if i % 5 == 0 and not all_boxed else r for i, r in enumerate(records(masks=False))]
    asked = options(write(tmp_path / "real.h5", chosen), "detection", ["tiny/each-class"], seeds=1)
    with monkeypatch.context() as earlier:
        earlier.setattr(running, "drawn_for", lambda *of: {"like": part_store(*of), "boxed": False})
        report = run_study(asked)
    if all_boxed:
        assert run_study(asked) == report
    else:
        with pytest.raises(UsageError, match=r"\(drawn for: all images there, images with boxes asked for\)"):
            run_study(asked)


def cubes(n=32):
    """Yield cubes with a light ball in every other one, of four training patients and as many held-out ones."""
    rng, places = np.random.default_rng(0), np.indices((16,) * 3) - 7.5
    for i in range(n):
        image, lesion = rng.integers(60, 90, (16,) * 3), i % 2 == 0
        mask = ((places**2).sum(0) < 9) & lesion
        image[mask] += 90
        box = np.array([[5.0] * 3 + [11.0] * 3] if lesion else [], np.float32).reshape(-1, 6)
        split = ("train", "train", "val", "test")[i // 2 % 4]
        yield Record(
            f"c{i:02d}", image[None].astype(np.uint8), box, ["lesion"] * lesion, f"{split}{i // 8 % 4}", split,
            mask=mask.astype(np.uint8), image_class="lesion" if lesion else "normal",
        )  # fmt: skip


SMALL_GANS = {
    "boxgan": {"form": "mask", "base": 32, "max_maps": 4, "latent": 4, "embedding": 4, "batch": 4},
    "inpaint": {"patch": 16, "form": "mask", "width": 4, "max_maps": 4, "latent": 4, "batch": 4},
}


@pytest.mark.parametrize(
    ("task", "headline", "arms"),
    [
        ("classification", "auc", ("duplicate", "copy-paste", "inpaint")),
        ("segmentation", "dice", ("procedural", "boxgan")),
    ],
)
def test_volumes_are_studied_by_the_same_code(tmp_path, task, headline, arms):
    store = write(tmp_path / "cubes.h5", cubes(), ("lesion", "normal"))
    report = run_study(options(store, task, arms, seeds=1, kimg=0.008, n=4, generator_settings=SMALL_GANS))
    assert [arm.arm for arm in report.fractions[0].arms] == ["real-only", *arms]
    assert all(headline in arm.mean for arm in report.fractions[0].arms)
    drawn = tmp_path / "study/patients100/seed0/synthetic"
    assert all(open_store(drawn / name / "drawn-4.h5").images.shape == (4, 1, 16, 16, 16) for name in arms)
    assert (tmp_path / "study/study.html").stat().st_size > 10_000


def test_generators_of_a_class_each_race_the_one_of_all(tmp_path):
    bare = {"boxes": np.empty((0, 4), np.float32), "labels": [], "mask": np.zeros((16, 16), np.uint8)}
    real = write(tmp_path / "real.h5", [replace(r, **bare) if i % 5 == 0 else r for i, r in enumerate(records())])
    report = run_study(options(real, "detection", ("tiny", "tiny/each-class"), seeds=1))
    folder = real.parent / "study/patients100/seed0/synthetic"
    both = [json.loads((folder / f"{name}/gan/plan.json").read_text("utf-8")) for name in ("tiny", "tiny, each-class")]
    assert [plan["kimg"] for plan in both] == [0.02, 0.02]
    assert both[1]["each_class"]
    drawn = open_store(folder / "tiny, each-class/drawn-40.h5")
    assert set(drawn.classes.tolist()) == {0, 1}
    assert all(len(boxes) for boxes in drawn.boxes)
    [pair] = report.fractions[0].pairs
    assert (pair.arm, pair.against, pair.changed) == ("tiny/each-class", "tiny", "a generator for each class")
    assert sum(arm.chosen for arm in report.fractions[0].arms[1:]) == 1
    assert run_study(options(real, "detection", ("tiny", "tiny/each-class"), seeds=1)) == report


def test_one_class_has_no_generator_each(tmp_path):
    path = write(tmp_path / "real.h5", records(classes=("bright",)), ("bright",))
    with pytest.raises(UsageError, match="training images of bright; expected two classes"):
        run_study(options(path, "detection", ["tiny/each-class"]))


def test_a_measure_that_is_to_be_small_gets_the_verdict_the_other_way_round():
    patients, rng = np.arange(24), np.random.default_rng(0)
    errors = {name: rng.normal(size, 0.5, 24) for name, size in (("real-only", 5), ("worse", 8), ("better", 3))}
    arms = {name: [CountAnswers(each, patients)] for name, each in errors.items()}
    found = {arm.arm: arm for arm in Comparison(arms, 24, Counting.measures, 200, 0).results(["worse", "better"])}
    for name in ("worse", "better"):
        assert found[name].against_real_only["error"].verdict == name
    assert claim([*found.values()], "error", largest=False).arm == "better"


@pytest.mark.parametrize("of_both", [0, 1, 24])
def test_an_area_under_a_curve_is_compared_where_a_patient_is_of_one_class(of_both):
    """No patient of one class has such an area alone; all together have."""
    patients, rng = np.repeat(np.arange(24), 4), np.random.default_rng(0)
    truth = np.where(patients < of_both, np.arange(96) % 2, patients % 2)
    arms = {}
    for name, noise in (("real-only", 2.0), ("arm", 0.2)):
        p = 1 / (1 + np.exp(1 - 2 * truth - rng.normal(0, noise, 96)))
        arms[name] = [ClassAnswers(Classified(truth, np.stack([1 - p, p], 1), NAMES), patients)]
    found = Comparison(arms, 24, Classification.measures, 200, 0).results()[1].against_real_only
    assert found["auc"].interval[0] > 0
    assert {found[name].verdict for name in ("auc", "balanced_accuracy")} == {"better"}


@pytest.mark.parametrize(
    ("kept", "task"),
    [
        ({"masks": False, "classes": ()}, "detection"),
        ({"boxes": False, "masks": False}, "classification"),
    ],
)
def test_the_task_is_told_from_the_store(tmp_path, monkeypatch, kept, task):
    from medaug_cli.study import telling

    every = telling.tasks()
    monkeypatch.setattr(telling, "tasks", lambda: {k: v for k, v in every.items() if k != "counting"})
    path = write(tmp_path / "real.h5", records(**kept), kept.get("classes", NAMES))
    assert task_of(path, None).name == task


def test_a_store_for_several_tasks_is_asked_about(real):
    result = CliRunner().invoke(app, ["study", str(real), "--arm", "~plain"])
    said = "serves classification, counting, detection and segmentation; choose one with --task"
    assert said in str(result.exception)


def test_classes_alone_are_studied(tmp_path):
    path = write(tmp_path / "real.h5", records(boxes=False, masks=False))
    report = run_study(options(path, "classification"))
    assert report.counts == {"bright": 5, "dark": 5}
    assert report.fractions[0].images == 40


def test_a_folder_holds_one_study(real):
    run_study(options(real, "counting", seeds=1))
    with pytest.raises(UsageError, match="holds a study of counting"):
        run_study(options(real, "segmentation", seeds=1))


def of_class(names):
    return [record for record in records() if record.split != "train" or record.image_class in names]


@pytest.mark.parametrize(
    ("chosen", "task", "words"),
    [
        (lambda: of_class(["bright"]), "classification", "no training image of the class 'dark'"),
        (
            lambda: [r for r in records() if r.split != "test" or r.image_class == "dark"],
            "classification",
            "no images of two classes in the test split",
        ),
        (lambda: [replace(r, mask=r.mask * 0) for r in records()], "segmentation", "no mask that marks anything"),
        (lambda: records(masks=False), "segmentation", "holds no masks"),
        (lambda: records(classes=()), "classification", "names no class"),
    ],
)
def test_stores_that_cannot_be_studied_are_named(tmp_path, chosen, task, words):
    images = list(chosen())
    path = write(tmp_path / "real.h5", images, NAMES if images[0].image_class else ())
    with pytest.raises(Exception, match=words):
        run_study(options(path, task))
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("arms", "words"),
    [
        (["mosaic~x"], "no generator 'mosaic'|no variant 'x'"),
        (["~mosaic"], "tiny has no variant 'mosaic'; it has strict"),
        (["~over=high"], "--arm real-only~over=high: .*valid number"),
        (["~under=1"], "tiny has no setting 'under'"),
        (["duplicate/each-class"], "duplicate is not trained"),
        (["tiny/every-class"], "/each-class, @RATIO"),
        (["tiny"], "tiny does not know the classes of what it draws"),
        (["cpggan"], "cpggan does not know the classes .*; --arm cpggan/each-class makes it know them"),
        (["~strict", "~over=0.3"], "trained exactly as real-only~strict is"),
        (["~over=0.2"], "trained exactly as real-only is"),
        (["tiny[amount=0.3]", "tiny"], "trained exactly as tiny.* is"),
        (["tiny[amount]"], r"expected settings of tiny in brackets, as in \[KEY=VALUE,KEY=VALUE\]"),
        (["tiny[]"], "expected settings of tiny in brackets"),
        (["tiny[width=3]"], r"--arm tiny\[width=3\]: .*tiny has no setting 'width'"),
        (["tiny[amount=7]"], r"--arm tiny\[amount=7\]: "),
        (["tiny@2[amount=0.5]"], r"with \[KEY=VALUE\], /each-class"),
    ],
)
def test_arms_that_make_no_sense_are_named(real, arms, words):
    with pytest.raises(Exception, match=words):
        run_study(options(real, "classification", arms))
    assert not (real.parent / "study").exists()


def test_a_setting_that_makes_a_generator_know_is_named(real):
    with pytest.raises(UsageError, match=r"learns from masks; --gan-set boxgan\.form=mask makes it know them"):
        run_study(options(real, "segmentation", ["boxgan"]))


def test_arms_that_differ_in_one_thing_are_compared():
    names = ["tiny", "tiny@2", "tiny/each-class", "tiny~strict", "~strict", "early-stopped"]
    arms = parse_arms(names, "tiny", "classifier")
    found = {(later.name, earlier.name): words for later, earlier, words in one_thing_apart(arms, 1.0)}
    assert found == {
        ("tiny@2", "tiny"): "ratio 2 against 1",
        ("tiny/each-class", "tiny"): "a generator for each class",
        ("tiny~strict", "tiny"): "over",
        ("tiny~strict", "real-only~strict"): "synthetic images",
    }


def test_images_alone_or_first_are_not_one_thing_that_is_changed():
    arms = parse_arms(["tiny+only~strict", "tiny+pretrain~strict", "~strict"], "tiny", "classifier")
    assert [words for *_, words in one_thing_apart(arms, 1.0)] == ["use pretrain against only"]


def test_a_folder_in_brackets_may_hold_the_sign_of_a_change(monkeypatch, tmp_path):
    assert split_arm("boxgan[start=~/x,form=mask]@2~strict~lr=[1]") == (
        "boxgan[start=~/x,form=mask]@2", ["strict", "lr=[1]"],
    )  # fmt: skip
    assert [split_arm(text) for text in ("boxgan", "~strict", "boxgan~lr=0.1")] == [
        ("boxgan", []), ("", ["strict"]), ("boxgan", ["lr=0.1"]),
    ]  # fmt: skip
    monkeypatch.setenv("HOME", str(tmp_path))
    [_, arm] = parse_arms(["tiny[start=~/old]~strict"], "tiny", "classifier")
    assert (arm.start, arm.changed) == (f"{tmp_path}/old", (("over", 0.3),))
    assert arm.name == "tiny[start=~/old]~strict"


def test_a_filter_by_realism_is_an_arm_of_its_own():
    arms = parse_arms(["tiny+filter", "tiny+realism", "tiny[amount=0.5]@2+realism+only"], "tiny", "classifier")
    assert [arm.filtered for arm in arms] == ["", "lesion", "realism", "realism"]
    assert [arm.use for arm in arms] == ["mixed", "mixed", "mixed", "only"]
    [(later, earlier, words)] = one_thing_apart(arms, 1.0)
    assert (later.name, earlier.name, words) == ("tiny+realism", "tiny+filter", "filter realism against lesion")


def test_settings_of_a_generator_stand_in_brackets():
    names = ["tiny", "tiny[amount=0.5]", "tiny[amount=0.5,pause=0]@2~strict", "tiny[amount=0.5]/each-class"]
    arms = {arm.name: arm for arm in parse_arms(names, "tiny", "classifier")}
    assert [arm.given for arm in arms.values()] == [(), (), *[(("amount", 0.5),)] * 3]
    assert [arm.source for arm in arms.values()] == [
        None, "tiny", "tiny[amount=0.5]", "tiny[amount=0.5]", "tiny[amount=0.5]/each-class",
    ]  # fmt: skip
    assert (arms[names[2]].ratio, arms[names[2]].changed) == (2.0, (("over", 0.3),))
    assert arms[names[1]].generator_settings({"tiny": {"pause": "0.1"}}) == {"pause": "0.1", "amount": 0.5}
    found = {(later.name, earlier.name): words for later, earlier, words in one_thing_apart(list(arms.values()), 1.0)}
    assert found == {
        ("tiny[amount=0.5]", "tiny"): "amount",
        ("tiny[amount=0.5]/each-class", "tiny[amount=0.5]"): "a generator for each class",
    }
    [_, same] = parse_arms(["tiny[amount=0.5]"], "tiny", "classifier", generators={"tiny": {"amount": "0.5"}})
    assert (same.given, same.source) == ((), "tiny")


@pytest.mark.parametrize(
    "answers",
    [
        [np.array([0.2, 0.8]), np.array([1.0, 0.0])],
        [np.zeros((3, 4), np.uint8), np.ones((3, 4), np.uint8)],
        [np.array(3.5), np.array(1.0)],
        [(np.zeros((0, 4)), np.zeros(0)), (np.ones((2, 4)), np.ones(2)), (np.ones((1, 4)), np.zeros(1))],
        [(np.ones((1, 4)), np.zeros(1))],
    ],
)
def test_answers_are_kept_as_they_are(answers):
    again = unpacked(packed(answers), len(answers))
    assert len(again) == len(answers)
    for one, two in zip(answers, again, strict=True):
        for a, b in zip(*(each if isinstance(each, tuple) else (each,) for each in (one, two)), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
