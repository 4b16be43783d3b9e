"""Images of classes with masks and normal ones, small generators that learn them, and commands in this process."""

from dataclasses import replace

import numpy as np
from conftest import make_records
from typer.testing import CliRunner

from medaug_cli.cli import app
from medaug_cli.store import StoreInfo, StoreWriter

CLASSES = ["benign", "malignant", "normal"]
SMALL = {
    "copy-paste": [],
    "duplicate": [],
    "procedural": [],
    "boxgan": ["latent=4", "base=32", "max_maps=4", "embedding=2", "batch=2"],
    "boxgan-mask": ["latent=4", "base=32", "max_maps=4", "embedding=2", "batch=2", "form=mask"],
    "inpaint": ["patch=16", "latent=4", "width=4", "max_maps=4", "batch=2"],
    "inpaint-mask": ["patch=16", "latent=4", "width=4", "max_maps=4", "batch=2", "form=mask"],
    "regions-mask": ["side=16", "latent=4", "base=32", "max_maps=4", "batch=2", "form=mask"],
    "cpggan": ["latent=4", "base=32", "max_maps=4", "batches=4:4", "condition=mask"],
    "pggan-class": ["latent=4", "base=32", "max_maps=4", "batches=4:4"],
}


def invoke(*arguments, code=0):
    """Run a command; return what it prints, or the sentence that it fails with."""
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == code or (code and result.exception), result.exception or result.output
    return result.stdout if not code else str(result.exception)


def classed(n=24, size=16):
    """Return images of six patients: lesions of two classes and, every fourth, a normal image."""
    for i, record in enumerate(make_records(n, size, masks=True)):
        normal = i % 4 == 3
        rng = np.random.default_rng(i)
        noise = rng.integers(20, 60, record.image.shape).astype(np.uint8)
        yield replace(
            record,
            image=noise if normal else record.image,
            boxes=record.boxes[: not normal],
            labels=record.labels[: not normal],
            mask=record.mask * (not normal),
            image_class="normal" if normal else CLASSES[(i // 6) % 2],
            spacing=(0.5, 0.5),
        )


def publish(path, records, label_names=("lesion",), **names):
    """Publish a store of records."""
    info = StoreInfo(tool_version="0", command="test", settings={}, seed=0, label_names=list(label_names), **names)
    writer = StoreWriter(path, info, {})
    for unit, record in enumerate(records):
        writer.add(unit, [record])
    return writer.publish()


def trained(store, name, out):
    """Fit a small generator for a few steps."""
    settings = [part for each in SMALL[name] for part in ("--set", each)]
    plugin = name.removesuffix("-mask")
    invoke("train-gan", store, "--generator", plugin, "--out", out, "--kimg", 0.008, "--device", "cpu", *settings)
    return out
