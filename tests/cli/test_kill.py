"""Every writing command, killed at twenty random moments: nothing published is ever damaged or lost."""

import time
from pathlib import Path

import numpy as np
import pytest
from conftest import make_records, make_store
from forking import medaug
from PIL import Image

from medaug_cli.files import restore_folder
from medaug_cli.store import open_store

pytestmark = pytest.mark.usefixtures("tiny_plugins")
MOMENTS = 20
TRAIN = ("--set", "pause=0.005", "--checkpoint-seconds", "0.02", "--device", "cpu", "--precision", "32")




def killed_and_resumed(arguments, folder, results, check=lambda: None, again="--resume"):
    """Kill the command at random moments of its run, check what stands there, resume, compare with `results`."""
    start = time.monotonic()
    assert medaug(arguments, folder) == 0, (folder / "said.txt").read_text(encoding="utf-8")
    lasts = time.monotonic() - start
    whole = results()
    assert whole
    for moment in np.random.default_rng(0).uniform(0, lasts, MOMENTS):
        for path in _results_of(arguments, folder):
            _remove(path)
        medaug(arguments, folder, kill_after=moment)
        check()
        assert medaug([*arguments, again], folder) == 0, (folder / "said.txt").read_text(encoding="utf-8")
        assert results() == whole
        assert not list(folder.glob("*.parts"))
        assert not list(folder.glob(".*.tmp"))


def a_folder_whole_or_not_at_all(arguments, folder):
    """Kill a command that does not resume: its folder is not there or holds every file."""
    out = _results_of(arguments, folder)[0]

    def results():
        return [(path.name, path.read_bytes()) for path in sorted(out.rglob("*")) if path.is_file()]

    assert medaug(arguments, folder) == 0, (folder / "said.txt").read_text(encoding="utf-8")
    whole = results()

    def check():
        assert not out.exists() or results() == whole

    _remove(out)
    killed_and_resumed(arguments, folder, results, check, again="--overwrite")


def killed_while_replacing(arguments, folder, results):
    """Kill the command as it replaces an older result: there is always one that is whole, the old or the new."""
    start = time.monotonic()
    assert medaug(arguments, folder) == 0, (folder / "said.txt").read_text(encoding="utf-8")
    lasts, whole = time.monotonic() - start, results()
    for moment in np.random.default_rng(1).uniform(0.5 * lasts, lasts, MOMENTS):
        medaug([*arguments, "--overwrite"], folder, kill_after=moment)
        restore_folder(folder / arguments[arguments.index("--out") + 1])
        assert results() == whole
    assert medaug([*arguments, "--overwrite"], folder) == 0, (folder / "said.txt").read_text(encoding="utf-8")
    assert results() == whole
    assert not list(folder.glob("*.parts"))


def _results_of(arguments, folder):
    out = folder / arguments[arguments.index("--out") + 1]
    return [out, out.with_name(f"{out.name}.parts")]


def _remove(path):
    import shutil

    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def whole_store(path: Path):
    """Fail if a store stands there that is not whole."""
    if path.exists():
        open_store(path).verify()


def test_train_gan(real, tmp_path):
    arguments = ["train-gan", "real.h5", "--generator", "tiny", "--kimg", "0.1", "--out", "gan", *TRAIN]

    def results():
        samples = sorted((tmp_path / "gan/samples").iterdir())
        return (tmp_path / "gan/generator.safetensors").read_bytes(), samples[-1].read_bytes()

    def check():
        if (tmp_path / "gan").exists():
            results()

    killed_and_resumed(arguments, tmp_path, results, check)


def test_train_detector(real, tmp_path):
    arguments = ["train-detector", "real.h5", "--detector", "tiny", "--steps", "30", "--out", "detector", *TRAIN]

    def results():
        return [(tmp_path / f"detector/detector.{kind}").read_bytes() for kind in ("json", "safetensors")]

    killed_and_resumed(arguments, tmp_path, results)


def test_synthesize(real, tmp_path, monkeypatch):
    monkeypatch.setattr("medaug_cli.synthesis.BLOCK", 40)
    monkeypatch.setattr("medaug_cli.store.writing.SHARD_BYTES", 10_000)
    assert (
        medaug(["train-gan", "real.h5", "--generator", "tiny", "--kimg", "0.02", "--out", "gan", *TRAIN], tmp_path) == 0
    )
    arguments = ["synthesize", "--n", "1000", "--out", "synthetic.h5"]
    killed_and_resumed(
        arguments,
        tmp_path,
        lambda: (tmp_path / "synthetic.h5").read_bytes(),
        lambda: whole_store(tmp_path / "synthetic.h5"),
    )


def test_synthesize_replacing(real, tmp_path, monkeypatch):
    monkeypatch.setattr("medaug_cli.synthesis.BLOCK", 40)
    train = ["train-gan", "real.h5", "--generator", "tiny", "--kimg", "0.02", "--out", "gan", *TRAIN]
    assert medaug(train, tmp_path) == 0
    arguments = ["synthesize", "--n", "200", "--out", "synthetic.h5"]
    killed_while_replacing(arguments, tmp_path, lambda: (tmp_path / "synthetic.h5").read_bytes())


def test_train_detector_replacing(real, tmp_path):
    arguments = ["train-detector", "real.h5", "--detector", "tiny", "--steps", "10", "--out", "detector", *TRAIN]
    killed_while_replacing(arguments, tmp_path, lambda: (tmp_path / "detector/detector.json").read_bytes())


def test_preprocess(tmp_path):
    (tmp_path / "scans").mkdir()
    rows = ["image,x_min,y_min,x_max,y_max,label,patient"]
    for record in make_records(24, size=32):
        Image.fromarray(record.image[0]).save(tmp_path / "scans" / f"{record.id}.png")
        rows.append(",".join([f"{record.id}.png", *(str(int(x)) for x in record.boxes[0]), "lesion", record.patient]))
    (tmp_path / "boxes.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    arguments = ["preprocess", "scans", "--boxes", "boxes.csv", "--size", "16", "--strip", "none", "--out", "real.h5"]

    def results():
        names = ("real.h5", "boxes.json", "preprocess.json", "preprocess.html")
        return [(tmp_path / name).read_bytes() for name in names]

    killed_and_resumed(arguments, tmp_path, results, lambda: whole_store(tmp_path / "real.h5"))


def test_filter(real, tmp_path):
    make_store(tmp_path / "real.h5", n=60)
    for command in (
        ["train-gan", "real.h5", "--generator", "tiny", "--kimg", "0.02", "--set", "amount=0.9", *TRAIN],
        ["synthesize", "--n", "60", "--out", "synthetic.h5"],
    ):
        assert medaug(command, tmp_path) == 0
    arguments = ["filter", "synthetic.h5", "--out", "kept.h5"]

    def results():
        return [(tmp_path / name).read_bytes() for name in ("kept.h5", "filter.json", "filter.html")]

    killed_and_resumed(arguments, tmp_path, results, lambda: whole_store(tmp_path / "kept.h5"))


def test_evaluate(real, tmp_path):
    train = ["train-detector", "real.h5", "--detector", "tiny", "--steps", "5", "--out", "detector", *TRAIN]
    assert medaug(train, tmp_path) == 0
    arguments = ["evaluate", "real.h5", "detector", "--out", "evaluation", "--resamples", "100", "--overlays", "2"]

    a_folder_whole_or_not_at_all(arguments, tmp_path)


def test_tsne(real, tmp_path):
    make_store(tmp_path / "real.h5", n=36)
    for command in (
        ["train-gan", "real.h5", "--generator", "tiny", "--kimg", "0.02", "--out", "gan", *TRAIN],
        ["synthesize", "--n", "24", "--out", "synthetic.h5"],
    ):
        assert medaug(command, tmp_path) == 0
    arguments = ["tsne", "real.h5", "synthetic.h5", "--out", "tsne.png", "--perplexity", "5"]

    def results():
        return [(tmp_path / name).read_bytes() for name in ("tsne.png", "tsne.json")]

    killed_and_resumed(arguments, tmp_path, results, again="--overwrite")


def test_store_export(real, tmp_path):
    a_folder_whole_or_not_at_all(["store", "export", "real.h5", "--format", "coco", "--out", "exported"], tmp_path)
