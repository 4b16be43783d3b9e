"""`--fold I/K`: generators and networks see the training patients of a fold, and are tested on its own."""

import json
from dataclasses import replace

import pytest
from conftest import make_records, tiny_installed
from typer.testing import CliRunner

from medaug_cli.cli import app
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.store import digest_patient
from medaug_cli.store.folds import Folds

pytestmark = pytest.mark.usefixtures("tiny_plugins", "undrawn")


def medaug(*words):
    result = CliRunner().invoke(app, list(map(str, words)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a folder with a store, and a generator, a detector and a classifier of its fold 1 of 2."""
    folder = tmp_path_factory.mktemp("fold")
    records = [
        replace(each, patient=f"p{i // 3}", split="test" if i >= 6 else "train", image_class=("bright", "dark")[i % 2])
        for i, each in enumerate(make_records(24))
    ]
    from medaug_cli.store import StoreInfo, StoreWriter

    info = StoreInfo(
        tool_version="0", command="test", settings={}, seed=0, label_names=["lesion"], class_names=["bright", "dark"]
    )
    writer = StoreWriter(folder / "real.h5", info, {})
    for unit, record in enumerate(records):
        writer.add(unit, [record])
    writer.publish()
    own = ["--fold", "1/2", "--device", "cpu"]
    with tiny_installed(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.savefig", lambda figure, target, **_: target.write(b"<svg/>"))
        real = folder / "real.h5"
        medaug("train-gan", real, "--generator", "tiny", "--kimg", 0.02, "--out", folder / "gan", *own)
        for kind in ("detector", "classifier"):
            medaug(f"train-{kind}", real, f"--{kind}", "tiny", "--steps", 2, "--out", folder / kind, *own)
    return folder


def test_only_training_patients_of_the_fold_are_seen(trained):
    folds = Folds.model_validate_json((trained / "real.folds-2.json").read_text(encoding="utf-8"))
    tested = {digest_patient(patient) for patient, fold in folds.patients.items() if fold == 1}
    assert len(tested) == 4
    for place, kind in (("gan", "generator"), ("detector", "detector"), ("classifier", "classifier")):
        said = json.loads((trained / place / f"{kind}.json").read_text(encoding="utf-8"))
        assert said["fold"] == "1/2"
        assert len(said["training_patients"]) == 3  # one of the other four is for validation
        assert not set(said["training_patients"]) & tested


@pytest.mark.parametrize("kind", ["detector", "classifier"])
def test_a_network_is_judged_on_the_patients_of_its_fold(trained, tmp_path, kind):
    out = ["--out", tmp_path / "evaluation", "--device", "cpu", "--resamples", 100]
    medaug("evaluate", trained / "real.h5", trained / kind, "--fold", "1/2", *out)
    said = json.loads((tmp_path / "evaluation/metrics.json").read_text(encoding="utf-8"))
    assert (said["split"], said["patients"]) == ("test of fold 1/2", 4)
    for others in (["--fold", "2/2"], []):
        with pytest.raises(BadInput, match=r"fitted on \d of the patients.*it was trained in fold 1/2: --fold 1/2"):
            medaug("evaluate", trained / "real.h5", trained / kind, *others, *out, "--overwrite")


def test_a_run_of_another_fold_does_not_go_on(trained):
    words = ["train-detector", trained / "real.h5", "--detector", "tiny", "--steps", 2, "--out", trained / "detector"]
    assert medaug(*words, "--fold", "1/2", "--device", "cpu", "--resume").exit_code == 0
    for others in (["--fold", "2/2"], []):
        with pytest.raises(UsageError, match="fold"):
            medaug(*words, *others, "--device", "cpu", "--resume")


def test_folds_without_a_fold_are_named(trained):
    with pytest.raises(UsageError, match="--folds names the file of --fold I/K"):
        medaug("train-gan", trained / "real.h5", "--folds", trained / "real.folds-2.json", "--out", trained / "x")
    with pytest.raises(UsageError, match="--fold is not used with --detections"):
        medaug("evaluate", "--truth", "a.json", "--detections", "b.json", "--fold", "1/2")


def test_a_synthetic_store_of_another_fold_is_refused(trained, tmp_path):
    draw = ["synthesize", "--n", 4, "--gan", trained / "gan", "--out", tmp_path / "drawn.h5", "--device", "cpu"]
    with pytest.raises(UsageError, match=r"was fitted in fold 1/2; draw .* by --like real\.h5 --fold 1/2"):
        medaug(*draw)
    with pytest.raises(UsageError, match="--fold needs --like"):
        medaug(*draw, "--fold", "1/2")
    medaug(*draw, "--like", trained / "real.h5", "--fold", "1/2")
    medaug("filter", tmp_path / "drawn.h5", "--by", "none", "--real", trained / "real.h5", "--fold", "1/2", "--out",
           tmp_path / "kept.h5")  # fmt: skip
    words = ["train-detector", trained / "real.h5", "--detector", "tiny", "--steps", 2, "--device", "cpu"]
    words += ["--synthetic", tmp_path / "kept.h5"]
    assert medaug(*words, "--out", tmp_path / "same", "--fold", "1/2").exit_code == 0
    with pytest.raises(BadInput, match=r"its generator tiny was fitted on [1-3] patients that .* holds out"):
        medaug(*words, "--out", tmp_path / "other", "--fold", "2/2")
    assert not (tmp_path / "other").exists()
