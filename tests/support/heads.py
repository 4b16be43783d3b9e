"""Drawn heads with and without a lesion, published as stores to be filtered."""

import numpy as np
from conftest import make_store

from medaug_cli.lesion_filter import FilterOptions, sift
from medaug_cli.store import GeneratorOrigin, Record, StoreInfo, StoreWriter, digest_patient

SIZE, COUNT = 32, 40


def heads(n, seed, lesion=True):
    """Yield records of textured discs; with a light, rough lesion in the box, or without one."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((SIZE, SIZE))
    for i in range(n):
        head = (y - 16) ** 2 + (x - 16) ** 2 < 190
        image = rng.integers(0, 8, (SIZE, SIZE)) + head * (60 + rng.integers(0, 25, (SIZE, SIZE)))
        x_min, y_min = rng.integers(5, 18, 2)
        w, h = rng.integers(5, 9, 2)
        if lesion:
            image[y_min : y_min + h, x_min : x_min + w] += rng.integers(50, 110, (h, w))
        box = np.array([[x_min, y_min, x_min + w, y_min + h]], np.float32)
        split = ("train", "train", "train", "val", "test")[i // 2 % 5]
        yield Record(f"i{i:03d}", image[None].astype(np.uint8), box, ["lesion"], f"p{i // 2}", split)


def synthetic(path, records, trained_on):
    origin = GeneratorOrigin(
        name="g", version="1", hash="h", training_store=trained_on.hash,
        training_patients=[digest_patient(trained_on.patients[i]) for i in trained_on.indices("train")],
    )  # fmt: skip
    info = StoreInfo(tool_version="0", command="test", settings={}, seed=0, label_names=["lesion"], generators=[origin])
    writer = StoreWriter(path, info, {})
    for i, record in enumerate(records):
        record.source, record.split, record.patient, record.seed, record.id = "g", "train", "synthetic", i, f"s{i:03d}"
        writer.add(i, [record])
    return writer.publish()


def filtered_folder(place):
    """Publish real heads, and synthetic ones: 40 with a lesion, 40 without, 40 with artefacts around a lesion."""
    real = make_store(place / "real.h5", heads(200, 0))
    artefacts = list(heads(COUNT, 3))
    for record in artefacts:
        record.image[:, ::4, :3] = 255  # stripes at the border
    records = [*heads(COUNT, 1), *heads(COUNT, 2, lesion=False), *artefacts]
    synthetic(place / "synthetic.h5", records, real)
    return place


def sifted(folder, name="kept.h5", **changed):
    return sift(FilterOptions(folder / "synthetic.h5", folder / name, overwrite=True, **changed))
