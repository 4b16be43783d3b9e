"""A project that was moved or copied, or made by an older version, goes on by its content."""

import json
import shutil

import pytest
from conftest import make_store
from inside import medaug

pytestmark = pytest.mark.usefixtures("tiny_plugins")
FAST = ("--device", "cpu", "--precision", "32")
GAN = ("train-gan", "real.h5", "--generator", "tiny", "--kimg", "0.01", *FAST)


@pytest.fixture
def older():
    """Return a function that runs the command line of an older version."""

    def run(line, folder):
        with pytest.MonkeyPatch.context() as patch:
            for module in ("lesion_filter.sifting", "runs.fitting", "synthesis.drawing"):
                patch.setattr(f"medaug_cli.{module}.__version__", "0.0.9")
            return medaug(line, folder)

    return run


def test_a_moved_project_goes_on(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    make_store(old / "real.h5")
    assert medaug(GAN, old) == 0
    old.rename(new)
    assert medaug([*GAN, "--resume"], new) == 0
    assert medaug(["train-gan", "real.h5", "--generator", "tiny", "--kimg", "0.02", *FAST, "--resume"], new) == 0
    assert medaug(["synthesize", "--n", "4"], new) == 0


@pytest.mark.parametrize("form", ["now", "of an older version"])
def test_a_copied_project_leaves_the_original_alone(form, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    make_store(old / "real.h5")
    assert medaug(GAN, old) == 0
    if form != "now":
        plan = json.loads((old / "gan/plan.json").read_text(encoding="utf-8"))
        (old / "gan/plan.json").write_text(json.dumps(plan | {"store": str(old / "real.h5")}), encoding="utf-8")
    shutil.copytree(old, new)
    assert medaug(["synthesize", "--n", "4", "--out", "s.h5"], new) == 0
    assert str(new) in (new / "said.txt").read_text(encoding="utf-8")
    (new / "real.h5").unlink()
    assert medaug(["synthesize", "--n", "4", "--out", "t.h5"], new) == 2
    assert "--boxes" in (new / "said.txt").read_text(encoding="utf-8")


def test_what_an_older_version_finished_is_recognised(tmp_path, older):
    make_store(tmp_path / "real.h5")
    lines = (GAN, ("synthesize", "--n", "4"), ("filter", "synthetic.h5", "--by", "none"))
    for line in lines:
        assert older(line, tmp_path) == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.h5")}
    for line in lines:
        assert medaug([*line, "--resume"], tmp_path) == 0, (tmp_path / "said.txt").read_text(encoding="utf-8")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.h5")} == before
    assert medaug(["synthesize", "--n", "5", "--resume"], tmp_path) == 2
    said = (tmp_path / "said.txt").read_text(encoding="utf-8")
    assert "made by medaug 0.0.9 with other settings (n 4, now 5)" in said
