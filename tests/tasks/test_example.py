"""The commands of examples/tasks.sh, on a few of the slices that ship with the project and with tiny networks."""

import json
import re
import shlex
import shutil
from collections import Counter
from pathlib import Path
from string import Template

import pytest
from typer.testing import CliRunner

from medaug_cli.cli import app

EXAMPLES = Path(__file__).parents[2] / "examples"
TOY = {"size": "16", "kimg": "0.02", "n": "24", "steps": "2"}
SMALL = {
    "train-gan": ("base=64", "max_maps=8", "latent=8", "batch=4"),
    "train-classifier": ("width=4", "batch=4"),
    "train-segmenter": ("width=4", "levels=2", "batch=4"),
}
FAST = {"evaluate": ("--resamples", "100"), "tsne": ("--perplexity", "5", "--max", "24")}
WANTED = {"train": 8, "val": 2, "test": 3}  # slices of each class


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
    script = (EXAMPLES / "tasks.sh").read_text(encoding="utf-8")
    lines = re.findall(r"^medaug (.*)$", script, re.MULTILINE)
    assert len(lines) == 10
    for line in lines:
        command, *rest = shlex.split(Template(line).substitute(TOY, data=tmp_path / "data"))
        rest = [word for word in rest if word not in ("--resume", "--overwrite")]
        settings = [part for each in SMALL.get(command, ()) for part in ("--set", each)]
        result = CliRunner().invoke(app, [command, *rest, *settings, *FAST.get(command, ())])
        assert result.exit_code == 0, (line, result.exception, result.output)
    for name, task in (("classes", "classification"), ("masks", "segmentation")):
        metrics = json.loads((tmp_path / name / "metrics.json").read_text(encoding="utf-8"))
        assert (metrics["task"], metrics["images"]) == (task, 9)
        assert [row["name"].rpartition("-")[2] for row in metrics["rows"]] == ["real", "both"]
        assert (tmp_path / name / "table.md").read_text(encoding="utf-8").count("|") > 20
    assert len(json.loads((tmp_path / "tsne.json").read_text(encoding="utf-8"))["panels"]) == 4
