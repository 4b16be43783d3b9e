"""docs/store.md: its layout is that of a store, and its PyTorch Dataset reads one as medaug does."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from conftest import make_store

PAGE = (Path(__file__).parents[2] / "docs/store.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    return make_store(folder / "real.h5", labels=("lesion", "cyst"), masks=True)


def test_every_dataset_of_a_store_stands_in_the_table(store):
    rows = set(
        re.findall(r"`(\w+)`", " ".join(line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")))
    )
    with h5py.File(store.path) as file:
        assert set(file) <= rows
        for name in ("medaug", "info", "hash"):
            assert name in file.attrs
            assert f"`{name}`" in PAGE


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_the_dataset_reads_what_the_store_holds(store, split):
    shown = {}
    exec(BLOCKS[0], shown)
    data = shown["StoreDataset"](store.path, split)
    chosen = store.indices(split)
    assert len(data) == len(chosen)
    loader = torch.utils.data.DataLoader(data, batch_size=3, collate_fn=list)
    images = [image for batch in loader for image, _ in batch]
    np.testing.assert_allclose(np.stack(images), store.read(chosen), atol=1e-6)
    for k, i in enumerate(chosen):
        np.testing.assert_array_equal(data[k][1]["boxes"], store.boxes[i])
        np.testing.assert_array_equal(data[k][1]["labels"], store.labels[i] + 1)


def test_the_lines_of_medaug_itself_run(store, monkeypatch):
    monkeypatch.chdir(store.path.parent)
    shown = {}
    exec(BLOCKS[1], shown)
    assert shown["images"].shape == (8, 1, 16, 16)
    assert len(shown["boxes"]) == len(store.indices("train"))
