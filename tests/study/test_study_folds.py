"""A study in folds: every patient is tested once by networks that never saw it, and nothing leaks from fold to fold."""

import csv
import json
import shutil
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import make_records, make_store, tiny_installed
from forking import dying, medaug, together
from typer.testing import CliRunner

from medaug_cli.cli import app
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.store import digest_patient, open_store
from medaug_cli.store.folds import Folds
from medaug_cli.study import StudyOptions, measurable, run_study
from medaug_cli.study.arms import parse_arms
from medaug_cli.study.rounds import Round, rounds_of
from medaug_cli.study.trials import part, plan
from medaug_cli.tasks.task import task_named

pytestmark = pytest.mark.usefixtures("tiny_plugins", "undrawn")

PATIENTS, FOLDS = 8, 2


def records(patients=PATIENTS):
    """Yield three images of each patient, all of which the store's own split tests but the first two."""
    for i, record in enumerate(make_records(3 * patients)):
        number = i // 3
        yield replace(record, patient=f"p{number}", split=("train", "val")[number] if number < 2 else "test")


def options(real, arms=("tiny", "~over=0.3"), **changed):
    asked = {
        "task": task_named("counting"), "network": "tiny", "steps": 3, "kimg": 0.02, "seeds": 2, "folds": FOLDS,
        "resamples": 100, "device": "cpu", "precision": "32", "out": real.parent / "study", **changed,
    }  # fmt: skip
    return StudyOptions(real, parse_arms(list(arms), "tiny", asked["task"].kind), **asked)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the store of a finished study in two folds, and its report."""
    folder = tmp_path_factory.mktemp("folds")
    make_store(folder / "real.h5", records())
    with tiny_installed(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.savefig", lambda figure, target, **_: target.write(b"<svg/>"))
        return folder / "real.h5", run_study(options(folder / "real.h5"))


@pytest.fixture
def again(finished, tmp_path):
    """Return a copy of the finished study that a test may change."""
    shutil.copytree(finished[0].parent, tmp_path / "copy")
    return tmp_path / "copy/real.h5"


def dealt(real):
    return Folds.model_validate_json((real.parent / "study/folds.json").read_text(encoding="utf-8"))


def test_every_patient_is_tested_once_by_what_never_saw_it(finished):
    real, report = finished
    folds, study = dealt(real), real.parent / "study"
    seen = 0
    for number in range(1, FOLDS + 1):
        tested = {digest_patient(patient) for patient, fold in folds.patients.items() if fold == number}
        assert len(tested) == PATIENTS / FOLDS
        for path in (study / f"fold-{number}").rglob("*.json"):
            if path.name in ("counter.json", "generator.json"):
                seen += 1
                trained = set(json.loads(path.read_text(encoding="utf-8"))["training_patients"])
                assert trained
                assert not trained & tested
    assert seen == FOLDS * 2 * 4  # of each fold and seed three networks and a generator
    assert (report.patients, report.slices) == (PATIENTS, 3 * PATIENTS)
    assert report.deals[0].patients == [4, 4]
    assert report.settings["folds"] == FOLDS
    assert set(folds.patients) == {f"p{i}" for i in range(PATIENTS)}  # those of the store's test split are trained on


def test_answers_of_all_folds_are_pooled(finished):
    _, report = finished
    for arm in report.fractions[0].arms:
        assert list(arm.folds) == ["fold 1", "fold 2"]
        for seed, pooled in arm.seeds.items():
            each = [arm.folds[f"fold {number}"][seed]["error"] for number in range(1, FOLDS + 1)]
            assert pooled["error"] == pytest.approx(np.mean(each))  # folds are of one size


def test_the_page_and_the_rows_show_every_fold_and_seed(finished):
    real, report = finished
    page = (real.parent / "study/study.html").read_text(encoding="utf-8")
    assert "the split column of the store is ignored" in page
    assert "every patient tested once in 2 folds" in page
    for arm in report.fractions[0].arms:
        for own in arm.folds.values():
            assert ", ".join(f"{own[seed]['error']:.3f}" for seed in ("0", "1")) in page
    with (real.parent / "study/study.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["fold"] for row in rows} == {"", "fold 1", "fold 2"}
    assert len(rows) == 3 * 2 * (1 + FOLDS)


def test_a_finished_study_stands_and_a_stopped_one_goes_on(again):
    study = again.parent / "study"
    said = (study / "study.json").read_bytes()
    before = {path: path.stat().st_mtime_ns for path in study.rglob("*.safetensors")}
    run_study(options(again))
    assert (study / "study.json").read_bytes() == said
    assert {path: path.stat().st_mtime_ns for path in study.rglob("*.safetensors")} == before
    shutil.rmtree(study / "fold-2/patients100/seed1")
    for name in ("study.json", "study.csv", "study.html", "differences.csv"):
        (study / name).unlink()
    run_study(options(again))
    assert (study / "study.json").read_bytes() == said
    changed = {path for path, when in before.items() if path.stat().st_mtime_ns != when}
    assert changed == {path for path in before if path.is_relative_to(study / "fold-2/patients100/seed1")}


def test_parts_share_the_folds_and_give_what_one_gives(finished, tmp_path):
    real, report = finished
    said = []
    parts = [options(real, out=tmp_path / "study", num_parts=2, part_id=i, announce=said.append) for i in range(2)]
    assert run_study(parts[0]) is None
    assert "counters of other parts are not there yet" in said[-1]
    assert run_study(parts[1]) == report
    assert (tmp_path / "study/study.json").read_bytes() == (real.parent / "study/study.json").read_bytes()


def test_parts_share_the_folds_of_each_generator(tmp_path):
    """Two parts have half of each generator's trainings, and not one generator each, which may take far longer."""
    make_store(tmp_path / "real.h5", records())
    asked = options(tmp_path / "real.h5", ("tiny", "tiny[amount=0.7]"), num_parts=2, seeds=2)
    trials = list(plan(asked, rounds_of(asked, open_store(tmp_path / "real.h5"))))
    parts = [part(replace(asked, part_id=i), trials) for i in range(2)]
    assert sorted(map(repr, parts[0] + parts[1])) == sorted(map(repr, trials))
    shares = [Counter(trial.arm.name for trial in mine) for mine in parts]
    assert shares[0] == shares[1] == {"real-only": 2, "tiny": 2, "tiny[amount=0.7]": 2}


COMMAND = (  # what the finished study was asked for
    "study", "real.h5", "--task", "counting", "--network", "tiny", "--arm", "tiny", "--arm", "~over=0.3", "--steps",
    "3", "--kimg", "0.02", "--seeds", "2", "--folds", "2", "--resamples", "100", "--device", "cpu", "--precision", "32",
)  # fmt: skip


def test_two_processes_share_one_folder_at_the_same_time(finished, tmp_path):
    shutil.copy(finished[0], tmp_path)
    codes, said = together(*([*COMMAND, "--num-parts", "2", "--part-id", str(i)] for i in range(2)), tmp_path)
    assert codes == [0, 0], said
    assert (tmp_path / "study/study.json").read_bytes() == (finished[0].parent / "study/study.json").read_bytes()


def test_killed_at_ten_moments_it_ends_the_same(finished, tmp_path):
    shutil.copy(finished[0], tmp_path)
    for change in np.random.default_rng(0).integers(1, 220, 10):  # of a thousand to the disk, so that no clock counts
        assert medaug(COMMAND, tmp_path, prepare=dying(int(change))) == -signal.SIGKILL
    assert medaug(COMMAND, tmp_path) == 0, (tmp_path / "said.txt").read_text(encoding="utf-8")
    assert (tmp_path / "study/study.json").read_bytes() == (finished[0].parent / "study/study.json").read_bytes()
    assert not list((tmp_path / "study").rglob("*.parts"))


def test_folds_are_taken_over_from_another_study(finished, tmp_path):
    real, _ = finished
    path = real.parent / "study/folds.json"
    turned = {patient: fold % FOLDS + 1 for patient, fold in dealt(real).patients.items()}
    other = tmp_path / "turned.json"
    other.write_text(dealt(real).model_copy(update={"patients": turned}).model_dump_json(), encoding="utf-8")
    with pytest.raises(UsageError, match=r"holds other folds than .*turned\.json; choose another --out"):
        run_study(options(real, folds=other))
    with pytest.raises(UsageError, match="holds 2 folds, not 4"):
        run_study(options(real, folds=4))
    with pytest.raises(UsageError, match="holds a study in folds; give --folds"):
        run_study(options(real, folds=None))
    changed = run_study(options(real, ("~over=0.3",), folds=other, seeds=1, out=tmp_path / "study"))
    assert json.loads((tmp_path / "study/folds.json").read_text(encoding="utf-8"))["patients"] == turned
    assert changed.settings["dealt"] != run_study(options(real, folds=path)).settings["dealt"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_folds_that_were_dealt_with_another_seed_are_kept_only_by_name(again, overwrite):
    folds, asked = again.parent / "study/folds.json", options(again, seed=4, overwrite=overwrite)
    with pytest.raises(UsageError, match=r"were dealt with --seed 0, not 4; keep them with --folds .*folds\.json"):
        run_study(asked)
    if overwrite:
        before = folds.read_bytes()
        assert run_study(replace(asked, folds=folds)).settings["seed"] == 4
        assert folds.read_bytes() == before


def test_more_seeds_and_deals_are_added(again):
    report = run_study(options(again, ("~over=0.3",), seeds=1, repeat=2))
    assert (again.parent / "study/folds-2.json").exists()
    assert list(report.fractions[0].arms[0].seeds) == ["deal 1, seed 0", "deal 2, seed 0"]
    assert len(report.fractions[0].arms[0].folds) == 2 * FOLDS
    assert [sum(deal.patients) for deal in report.deals] == [PATIENTS, PATIENTS]


def test_each_fold_chooses_the_generated_arm_by_its_own_validation(again):
    report = run_study(options(again, ("tiny", "tiny@2", "duplicate"), seeds=1))
    claim = report.fractions[0].claim
    assert set(claim.choices) == {"fold 1", "fold 2"}
    assert set(claim.choices.values()) <= {"tiny", "tiny@2"}
    assert set(claim.ahead_of) == {"duplicate"}
    study = again.parent / "study"
    for number in range(1, FOLDS + 1):
        folder = study / f"fold-{number}/patients100/seed0/counters"
        scores = {
            arm: json.loads((folder / arm / "counter.json").read_text(encoding="utf-8"))["validation"]["score"]
            for arm in ("tiny", "tiny@2")
        }
        assert scores[claim.choices[f"fold {number}"]] == max(scores.values())
    page = (study / "study.html").read_text(encoding="utf-8")
    assert "the best generated arm of each fold, chosen on its validation part" in page


def test_folds_without_validation_are_told_apart(monkeypatch):
    """The name of a fold of a second deal holds a comma."""
    monkeypatch.setattr(measurable, "lacks_validation", lambda asked, each: "no box")
    asked, store = options(Path("real.h5")), SimpleNamespace()
    said = measurable._unvalidated(asked, [Round(store, store, 0, 1), Round(store, store, 1, 2)])
    assert "has no box in its validation split of fold 1; deal 2, fold 2: weights" in said


def test_a_near_duplicate_in_two_folds_is_refused(tmp_path):
    own = list(records())
    folds = {f"p{i}": i % FOLDS + 1 for i in range(PATIENTS)}
    twin = np.clip(own[0].image.astype(int) + 3, 0, 255).astype(np.uint8)  # p0 and p3 are in other folds
    own[9] = replace(own[9], image=twin)
    store = make_store(tmp_path / "real.h5", own)
    path = tmp_path / "folds.json"
    path.write_text(Folds(folds=FOLDS, seed=0, store=store.hash, patients=folds).model_dump_json(), encoding="utf-8")
    with pytest.raises(BadInput, match=r"slice i000 \(patient p0, fold 1\) and .* i009 \(patient p3, fold 2\).*nearly"):
        run_study(options(store.path, folds=path))
    assert not (tmp_path / "study").exists()
    together = Folds(folds=FOLDS, seed=0, store=store.hash, patients=folds | {"p3": 1, "p2": 2})
    path.write_text(together.model_dump_json(), encoding="utf-8")
    run_study(options(store.path, ("~over=0.3",), folds=path, dry_run=True))


@pytest.mark.parametrize("other", [{"annotated": False}, {"source": "external:elsewhere"}], ids=str)
def test_a_near_duplicate_that_every_fold_trains_on_is_refused(tmp_path, other):
    own = list(records())
    bare = {"id": "copy", "patient": "other", "split": "train", "boxes": own[0].boxes[:0], "labels": []}
    own.append(replace(own[4], image=own[4].image + np.uint8(2), **bare, **other))
    real = make_store(tmp_path / "real.h5", own).path
    with pytest.raises(BadInput, match=r"slice copy \(patient other\) and .* i004 \(patient p1, fold \d\).*nearly"):
        run_study(options(real))
    assert not (tmp_path / "study").exists()


def test_a_generator_that_was_fitted_on_a_test_fold_is_refused(again):
    study = again.parent / "study"
    for name in ("counters", "synthetic"):
        shutil.rmtree(study / "fold-1/patients100/seed0" / name)
    (study / "fold-1/patients100/seed0/synthetic/tiny").mkdir(parents=True)
    other = study / "fold-2/patients100/seed0/synthetic/tiny"
    shutil.copytree(other / "gan", study / "fold-1/patients100/seed0/synthetic/tiny/gan")
    with pytest.raises(UsageError, match=r"gan was made with other settings.*store_hash"):
        run_study(options(again))
    shutil.rmtree(study / "fold-1/patients100/seed0/synthetic/tiny/gan")
    from medaug_cli.runs import RunOptions, train_network

    part = study / "fold-1/patients100/real.h5"
    drawn = next(other.glob("drawn-*.h5"))
    with pytest.raises(BadInput, match=r"generator tiny was fitted on [1-9]\d* patients that .* holds out"):
        train_network(
            task_named("counting"), part, "tiny", RunOptions(again.parent / "net", device="cpu"), synthetic=[drawn]
        )


def test_a_network_that_saw_a_test_patient_is_refused(again):
    study = again.parent / "study"
    ours, theirs = (study / f"fold-{i}/patients100/seed0/counters/real-only" for i in (1, 2))
    for path in ours.iterdir():
        if path.name in ("counter.json", "counter.safetensors"):
            shutil.copy(theirs / path.name, path)
    for path in ours.glob("found-*"):
        path.unlink()
    with pytest.raises(BadInput, match=r"was fitted on [1-9]\d* of the patients in the test split"):
        run_study(options(again, ("tiny", "~over=0.3")))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"split": "val"}, "tests every patient once; leave --split out"),
        ({"folds": None, "repeat": 2}, "--repeat needs --folds"),
        ({"folds": 10}, "a patient for each, got 10 folds"),
    ],
)
def test_what_makes_no_sense_in_folds_is_named(tmp_path, changed, words):
    real = make_store(tmp_path / "real.h5", records()).path
    with pytest.raises(UsageError, match=words):
        run_study(options(real, **changed))
    assert not (tmp_path / "study").exists()


def test_the_command_takes_a_number_or_a_file(tmp_path):
    make_store(tmp_path / "real.h5", records())
    run = ["study", str(tmp_path / "real.h5"), "--task", "counting", "--network", "tiny", "--arm", "~over=0.3"]
    out = ["--out", str(tmp_path / "study"), "--dry-run"]
    said = CliRunner().invoke(app, [*run, "--folds", "2", *out])
    assert said.exit_code == 0, said.output
    assert "every patient of" in said.output
    assert not (tmp_path / "study").exists()
    for text, words in (("1", "--folds 1: expected 2 or more"), ("gone.json", "gone.json does not exist")):
        result = CliRunner().invoke(app, [*run, "--folds", text, *out])
        assert words in str(result.exception)


def test_a_store_of_one_split_can_be_studied_in_folds(tmp_path):
    real = make_store(tmp_path / "real.h5", (replace(record, split="train") for record in records())).path
    assert run_study(options(real, ("~over=0.3",), seeds=1)).patients == PATIENTS
    assert set(open_store(real).splits) == {"train"}
