"""The commands of examples/demo.sh, tasks.sh and nodules.sh, on a few of the images that ship, by tiny networks."""

import json
import re
import runpy
import shutil
from collections import Counter
from pathlib import Path

import pytest
from support.example_lines import EXAMPLES, run_lines

TOY = {"size": "16", "kimg": "0.02", "n": "24", "steps": "2"}
SMALL = {
    "train-gan": ("base=64", "max_maps=8", "latent=8", "batch=4"),
    "train-classifier": ("width=4", "batch=4"),
    "train-segmenter": ("width=4", "levels=2", "batch=4"),
}
WANTED = {"train": 8, "val": 3, "test": 4}  # slices of each class


def few_slices(folder):
    """Copy some slices of each class and split, with their masks; patients as they are."""
    whole = json.loads((EXAMPLES / "data/boxes.json").read_text(encoding="utf-8"))
    taken, images = Counter(), []
    for image in whole["images"]:
        kind = image["split"], image["boxes"][0]["label"]
        taken[kind] += 1
        if taken[kind] <= WANTED[kind[0]]:
            images.append(image)
    for name, suffix in (("images", "jpg"), ("masks", "png")):
        (folder / name).mkdir()
        for image in images:
            shutil.copy(EXAMPLES / f"data/{name}/{image['id']}.{suffix}", folder / name)
    (folder / "boxes.json").write_text(json.dumps({**whole, "images": images}), encoding="utf-8")
    rows = [f"{image['id']},{image['boxes'][0]['label']}\n" for image in images]
    (folder / "classes.csv").write_text("image,class\n" + "".join(rows), encoding="utf-8")
    return len(images)


@pytest.mark.usefixtures("undrawn")
def test_the_whole_line_of_both_tasks(tmp_path, monkeypatch):
    monkeypatch.setattr("medaug_cli.embedding.layout.ITERATIONS", 250)
    (tmp_path / "data").mkdir()
    few_slices(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    assert len(run_lines("tasks.sh", {**TOY, "data": str(tmp_path / "data")}, SMALL)) == 11
    for name, task in (("classes", "classification"), ("masks", "segmentation")):
        metrics = json.loads((tmp_path / name / "metrics.json").read_text(encoding="utf-8"))
        assert (metrics["task"], metrics["images"]) == (task, 12)
        assert [row["name"].rpartition("-")[2] for row in metrics["rows"]] == ["real", "both"]
        assert (tmp_path / name / "table.md").read_text(encoding="utf-8").count("|") > 20
    assert len(json.loads((tmp_path / "tsne.json").read_text(encoding="utf-8"))["panels"]) == 4
    obeyed = json.loads((tmp_path / "obedience.json").read_text(encoding="utf-8"))["sets"][0]["obedience"]
    assert obeyed["images"] == 24


NODULES = {"side": "16", "whole": "24,24,24", "mm": "2", "kimg": "0.016", "n": "6", "steps": "2"}
FEW = {"train": 3, "val": 1, "test": 2}  # volumes of each split
OF_VOLUMES = {
    "train-gan": ("base=64", "max_maps=4", "latent=4", "embedding=4", "batch=4"),
    "train-classifier": ("width=2", "batch=4"),
    "train-segmenter": ("width=2", "levels=2", "batch=2"),
}


def few_nodules(data):
    """Copy some volumes of each split, with their masks."""
    rows = (EXAMPLES / "nodules/split.csv").read_text(encoding="utf-8").splitlines()
    few = [row for split, n in FEW.items() for row in [row for row in rows if row.endswith(split)][:n]]
    for name in ("images", "masks"):
        (data / name).mkdir(parents=True)
        for row in few:
            shutil.copy(EXAMPLES / f"nodules/{name}/{row.partition(',')[0]}.nii.gz", data / name)
    (data / "split.csv").write_text("\n".join(["patient,split", *few]) + "\n", encoding="utf-8")


@pytest.mark.usefixtures("undrawn")
def test_the_whole_line_of_volumes(tmp_path, monkeypatch):
    data = tmp_path / "data"
    few_nodules(data)
    monkeypatch.chdir(tmp_path)
    assert len(run_lines("nodules.sh", {**NODULES, "data": str(data)}, OF_VOLUMES)) == 12
    for name, task in (("classes", "classification"), ("masks", "segmentation")):
        metrics = json.loads((tmp_path / name / "metrics.json").read_text(encoding="utf-8"))
        assert (metrics["task"], metrics["images"]) == (task, 4 if name == "classes" else 2)
        assert [row["name"].rpartition("-")[2] for row in metrics["rows"]] == ["real", "both"]
    assert len(list((tmp_path / "nnunet/labelsTr").iterdir())) == 6


DEMO = {
    "size": "32", "n": "24", "steps": "2", "class_steps": "2", "mask_steps": "2", "side": "16", "mm": "16",
    "kimg": "0.02", "cubes_kimg": "0.008", "gan": "gan", "cubes": "nodules/gan", "learning": "--set contrast_weight=5",
    "detector": "--set backbone=small --set width=2 --set head_width=8 --set batch=4",
}  # fmt: skip
OF_DEMO = {**SMALL, "train-gan": ("base=64", "max_maps=4", "latent=4", "embedding=4", "batch=4")}


@pytest.mark.usefixtures("undrawn")
def test_the_whole_line_of_the_demo_ends_in_one_page(tmp_path, monkeypatch):
    monkeypatch.setattr("medaug_cli.embedding.layout.ITERATIONS", 250)
    (tmp_path / "data").mkdir()
    few_slices(tmp_path / "data")
    few_nodules(tmp_path / "cubes")
    monkeypatch.chdir(tmp_path)
    places = {"data": str(tmp_path / "data"), "nodules": str(tmp_path / "cubes")}
    assert len(run_lines("demo.sh", DEMO | places, OF_DEMO)) == 15
    runpy.run_path(str(EXAMPLES / "page.py"))["main"](Path())
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    for heading in ("Real and synthetic", "Boxes", "FROC", "Classes", "Masks", "Volumes"):
        assert re.search(f"<h[23]>{heading}", page), heading
    assert page.count('src="data:image/') == len(re.findall("<img", page)) == page.count("<figure>") >= 10
    assert re.search(r"is <strong>(better|worse|inconclusive)</strong>", page)
    assert not re.search(r"\bNone\b|\bnan\b|Undefined", page)
    assert (tmp_path / "real-and-synthetic.png").stat().st_size > 1000
