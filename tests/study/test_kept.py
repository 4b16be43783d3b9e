"""A study uses again what it keeps only where all that it depends on is the same, and says what it cannot measure."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
from conftest import make_records, make_store, tiny_installed

from medaug_cli.errors import BadInput, UsageError
from medaug_cli.results import refuse_stranger
from medaug_cli.runs import RunOptions, train_generator
from medaug_cli.runs.folder import kind_of
from medaug_cli.store import open_store
from medaug_cli.study import StudyOptions, comparing, run_study
from medaug_cli.study.arms import parse_arms
from medaug_cli.study.measurable import out_of_reach

pytestmark = pytest.mark.usefixtures("tiny_plugins", "undrawn", "few_trees")


ARMS = ("tiny", "tiny@2", "tiny+pretrain", "duplicate")


def options(real, arms=("tiny",), **changed):
    chosen = {
        "network": "tiny", "steps": 4, "kimg": 0.02, "seeds": 1, "resamples": 100, "device": "cpu",
        "precision": "32", "split": "val", **changed,
    }  # fmt: skip
    return StudyOptions(real, parse_arms(list(arms), "tiny"), real.parent / "study", **chosen)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the store of a finished study, of a generator that learns, in three ways, and of one that does not."""
    folder = tmp_path_factory.mktemp("kept")
    make_store(folder / "real.h5")
    with tiny_installed():
        run_study(options(folder / "real.h5", ARMS))
    return folder / "real.h5"


OTHERS = {  # what is asked for now -> what is said
    "more steps": ({"steps": 12}, "steps: 4 there, 12 asked"),
    "fewer steps": ({"steps": 2}, "steps: 4 there, 2 asked"),
    "a setting of the detector": ({"network_settings": {"pause": "0.002"}}, r"pause: 0\.0 there, 0\.002 asked"),
    "another budget of the generator": ({"kimg": 0.04}, r"kimg: 0\.02 there, 0\.04 asked"),
    "a setting of the generator": ({"generator_settings": {"tiny": {"amount": 0.5}}}, "amount: "),
    "another ratio": ({"ratio": 3.0}, r"ratio: 1\.0 there, 3\.0 asked"),
    "another jitter": ({"jitter": 0.2}, r"jitter: 0\.1 there, 0\.2 asked"),
    "another number of images": ({"n": 5}, "synthetic images: others there"),
    "another seed": ({"seed": 1}, "seed: 0 there, 1 asked"),
    "another precision": ({"precision": "16"}, "precision: 32 there, 16 asked"),
    "another arm with more steps": ({"arms": ("tiny", "early-stopped"), "steps": 12}, "steps: 4 there, 12"),
    "two things": ({"steps": 12, "kimg": 0.04}, "unequal arms cannot be compared"),
    "a dry run": ({"steps": 12, "dry_run": True}, "choose another --out"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_study_of_other_settings_is_refused(finished, case):
    changed, said = OTHERS[case]
    arms = changed.get("arms", ("tiny", "tiny@2", "tiny+pretrain"))
    rest = {key: value for key, value in changed.items() if key != "arms"}
    before = sorted((path, path.stat().st_mtime_ns) for path in finished.parent.rglob("*.json"))
    with pytest.raises(UsageError, match=said):
        run_study(options(finished, arms, **rest))
    assert sorted((path, path.stat().st_mtime_ns) for path in finished.parent.rglob("*.json")) == before


NETWORKS = {f"detectors/{name}" for name in (*ARMS, "tiny+pretrain, first")}
OF_TINY = NETWORKS - {"detectors/duplicate"}
DRAWN = {f"synthetic/tiny/drawn-{n}.h5" for n in (16, 32)}
ANEW = {  # what is asked for now -> what is made anew by it
    "nothing else": ({}, set()),
    "a setting of the detector": ({"network_settings": {"pause": "0.002"}}, NETWORKS | {"detectors/real-only"}),
    "a setting of the generator": (
        {"generator_settings": {"tiny": {"amount": 0.5}}}, OF_TINY | DRAWN | {"synthetic/tiny/gan"},
    ),
    "another budget, which a control does not have": ({"kimg": 0.04}, OF_TINY | DRAWN | {"synthetic/tiny/gan"}),
    "another precision, which a control does not have": (
        {"precision": "bf16"}, NETWORKS | {"detectors/real-only"} | DRAWN | {"synthetic/tiny/gan"},
    ),
    "another jitter": ({"jitter": 0.2}, NETWORKS | DRAWN | {"synthetic/duplicate/drawn-16.h5"}),
    "another ratio": ({"ratio": 1.5}, {f"detectors/{name}" for name in ARMS if name != "tiny@2"}
                                      | {"detectors/tiny+pretrain, first"}),
}  # fmt: skip


@pytest.fixture
def copied(finished, tmp_path):
    """Return the store of a copy of the finished study, which a test may change."""
    shutil.copytree(finished.parent, tmp_path / "copy")
    return tmp_path / "copy/real.h5"


def steps_of(real):
    """Return when each step of a study of one seed was made: networks, generators and drawn images."""
    folder = real.parent / "study/patients100/seed0"
    paths = [path.parent for path in folder.rglob("plan.json")] + list(folder.rglob("drawn-*.h5"))
    return {path.relative_to(folder).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


@pytest.mark.parametrize("case", ANEW)
def test_what_a_setting_concerns_is_made_anew_and_nothing_else(copied, case):
    changed, expected = ANEW[case]
    before, said = steps_of(copied), []
    run_study(options(copied, ARMS, overwrite=True, dry_run=True, announce=said.append, **changed))
    assert steps_of(copied) == before
    assert any("it would be made anew" in sentence for sentence in said) == bool(expected)
    made = {name for name in expected if name.startswith("detectors/") and not name.endswith(", first")}
    planned = 1 + len(ARMS)
    assert any(f"{planned} detectors (tiny), {planned - len(made)} of them trained" in sentence for sentence in said)
    run_study(options(copied, ARMS, overwrite=True, announce=said.append, **changed))
    now = steps_of(copied)
    assert {name for name in before if now.get(name) != before[name]} == expected
    assert any(sentence.endswith("it is made anew") for sentence in said) == bool(expected)


def test_a_budget_is_no_other_setting_of_a_control(copied):
    before = steps_of(copied)
    assert run_study(options(copied, ("duplicate",), kimg=0.04)) is not None
    assert steps_of(copied) == before
    part = copied.parent / "study/patients100"
    gan = part / "seed0/synthetic/duplicate/gan"
    run = RunOptions(gan, device="cpu", precision="bf16", resume=True)
    train_generator(part / "real.h5", "duplicate", run, kimg=0.08)
    assert steps_of(copied) == before
    gan.rename(gan.with_name("gan.parts"))  # as if it had been stopped
    train_generator(part / "real.h5", "duplicate", run, kimg=0.08)
    assert json.loads((gan / "plan.json").read_text(encoding="utf-8"))["kimg"] == 0.02


def test_what_is_made_anew_is_what_a_new_study_makes(copied, tmp_path):
    changed = {"generator_settings": {"tiny": {"amount": 0.5}}}
    again = run_study(options(copied, ARMS, overwrite=True, **changed))
    fresh = run_study(replace(options(copied, ARMS, **changed), out=tmp_path / "fresh"))
    assert again.model_copy(update={"opened": 1}) == fresh


def test_images_that_were_begun_with_another_jitter_are_made_anew(copied):
    drawn = copied.parent / "study/patients100/seed0/synthetic/tiny/drawn-16.h5"
    parts = drawn.with_name("drawn-16.h5.parts")
    parts.mkdir()
    plan = {"info": open_store(drawn).info.model_dump(mode="json"), "plan": {}}
    (parts / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    drawn.unlink()
    with pytest.raises(UsageError, match=r"jitter: 0\.1 there, 0\.2 asked for"):
        run_study(options(copied, ARMS[:1], jitter=0.2))
    run_study(options(copied, ARMS[:1], jitter=0.2, overwrite=True))
    assert open_store(drawn).info.settings["jitter"] == 0.2


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, []),
        ({"tool_version": "0.0.1"}, ["by medaug 0.0.1 and "]),
        ({"precision": "16"}, ["with precision 16 and 32: "]),
        ({"tool_version": "0.0.1", "precision": "16"}, ["by medaug 0.0.1 and ", "with precision 16 and 32: "]),
    ],
)
def test_networks_that_were_trained_unequally_are_told(copied, changed, said):
    path = copied.parent / "study/patients100/seed0/detectors/real-only/detector.json"
    told = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(told | changed), encoding="utf-8")
    found = [each for each in run_study(options(copied, ARMS)).remarks if each.startswith("networks were trained")]
    assert len(found) == len(said)
    assert all(words in each for each, words in zip(found, said, strict=True))


@pytest.mark.parametrize(("patience", "steps", "told"), [(0, 1, False), (2, 4, False), (2, 3, True)])
def test_networks_that_stopped_early_are_told(copied, monkeypatch, patience, steps, told):
    path = copied.parent / "study/patients100/seed0/detectors/tiny/detector.json"
    described = json.loads(path.read_text(encoding="utf-8"))
    assert not comparing.may_stop(described)
    assert comparing.may_stop({"settings": {"patience": patience}}) == bool(patience)
    path.write_text(json.dumps(described | {"steps": steps}), encoding="utf-8")
    monkeypatch.setattr(comparing, "may_stop", lambda described: bool(patience))
    remarks = run_study(options(copied, ARMS)).remarks
    assert any(each.startswith("1 of 5 detectors stopped before the last step") for each in remarks) == told


def test_an_unfinished_network_is_begun_anew_on_other_images(copied):
    folder = copied.parent / "study/patients100/seed0/detectors"
    for name in ("tiny", "tiny+pretrain, first"):
        (folder / name).rename(folder / f"{name}.parts")
    shutil.rmtree(folder / "tiny+pretrain")
    changed = {"generator_settings": {"tiny": {"amount": 0.5}}}
    with pytest.raises(UsageError, match="amount: "):
        run_study(options(copied, ARMS, **changed))
    assert run_study(options(copied, ARMS, overwrite=True, **changed)) is not None
    assert not list(folder.glob("*.parts"))


@pytest.mark.parametrize(
    "name",
    [
        "synthetic/tiny/gan/notes.txt",
        "synthetic/tiny/gan/results.json",
        "synthetic/tiny/mine.h5",
        "detectors/tiny@2/outline.png",
        "detectors/tiny@2/checkpoints/best/1.pt",
    ],
)
def test_a_strangers_file_is_not_removed(copied, name):
    """Nor is anything else, or announced as removed."""
    notes, said = copied.parent / "study/patients100/seed0" / name, []
    notes.parent.mkdir(parents=True, exist_ok=True)
    notes.write_text("mine", encoding="utf-8")
    before = {path: path.stat().st_mtime_ns for path in copied.parent.rglob("*") if path.is_file()}
    for dry_run in (True, False):
        asked = options(copied, ARMS, overwrite=True, dry_run=dry_run, announce=said.append)
        with pytest.raises(UsageError, match="is not part of the study; move it elsewhere") as error:
            run_study(replace(asked, generator_settings={"tiny": {"amount": 0.5}}))
        assert str(error.value).startswith(str(notes))
    assert not any("made anew" in sentence for sentence in said)
    assert {path for path in before if not path.exists() or path.stat().st_mtime_ns != before[path]} == set()


def test_what_is_nobodys_work_stops_no_making_anew(copied):
    for place in ("", "seed0/synthetic/tiny/gan", "seed0/detectors/tiny"):
        (copied.parent / "study/patients100" / place / ".DS_Store").write_bytes(b"")
    assert run_study(options(copied, ARMS, overwrite=True, seed=1)) is not None


def test_stores_that_somebody_removed_are_made_again(copied, tmp_path):
    part = copied.parent / "study/patients100"
    before, said = steps_of(copied), (copied.parent / "study/study.json").read_bytes()
    for name in ("real.h5", "boxes.json"):
        (part / name).unlink()
    run_study(options(copied, ARMS))
    assert (steps_of(copied), (copied.parent / "study/study.json").read_bytes()) == (before, said)
    (part / "real.h5").unlink()
    assert run_study(options(copied, (*ARMS, "early-stopped"))) is not None
    (part / "real.h5").unlink()
    make_store(tmp_path / "real.h5", seed=1)
    with pytest.raises(UsageError, match=r"real\.h5 is not what .*real-only was trained on"):
        run_study(replace(options(tmp_path / "real.h5", ARMS), out=copied.parent / "study"))
    assert not (part / "real.h5").exists()


SAME = {
    "all of it": {},
    "another split to judge on": {"split": "test"},
    "more resamples": {"resamples": 120},
    "precision left open": {"precision": "auto"},
    "settings that are the defaults": {"network_settings": {"pause": "0"}},
}


@pytest.mark.parametrize("case", SAME)
def test_what_does_not_change_a_training_is_no_other_setting(finished, case):
    assert run_study(options(finished, ("tiny", "tiny@2", "tiny+pretrain"), **SAME[case])) is not None


def test_a_changed_store_is_refused(finished, tmp_path):
    make_store(tmp_path / "real.h5", seed=1)
    with pytest.raises(UsageError, match="training images: real"):
        run_study(replace(options(tmp_path / "real.h5"), out=finished.parent / "study"))


IMPOSSIBLE = {  # what is asked for -> what is said
    "no image": ({"n": 0}, "--n 0: expected one synthetic image or more"),
    "less than no image": ({"n": -3}, "--n -3: expected one"),
    "no budget": ({"kimg": 0.0}, "--kimg 0: expected a positive number of thousand images"),
    "a budget below 0": ({"kimg": -1.0}, "--kimg -1: expected"),
    "a budget without end": ({"kimg": math.inf}, "--kimg inf: expected"),
    "a budget that is no number": ({"kimg": math.nan}, "--kimg nan: expected"),
    "no ratio": ({"ratio": 0.0}, "--ratio 0: expected a positive number"),
    "a ratio without end": ({"ratio": math.inf}, "--ratio inf: expected"),
    "a ratio that is no number": ({"ratio": math.nan}, "--ratio nan: expected"),
    "boxes that are shifted out": ({"jitter": 1.0}, "--jitter 1: expected a share from 0 to 1"),
    "a jitter below 0": ({"jitter": -0.1}, "--jitter -0.1: expected"),
    "a jitter that is no number": ({"jitter": math.nan}, "--jitter nan: expected"),
    "half of one step": (
        {"steps": 1, "arms": ("early-stopped",)}, "--steps 1: too few for --arm early-stopped; expected 2 or more",
    ),
    "one step in halves": ({"steps": 1, "arms": ("tiny+pretrain",)}, r"--steps 1: too few for --arm tiny\+pretrain"),
    "no step": ({"steps": 0}, "--steps 0: too few for --arm real-only; expected 1 or more"),
    "a number that leaves a ratio nothing to say": (
        {"n": 5, "arms": ("tiny+only", "tiny@2+only")}, r"tiny@2\+only: it would be trained exactly as tiny\+only",
    ),
    "a name longer than a folder's": (
        {"arms": (f"tiny[amount=0.{'1' * 230}]",)}, r"tiny\[amount=0\.1+\.\.\.: the name is too long for a folder by",
    ),
    "a setting of a generator that there is not": (
        {"generator_settings": {"boxgam": {"form": "mask"}}},
        "--gan-set boxgam: no such generator is installed; those of the arms are tiny",
    ),
}  # fmt: skip


def test_a_setting_that_no_arm_has_is_said_to_change_nothing(tmp_path):
    said = []
    settings = {"boxgan": {"form": "mask"}}
    real = make_store(tmp_path / "real.h5").path
    run_study(options(real, ("tiny",), generator_settings=settings, dry_run=True, announce=said.append))
    assert "--gan-set boxgan: no arm has that generator, so its settings change nothing" in said


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_what_cannot_be_trained_is_refused_before_anything_is(tmp_path, case):
    changed, said = IMPOSSIBLE[case]
    arms = changed.get("arms", ("tiny",))
    real = make_store(tmp_path / "real.h5").path
    with pytest.raises(UsageError, match=said):
        run_study(options(real, arms, **{key: value for key, value in changed.items() if key != "arms"}))
    assert not (tmp_path / "study").exists()


def test_a_study_within_a_file_is_refused_before_anything_is_trained(tmp_path):
    real = make_store(tmp_path / "real.h5").path
    (tmp_path / "notes").write_text("mine", encoding="utf-8")
    for place in ("notes", "notes/study", "notes/a/b"):
        with pytest.raises(UsageError, match=r"notes is a file(, and \S+ would be in it)?; choose another --out"):
            run_study(replace(options(real), out=tmp_path / place, dry_run=True))


@pytest.mark.parametrize("what", ["detector", "classifier", "segmenter", "counter"])
def test_answers_that_a_study_keeps_beside_a_network_are_part_of_it(tmp_path, what):
    for name in (f"{what}.json", f"{what}.safetensors", "found-test-0123-4567.npz", "metrics.jsonl"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "plan.json").write_text(json.dumps({"command": f"train-{what}"}), encoding="utf-8")
    refuse_stranger(tmp_path, kind_of(f"train-{what}"))
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match=f"notes.txt, which is not part of a {what}"):
        refuse_stranger(tmp_path, kind_of(f"train-{what}"))


# what cannot be measured


def without(splits):
    for record in make_records():
        if record.split in splits:
            object.__setattr__(record, "boxes", np.empty((0, 4), np.float32))
            object.__setattr__(record, "labels", [])
        yield record


def test_few_held_out_images_end_no_study(tmp_path):
    told = []
    real = make_store(tmp_path / "real.h5").path  # 24 images: 4 of validation, 4 of test
    report = run_study(options(real, announce=told.append, ratio=2.0))
    assert any("memorisation and the similarity of real to real images are not available: 8 held" in s for s in told)
    [part] = report.fractions
    assert part.arms[1].similarity == []  # 16 training images are too few, too
    again = json.loads((tmp_path / "study/study.json").read_text(encoding="utf-8"))
    assert any("held-out real images, 20 are needed" in sentence for sentence in again["remarks"])


def test_similarity_without_held_out_images_is_kept_and_read_again(tmp_path):
    real = make_store(tmp_path / "real.h5", n=36).path  # 24 training images, 12 held out
    first = run_study(options(real))
    similar = first.fractions[0].arms[1].similarity
    assert [each.kid_of_real for each in similar] == [None, None]
    assert all(np.isfinite(each.kid) for each in similar)
    assert run_study(options(real)).fractions[0].arms[1].similarity == similar


def test_a_study_that_cannot_be_judged_is_refused_before_training(tmp_path):
    real = make_store(tmp_path / "healthy.h5", without({"val", "test"})).path
    for split in ("val", "test"):
        with pytest.raises(UsageError, match=f"no box in the {split} split"):
            run_study(options(real, split=split))
    gone = make_store(tmp_path / "gone.h5", (r for r in make_records() if r.split == "train")).path
    with pytest.raises(BadInput, match="no image in the val split"):
        run_study(options(gone))
    with pytest.raises(UsageError, match=r"\+filter needs 20 training boxes"):
        run_study(options(make_store(tmp_path / "real.h5").path, ("tiny+filter",)))
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(("arm", "said"), [("tiny+realism", r"\+realism needs"), ("tiny+filter", r"\+filter needs")])
def test_a_filter_that_has_external_images_alone_is_refused_before_training(tmp_path, arm, said):
    """Filters learn from the data set's own images: those of one patient here, and the others are external."""
    records = [
        replace(r, source="external:far" if r.patient in ("p1", "p2", "p3") else "real") for r in make_records(60)
    ]
    make_store(tmp_path / "real.h5", records)
    with pytest.raises(UsageError, match=said):
        run_study(options(tmp_path / "real.h5", (arm,)))
    assert not (tmp_path / "study").exists()


def test_a_study_of_few_own_and_many_external_images_ends(tmp_path):
    """Twenty external images are none to compare drawn ones with: the study ends, and shows no likeness."""
    records = [
        replace(r, source="external:far" if r.patient in ("p1", "p2", "p3") else "real") for r in make_records(60)
    ]
    make_store(tmp_path / "real.h5", records)
    [part] = run_study(options(tmp_path / "real.h5", ("duplicate",))).fractions
    assert all(arm.similarity == [] for arm in part.arms)


def test_a_validation_split_without_boxes_chooses_nothing(tmp_path):
    told = []
    real = make_store(tmp_path / "real.h5", without({"val"})).path
    report = run_study(options(real, ("tiny", "tiny@2"), split="test", announce=told.append))
    assert any("no box in its validation split" in sentence for sentence in told)
    assert all(arm.validation is None and arm.chosen for arm in report.fractions[0].arms)
    assert report.fractions[0].claim is None  # the best of two on test would be best by chance, too
    page = (tmp_path / "study/study.html").read_text(encoding="utf-8")
    assert "nothing can be said: no arm can be chosen on validation patients" in page


@pytest.mark.parametrize(
    ("patients", "resamples", "arms", "said"),
    [
        (1, 2000, 3, ""),  # of which another sentence tells
        (2, 2000, 1, "the smallest p is about 0.5"),
        (5, 2000, 1, "the smallest p is about 0.062"),
        (6, 2000, 1, ""),
        (6, 2000, 2, "the smallest p is about 0.031, and Holm multiplies it by 2"),
        (9, 2000, 12, ""),
        (110, 100, 5, ""),
        (110, 100, 6, "with 110 patients and 100 resamples the smallest p is about 0.0099, and Holm"),
        (110, 2000, 12, ""),
        (5000, 2000, 1, ""),
    ],
)
def test_verdicts_that_no_p_can_reach_are_told_beforehand(patients, resamples, arms, said):
    words = out_of_reach(patients, resamples, arms)
    assert said in words
    assert bool(words) == bool(said)


def test_arms_are_not_chosen_on_the_images_that_they_are_judged_on(copied):
    said = []
    report = run_study(options(copied, ("tiny", "tiny@2"), announce=said.append))
    assert report.fractions[0].claim is None
    assert any(sentence.startswith("weights are chosen on the images that are judged") for sentence in said)
    page = (copied.parent / "study/study.html").read_text(encoding="utf-8")
    assert "nothing can be said: an arm would be chosen on the images that it is judged on" in page


def test_one_patient_gives_no_verdict(tmp_path):
    told = []
    report = run_study(options(make_store(tmp_path / "real.h5").path, announce=told.append))
    assert any("only one patient of the val split can be judged" in sentence for sentence in told)
    arm = report.fractions[0].arms[1]
    assert all(each is None for each in arm.against_real_only.values())
    assert report.fractions[0].claim is None
    assert "no interval could be had" in (tmp_path / "study/study.html").read_text(encoding="utf-8")


def test_an_unfinished_detector_of_other_steps_is_not_gone_on_with(finished):
    folder = finished.parent / "study/patients100/seed0/detectors/real-only"
    unfinished = folder.with_name("real-only.parts")
    folder.rename(unfinished)
    try:
        with pytest.raises(UsageError, match=r"parts was made with other settings \(steps: 4 there, 12 asked"):
            run_study(options(finished, ("tiny",), steps=12, ratio=1.0))
    finally:
        unfinished.rename(folder)
