"""Reader studies: balanced, blind, and scored as the readers' skill is."""

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from reader_studies import CLASSES, answers, stores, write_answers
from typer.testing import CliRunner

from medaug_cli.cli import app
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.store import open_store
from medaug_cli.turing import Key, ScoreOptions, StudyOptions, make_study, score_study
from medaug_cli.turing.atlas import FLOOR, alike, atlas
from medaug_cli.turing.documents import seal_of
from medaug_cli.turing.making import _whole
from medaug_cli.turing.planning import Candidate, balanced, plan_words
from medaug_cli.turing.report import sentences
from medaug_cli.turing.statistics import proportion

CLASSES_OF_THREE = ("cyst", "normal", "tumour")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return the folder and key of a study with three readers."""
    folder = tmp_path_factory.mktemp("study")
    key = make_study(StudyOptions(stores(folder), folder / "study", n=40, readers=3, practice=6))
    return folder, key


def page_data(path):
    """Return what a reader's page holds."""
    text = path.read_text(encoding="utf-8")
    start = text.index('<script id="data" type="application/json">') + 42
    return json.loads(text[start : text.index("</script>", start)])


def scored(folder, key, skills, name="score", **options):
    files = write_answers(folder, key, skills)
    return score_study(ScoreOptions(folder / "study" / "key.json", files, folder / name, resamples=200, **options))


def test_every_class_has_as_many_real_as_synthetic_images(made):
    _, key = made
    shown = {image for trial in key.readers[0].trials.values() if not trial.practice for image in trial.images}
    counts = Counter((key.images[image].image_class, key.images[image].kind) for image in shown)
    assert counts == {(name, kind): 10 for name in CLASSES for kind in ("real", "synthetic")}
    tried = [trial.images[0] for trial in key.readers[0].trials.values() if trial.practice]
    assert Counter(key.images[image].kind for image in tried) == {"real": 3, "synthetic": 3}
    assert not shown & set(tried)


def test_real_images_are_of_the_split_and_of_many_patients(made):
    folder, key = made
    real = open_store(folder / "real.h5")
    own = [real.ids.index(image.id) for image in key.images if image.kind == "real"]
    assert {str(real.splits[i]) for i in own} == {"test"}
    assert len({real.patients[i] for i in own}) >= 13  # of fourteen: patients take turns


@pytest.mark.parametrize("seed", range(5))
def test_patients_take_turns_over_all_classes(seed):
    """Twenty patients with slices of both classes, of which three of a third one: each is shown once."""
    classes = {f"p{k:02d}": ("normal", "tumour", "cyst")[: 3 if k < 3 else 2] for k in range(20)}
    pool = [
        Candidate(0, k, "real", group, patient, False)
        for patient, groups in classes.items() for group in groups for k in range(5)
    ]  # fmt: skip
    pool += [Candidate(1, k, "synthetic", group, f"s{group}{k}", False) for group in CLASSES_OF_THREE for k in range(9)]
    shown, _ = balanced(pool, 18, "test", np.random.default_rng(seed), 0)
    real = Counter(one.patient for one in shown if one.kind == "real")
    assert len(real) == real.total() == 9
    shown, _ = balanced(pool, 42, "test", np.random.default_rng(seed), 0)
    real = Counter(one.patient for one in shown if one.kind == "real")
    assert len(real) >= 17  # of the 21 images seven are of the three patients with a cyst
    assert max(real.values()) <= 3


def test_each_reader_has_an_order_and_names_of_its_own(made):
    _, key = made
    orders = [[trial.images for trial in one.trials.values()] for one in key.readers]
    assert len({json.dumps(order) for order in orders}) == 3
    assert len({token for one in key.readers for token in one.trials}) == sum(len(one.trials) for one in key.readers)


def test_repeats_come_late_and_are_those_shown_before(made):
    _, key = made
    for one in key.readers:
        trials = [trial for trial in one.trials.values() if not trial.practice]
        places = [k for k, trial in enumerate(trials) if trial.repeat]
        assert len(places) == 4
        for place in places:
            before = [k for k, trial in enumerate(trials) if trial.images == trials[place].images and not trial.repeat]
            assert len(before) == 1
            assert place - before[0] >= 8


def test_the_same_seed_chooses_the_same_images_but_no_one_finds_the_order(made, tmp_path):
    folder, key = made
    paths = [folder / "real.h5", folder / "synthetic.h5"]
    again = make_study(StudyOptions(paths, tmp_path / "b", n=40, readers=3, practice=6))
    assert [(one.kind, one.id) for one in again.images] == [(one.kind, one.id) for one in key.images]
    assert set(again.readers[0].trials) != set(key.readers[0].trials)
    first, second = (page_data(place / "reader-1.html") for place in (folder / "study", tmp_path / "b"))
    assert [trial["cells"] for trial in first["trials"]] != [trial["cells"] for trial in second["trials"]]


def kinds_of(key, reader=0):
    """Return the kinds of the images that a reader is asked about, in order."""
    return [[key.images[image].kind for image in trial.images] for trial in key.readers[reader].trials.values()]


@pytest.mark.parametrize("pairs", [False, True])
def test_the_seed_leads_to_no_order(tmp_path, pairs):
    paths = stores(tmp_path)
    keys = [make_study(StudyOptions(paths, tmp_path / name, n=40, practice=0, pairs=pairs)) for name in "ab"]
    assert keys[0].images == keys[1].images
    assert kinds_of(keys[0]) != kinds_of(keys[1])


@pytest.mark.parametrize("by", ["none", "label", "class"])
@pytest.mark.parametrize(
    ("real", "synthetic"),
    [(1, 1), (0.5, 1), (1, 0.5), (0.5, 0.5), (0.9, 0.6), (0.1, 0.9), (0, 1), (1, 0), (0, 0), (0.5, 0), (0, 0.5)],
)
def test_having_boxes_tells_no_kind(tmp_path, by, real, synthetic):
    """Of shares of the images that have a box: what is shown has boxes in all images of a class, or in none."""
    paths, told = stores(tmp_path, boxed=(real, synthetic)), []
    options = StudyOptions(paths, tmp_path / "study", n=8, practice=4, by=by, split="all", say=told.append)
    if by == "label" and {real, synthetic} == {0, 1}:
        with pytest.raises(BadInput, match="no class has both real and synthetic images"):
            make_study(options)
        return
    key, found = make_study(options), {}
    for trial in page_data(tmp_path / "study" / "reader-1.html")["trials"]:
        image = key.images[key.readers[0].trials[trial["id"]].images[0]]
        found.setdefault(image.image_class, set()).add(len(trial["boxes"][0]))
    assert all(len(counts) == 1 for counts in found.values())
    assert key.asks_lesion == any(counts == {1} for counts in found.values())
    hidden, left = (any(words in line for line in told) for words in ("no box is shown", "left out: in each class"))
    assert hidden == ({real, synthetic} == {0, 1})
    assert left == (by != "label" and not {real, synthetic} <= {0, 1})


def test_scans_from_elsewhere_are_real(tmp_path):
    real, synthetic = stores(tmp_path)
    (tmp_path / "other").mkdir()
    external, _ = stores(tmp_path / "other", source="external:busi")
    with pytest.raises(BadInput, match="hold no synthetic images"):
        make_study(StudyOptions([real, external], tmp_path / "study", n=40, split="all"))
    key = make_study(StudyOptions([external, synthetic], tmp_path / "study", n=40, split="train"))
    assert {(image.store, image.kind) for image in key.images} == {(0, "real"), (1, "synthetic")}


@pytest.mark.parametrize("dims", [2, 3])
def test_boxes_in_whole_pixels_have_a_pixel_a_side(dims):
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 15.9, (500, dims))
    high = np.minimum(low + rng.exponential(1, (500, dims)) + 1e-3, 16)
    found = np.array(_whole(np.concatenate([low, high], 1), (16,) * dims))
    assert (found[:, dims:] > found[:, :dims]).all()
    assert (found >= 0).all()
    assert (found <= 16).all()
    assert np.abs(found - np.concatenate([low, high], 1)).max() < 1.5


def test_readers_of_pairs_see_the_same_pairs_and_agree(tmp_path):
    key = make_study(StudyOptions(stores(tmp_path), tmp_path / "study", n=40, pairs=True, readers=3, practice=4))
    shown = [{frozenset(trial.images) for trial in one.trials.values()} for one in key.readers]
    assert shown[0] == shown[1] == shown[2]
    assert len({json.dumps(kinds_of(key, number)) for number in range(3)}) == 3
    report = scored(tmp_path, key, {"reader-1": 50.0, "reader-2": 50.0, "reader-3": -50.0})
    assert report.fleiss_kappa == pytest.approx(-0.5)  # each pair judged rightly by two of three
    assert report.accuracy == pytest.approx(2 / 3)


def test_a_page_holds_the_pixels_and_no_kind(made):
    folder, key = made
    data = page_data(folder / "study" / "reader-1.html")
    text = (folder / "study" / "reader-1.html").read_text(encoding="utf-8")
    for picture in data["pictures"]:
        text = text.replace(picture, "")  # in so many random letters short ids stand by chance
    assert not any(image.id in text for image in key.images)
    assert "real.h5" not in text
    asked = [trial for trial in data["trials"] if "truth" not in trial]
    assert {frozenset(trial) for trial in asked} == {frozenset({"id", "cells", "boxes"})}
    assert len([trial for trial in data["trials"] if "truth" in trial]) == 6
    assert not {"repeat", "kind", "store"} & set().union(*map(set, data["trials"]))
    # every cell of the atlas is the image that the key says
    import base64
    import io

    from PIL import Image

    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(data["pictures"][0]))).convert("L"))
    height, width = data["shape"]
    opened = {kind: open_store(folder / f"{kind}.h5") for kind in ("real", "synthetic")}
    for trial in data["trials"]:
        image = key.images[key.readers[0].trials[trial["id"]].images[0]]
        store = opened[image.kind]
        index = store.ids.index(image.id)
        y, x = trial["cells"][0] // data["perRow"] * height, trial["cells"][0] % data["perRow"] * width
        assert (sheet[y : y + height, x : x + width] == alike(store.images[index])).all()
        assert trial["boxes"][0] == np.rint(store.boxes[index]).astype(int).tolist()


def test_nothing_but_the_pixels_tells_a_kind(tmp_path):
    """A forest that sees everything in the page's source but the pixels stays at chance."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import cross_val_predict

    key = make_study(StudyOptions(stores(tmp_path, n=300), tmp_path / "study", n=300, practice=0, repeats=0))
    data = page_data(tmp_path / "study" / "reader-1.html")
    features, kinds = [], []
    for place, trial in enumerate(data["trials"]):
        corners = (trial["boxes"][0] or [[0, 0, 0, 0]])[0]
        token = list(bytes.fromhex(trial["id"]))
        features.append([place, trial["cells"][0], len(trial["boxes"][0]), *corners, *token, len(json.dumps(trial))])
        kinds.append(key.images[key.readers[0].trials[trial["id"]].images[0]].kind == "synthetic")
    forest = RandomForestClassifier(60, min_samples_leaf=3, random_state=0)
    guessed = cross_val_predict(forest, np.array(features), kinds, cv=5)
    right = (guessed == np.array(kinds)).sum()
    from scipy.stats import binomtest

    # Names are drawn anew each time, so 1 % would fail once in a hundred runs; 62 % right is beyond this.
    assert binomtest(int(right), len(kinds), alternative="greater").pvalue > 5e-5


def test_images_are_encoded_alike():
    noise, zeros = np.full((1, 8, 8), 3, np.uint8), np.zeros((1, 8, 8), np.uint8)
    assert (alike(noise) == alike(zeros)).all()
    assert alike(np.full((1, 8, 8), 40000, np.uint16)).tolist() == alike(np.full((1, 8, 8), 156, np.uint8)).tolist()
    assert alike(np.zeros((3, 8, 8), np.uint8)).shape == (8, 8, 3)
    assert FLOOR > 3
    with pytest.raises(BadInput, match="one size"):
        atlas([np.zeros((8, 8), np.uint8), np.zeros((8, 9), np.uint8)])


def test_pairs_hold_one_of_each_kind_in_random_places(tmp_path):
    key = make_study(StudyOptions(stores(tmp_path), tmp_path / "study", n=40, pairs=True, practice=4))
    asked = [trial for trial in key.readers[0].trials.values() if not trial.practice]
    kinds = [tuple(key.images[image].kind for image in trial.images) for trial in asked]
    assert set(kinds) == {("real", "synthetic"), ("synthetic", "real")}
    assert all(len({key.images[image].image_class for image in trial.images}) == 1 for trial in asked)
    report = scored(tmp_path, key, {"reader-1": 8.0})
    assert report.accuracy == 1
    assert report.readers[0].numbers.sensitivity is None
    assert report.readers[0].numbers.d_prime > 2.5
    classes = report.readers[0].numbers.class_right
    assert classes.hits == classes.of == report.readers[0].answers
    assert not key.asks_lesion  # of which picture would not be clear


def test_a_perfect_and_a_guessing_reader(made):
    folder, key = made
    report = scored(folder, key, {"reader-1": 50.0, "reader-2": 0.0}, "two")
    perfect, guessing = report.readers
    assert perfect.numbers.accuracy.value == 1
    assert perfect.numbers.sensitivity.value == perfect.numbers.specificity.value == perfect.numbers.auc == 1
    assert perfect.numbers.p < 1e-9
    asked = Counter(tuple(trial.images) for trial in key.readers[0].trials.values() if not trial.practice)
    kinds = {key.images[image].kind for images, times in asked.items() if times > 1 for image in images}
    assert perfect.numbers.own_kappa == (1 if len(kinds) == 2 else None)  # of one kind alone there is no kappa
    assert guessing.numbers.p > 0.05
    low, high = guessing.numbers.d_prime_interval
    assert low < 0 < high
    assert perfect.numbers.class_right.value == 1
    assert perfect.repeats == 4
    assert perfect.answers == 40
    assert report.fleiss_kappa < 0.5
    assert report.interval[0] < report.accuracy < report.interval[1]


@pytest.mark.parametrize("skill", [0.0, 1.0, 2.0])
def test_skill_is_measured_within_its_interval(made, skill):
    """In 100 simulated studies of a known d', its interval holds it at least 93 times (95 are expected)."""
    _, key = made
    from medaug_cli.turing.scoring import _of_reader, _row

    reader, options = key.readers[0], ScoreOptions(None, [], None)
    held = 0
    for seed in range(100):
        from medaug_cli.turing.documents import Answer

        given = [Answer(**row) for row in answers(key, reader.name, skill, seed)["answers"]]
        numbers = _row(key, reader.name, _of_reader("file", reader, given, key, options), options).numbers
        low, high = numbers.d_prime_interval
        held += low <= skill <= high
    assert held >= 93


def test_intervals_by_class_resample_readers_and_images(made):
    """Readers err on the same images: their answers are no more independent by class than all together."""
    folder, key = made
    report = scored(folder, key, {f"reader-{k}": 1.0 for k in (1, 2, 3)}, "by-class")
    assert sum(share.hits for share in report.by_class.values()) == round(report.accuracy * 120)
    for share in report.by_class.values():
        assert share.of == 60
        assert share.value == pytest.approx(share.hits / share.of)
        assert share.interval != pytest.approx(proportion(share.hits, share.of).interval)
        assert share.interval[0] <= share.value <= share.interval[1]


def test_the_page_of_a_score_shows_who_was_fooled(made):
    folder, key = made
    report = scored(folder, key, {"reader-1": -50.0, "reader-2": -50.0}, "fooled")
    assert len(report.fooled_all) == 20
    assert report.fooled_none == []
    assert len(report.real_taken_for_synthetic) == 20
    text = (folder / "fooled" / "turing.html").read_text(encoding="utf-8")
    assert "taken for real by every reader" in text
    assert text.count("data:image/png") == 2
    assert len((folder / "fooled" / "turing.csv").read_text(encoding="utf-8").splitlines()) == 1 + 2 * 44
    assert report.with_evidence is None or report.with_evidence.images == 20


def test_a_study_that_is_copied_shows_its_own_images(made, tmp_path):
    folder, key = made
    assert [store.path for store in key.stores] == ["../real.h5", "../synthetic.h5"]
    copied = shutil.copytree(folder, tmp_path / "copied")
    (copied / "synthetic.h5").unlink()  # the original's is not shown in its place
    scored(copied, key, {"reader-1": -50.0}, "copied")
    assert (copied / "copied/turing.html").read_text(encoding="utf-8").count("data:image/png") == 1


def test_a_key_of_before_finds_its_stores(made, tmp_path):
    folder, key = made
    copied = shutil.copytree(folder, tmp_path / "copied")
    shutil.rmtree(copied / "study")
    before = [each.model_copy(update={"path": str(folder / "gone" / Path(each.path).name)}) for each in key.stores]
    (copied / "study").mkdir()
    key = key.model_copy(update={"stores": before})
    (copied / "study/key.json").write_text(key.model_dump_json(), encoding="utf-8")
    scored(copied, key, {"reader-1": -50.0}, "before")
    assert (copied / "before/turing.html").read_text(encoding="utf-8").count("data:image/png") == 2


def test_images_of_two_stores_that_have_one_name_are_not_mixed_up(tmp_path, monkeypatch):
    real, synthetic = stores(tmp_path)
    other = tmp_path / "other.h5"
    shutil.copyfile(synthetic, other)
    key = make_study(StudyOptions([real, synthetic, other], tmp_path / "study", n=40, practice=8))
    by_name = Counter(image.id for image in key.images if image.kind == "synthetic")
    assert max(by_name.values()) > 1
    shown = []
    monkeypatch.setattr("medaug_cli.turing.report._pictures", lambda key, folder, images, say: shown.append(images))
    asked = {image for trial in key.readers[0].trials.values() if not trial.practice for image in trial.images}
    scored(tmp_path, key, {"reader-1": -50.0})
    own = [number for number in sorted(asked) if key.images[number].kind == "synthetic"][:12]
    assert [(image.store, image.id) for image in shown[0]] == [(key.images[k].store, key.images[k].id) for k in own]
    rows = csv.DictReader((tmp_path / "score" / "turing.csv").read_text(encoding="utf-8").splitlines())
    assert {row["store"] for row in rows} == {"real.h5", "synthetic.h5", "other.h5"}


@pytest.mark.parametrize("n", [4, 8, 12, 40])
def test_a_few_right_answers_are_no_proof(tmp_path, n):
    """A reader who is always right is called able only where guessing is not."""
    key = make_study(StudyOptions(stores(tmp_path), tmp_path / "study", n=n, practice=0, repeats=0))
    report = scored(tmp_path, key, {"reader-1": 50.0})
    assert report.interval == report.readers[0].numbers.accuracy.interval
    assert (sentences(report)[1] == "Readers tell real from synthetic images.") == (report.readers[0].numbers.p < 0.05)


def test_a_dry_run_answers_in_json_and_makes_nothing(tmp_path):
    paths = [str(path) for path in stores(tmp_path)]
    arguments = ["turing", "make", *paths, "--n", "40", "--dry-run", "--out", str(tmp_path / "study")]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert json.loads(result.stdout) == {"out": str(tmp_path / "study"), "key": None, "pages": [], "images": 50}
    assert not (tmp_path / "study").exists()


def test_evidence_of_the_filter_is_compared_with_what_readers_say(made):
    folder, key = made
    files = write_answers(folder, key, {"reader-1": 1.0})
    said = json.loads(files[0].read_text(encoding="utf-8"))
    for row in said["answers"]:
        image = key.images[key.readers[0].trials[row["trial"]].images[0]]
        row["says"] = "synthetic" if (image.evidence or 0) > 3 else "real"
        row["confidence"] = 3
    files[0].write_text(json.dumps(said), encoding="utf-8")
    report = score_study(ScoreOptions(folder / "study" / "key.json", files, folder / "evidence", resamples=200))
    assert report.with_evidence.value > 0.7


def broken(change):
    """Return a function that breaks an answer file."""

    def apply(path):
        said = json.loads(path.read_text(encoding="utf-8"))
        change(said)
        path.write_text(json.dumps(said), encoding="utf-8")

    return apply


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda said: said.update(study="0" * 16), "answers another study"),
        (lambda said: said.update(seal="0" * 64), "was changed after the pages were made"),
        (lambda said: said.update(reader="reader-9"), "is of the reader 'reader-9'"),
        (lambda said: said["answers"].pop(), "answers 43 of 44 questions"),
        (lambda said: said["answers"].append(said["answers"][0]), "answers the question"),
        (lambda said: said["answers"][0].update(trial="00"), "was not asked"),
        (lambda said: said["answers"][0].update(says="left"), "answered by 'left'"),
        (lambda said: said["answers"][0].update(confidence=7), "confidence"),
        (lambda said: said.pop("answers"), "answers"),
    ],
)
def test_answers_that_are_not_this_studys(made, tmp_path, change, words):
    folder, key = made
    path = write_answers(tmp_path, key, {"reader-1": 1.0})[0]
    broken(change)(path)
    result = CliRunner().invoke(
        app, ["turing", "score", str(folder / "study" / "key.json"), str(path), "--out", str(tmp_path / "score")]
    )
    assert isinstance(result.exception, BadInput)
    assert words in str(result.exception)
    assert not (tmp_path / "score").exists()


def test_a_tampered_key_is_noticed(made, tmp_path):
    folder, key = made
    path = write_answers(tmp_path, key, {"reader-1": 1.0})[0]
    text = (folder / "study" / "key.json").read_text(encoding="utf-8")
    (tmp_path / "key.json").write_text(text.replace('"kind":"real"', '"kind":"synthetic"', 1).replace(
        '"kind": "real"', '"kind": "synthetic"', 1), encoding="utf-8")  # fmt: skip
    assert Key.model_validate_json((tmp_path / "key.json").read_text(encoding="utf-8")) != key
    with pytest.raises(BadInput, match="was changed after the pages were made"):
        score_study(ScoreOptions(tmp_path / "key.json", [path], tmp_path / "score"))


def test_two_files_of_one_reader_and_a_half_answered_one(made, tmp_path):
    folder, key = made
    path = write_answers(tmp_path, key, {"reader-1": 1.0})[0]
    copy = tmp_path / "copy.json"
    copy.write_bytes(path.read_bytes())
    with pytest.raises(BadInput, match="are both of reader-1"):
        score_study(ScoreOptions(folder / "study" / "key.json", [path, copy], tmp_path / "score"))
    said = json.loads(path.read_text(encoding="utf-8"))
    said["answers"], said["finished"] = said["answers"][:20], False
    path.write_text(json.dumps(said), encoding="utf-8")
    report = score_study(
        ScoreOptions(folder / "study" / "key.json", [path], tmp_path / "score", partial=True, resamples=200)
    )
    assert report.readers[0].answers + report.readers[0].repeats <= 20
    assert seal_of(key) == said["seal"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n": 400}, "there are 19 in the test split; at most --n 76"),
        ({"split": "val"}, "no real images in the val split"),
        ({"split": "tests"}, "choose one of train, val, test, all"),
        ({"repeats": 1.5}, "expected a share from 0 to 1"),
        ({"n": 2}, "expected at least 4"),
    ],
)
def test_studies_that_cannot_be_made(tmp_path, options, words):
    with pytest.raises((BadInput, UsageError), match=words):
        make_study(StudyOptions(stores(tmp_path), tmp_path / "study", **options))
    assert not (tmp_path / "study").exists()


def test_stores_of_unequal_sizes_are_refused(tmp_path):
    real, _ = stores(tmp_path)
    (tmp_path / "other").mkdir()
    _, synthetic = stores(tmp_path / "other", size=32)
    with pytest.raises(BadInput, match="the size would tell them apart"):
        make_study(StudyOptions([real, synthetic], tmp_path / "study"))


def test_the_plan_says_what_it_can_see(made):
    _, key = made
    lines = plan_words(key)
    assert lines[0].startswith("3 readers, 40 images, half of them synthetic of glioma, meningioma; 6 to practise on")
    assert lines[0].endswith(", 4 shown twice")
    assert "70 % in" in lines[1]


def test_by_label_and_without_classes(tmp_path):
    paths = stores(tmp_path, classes=False)
    key = make_study(StudyOptions(paths, tmp_path / "study", n=20))
    assert key.by == "none"
    assert key.classes == []
    assert not key.asks_class
    with pytest.raises(BadInput, match="names no class"):
        make_study(StudyOptions(paths, tmp_path / "other", n=20, by="class"))


def test_a_study_is_not_written_over_anything_else(made, tmp_path):
    folder, _ = made
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    paths = [folder / "real.h5", folder / "synthetic.h5"]
    with pytest.raises(UsageError):
        make_study(StudyOptions(paths, tmp_path, overwrite=True, n=20))
    with pytest.raises(UsageError, match="holds the store"):
        make_study(StudyOptions(paths, folder, overwrite=True, n=20))
