"""Many images in one file of arrays, as MedMNIST has them: what is read of it, and what is refused."""

import zipfile
from dataclasses import replace

import numpy as np
import pytest
from support.tiny_scans import PLAIN

from medaug_cli.errors import BadInput, UsageError
from medaug_cli.preprocess.pipeline import PreprocessOptions, preprocess
from medaug_cli.scans.reading import read_pixels, stored_scan
from medaug_cli.scans.survey import find_scans
from medaug_cli.testing.readers import check_reader

AS_IT_IS = replace(PLAIN, window=(0.0, 255.0))


def arrays(form=(16, 16), counts=(6, 2, 3), **more):
    """Return arrays as MedMNIST's, of two classes."""
    rng, found = np.random.default_rng(0), {}
    for split, count in zip(("train", "val", "test"), counts, strict=True):
        found[f"{split}_images"] = rng.integers(0, 256, (count, *form), dtype=np.uint8)
        found[f"{split}_labels"] = (np.arange(count) % 2).astype(np.uint8)[:, None]
    return {name: each for name, each in (found | more).items() if each is not None}


def written(path, found):
    np.savez_compressed(path, **found)
    return path


def made(folder, recipe=AS_IT_IS, name="medmnist.npz", **given):
    said = []
    options = PreprocessOptions(
        folder / name, folder / "out/real.h5", recipe=recipe, workers=1, announce=said.append, **given
    )
    return preprocess(options), said


def test_images_classes_and_splits_are_the_files_own(tmp_path):
    found = arrays()
    written(tmp_path / "medmnist.npz", found)
    store, _ = made(tmp_path)
    assert sorted(store.ids) == sorted(
        f"{split}-{i}" for split, n in (("train", 6), ("val", 2), ("test", 3)) for i in range(n)
    )
    for k, name in enumerate(store.ids):
        split, _, number = name.partition("-")
        np.testing.assert_array_equal(store.images[k][0], found[f"{split}_images"][int(number)])
        assert store.splits[k] == split
        assert store.class_names[store.classes[k]] == str(found[f"{split}_labels"][int(number), 0])


def test_names_of_classes_are_taken(tmp_path):
    written(tmp_path / "medmnist.npz", arrays(class_names=np.array(["normal", "pneumonia"])))
    store, said = made(tmp_path)
    assert list(store.class_names) == ["normal", "pneumonia"]
    assert "classes: 6 normal, 5 pneumonia" in said


def test_colours_and_volumes_keep_their_axes(tmp_path):
    written(tmp_path / "c.npz", arrays((8, 9, 3), counts=(2, 0, 0)))
    written(tmp_path / "v.npz", arrays((7, 8, 9), counts=(2, 0, 0)))
    colours, volumes = find_scans(tmp_path / "c.npz"), find_scans(tmp_path / "v.npz")
    assert not any(scan.volume for scan in colours)
    assert all(scan.volume for scan in volumes)
    assert read_pixels(colours[1]).image.shape == (3, 8, 9)
    assert stored_scan(volumes[1]).image.shape == (1, 7, 8, 9)
    assert "1 mm" in stored_scan(volumes[1]).notes[0]


def test_several_files_have_names_of_their_own(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "both").mkdir(exist_ok=True)
        written(tmp_path / f"both/{name}.npz", arrays(counts=(1, 1, 0)))
    names = [scan.relative for scan in find_scans(tmp_path / "both")]
    assert names == ["a/train-0", "a/val-0", "b/train-0", "b/val-0"]


def test_several_labels_an_image_are_said_not_to_be_read(tmp_path):
    labels = {f"{split}_labels": np.zeros((n, 14), np.uint8) for split, n in (("train", 6), ("val", 2), ("test", 3))}
    written(tmp_path / "medmnist.npz", arrays(**labels))
    with pytest.raises(UsageError, match="give the annotations with"):
        made(tmp_path)
    store, said = made(tmp_path, unannotated=True)
    assert len(store) == 11
    assert sum("has several values per image, which are not read" in line for line in said) == 3


def with_member(path, name, content):
    written(path, arrays())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, content)
    return path


def changed(content, place):
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def header(shape, kind="|u1"):
    """Return the header of an array that is longer than what follows."""
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + (len(text) + 1).to_bytes(2, "little") + text + b"\n"


BROKEN = {
    "empty": (lambda path: path.write_bytes(b""), "truncated, damaged"),
    "no archive": (lambda path: path.write_bytes(b"PK\x03\x04 and nothing"), "truncated, damaged"),
    "cut off": (lambda path: path.write_bytes(written(path, arrays()).read_bytes()[:-200]), "truncated, damaged"),
    "a byte changed": (
        lambda path: path.write_bytes(changed(written(path, arrays()).read_bytes(), 400)), "truncated, damaged"
    ),
    "objects": (lambda path: np.savez(path, train_images=np.array([{}, 1], object)), "is not a plain array"),
    "an array larger than its bytes": (
        lambda path: with_member(path, "extra.npy", header((1 << 40,)) + b"\0" * 64), "is not a plain array"
    ),
    "a file that is no array": (lambda path: with_member(path, "readme.txt", b"hello"), "truncated, damaged"),
    "texts for images": (
        lambda path: written(path, arrays(train_images=np.full((6, 4, 4), "x"))), "which are not grey values"
    ),
    "flat images": (lambda path: written(path, arrays(train_images=np.zeros((6, 16), np.uint8))), "has the shape"),
    "images of no pixels": (
        lambda path: written(path, arrays(train_images=np.zeros((6, 0, 4), np.uint8))), "has the shape"
    ),
    "fewer labels than images": (
        lambda path: written(path, arrays(train_labels=np.zeros((5, 1), np.uint8))), "but there are 6 images"
    ),
    "fewer names than images": (lambda path: written(path, arrays(val_ids=np.array(["a"]))), "but there are 2 images"),
    "values that are not finite": (
        lambda path: written(path, arrays(train_images=np.full((6, 4, 4), np.nan, np.float32))), "NaN or infinite"
    ),
    "other arrays alone": (lambda path: np.savez(path, x=np.zeros(3)), "an archive without arrays such as train_im"),
}  # fmt: skip


@pytest.mark.parametrize("way", BROKEN)
def test_what_is_broken_is_refused_in_a_sentence(tmp_path, way):
    write, said = BROKEN[way]
    write(tmp_path / "medmnist.npz")
    with pytest.raises(BadInput, match=said):
        made(tmp_path)
    assert not (tmp_path / "out/real.h5").exists()


def test_as_a_mask_it_is_refused(tmp_path):
    from PIL import Image

    (tmp_path / "scans").mkdir()
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.full((16, 16), 9, np.uint8)).save(tmp_path / "scans/a.png")
    written(tmp_path / "masks/a.npz", arrays())
    with pytest.raises(BadInput, match="holds many images in one file"):
        made(tmp_path, name="scans", masks=tmp_path / "masks")


def test_arrays_of_features_beside_pictures_are_left_out_and_said(tmp_path):
    from PIL import Image

    (tmp_path / "scans").mkdir()
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(tmp_path / "scans/a.png")
    np.savez(tmp_path / "scans/features.npz", x=np.zeros(3))
    store, said = made(tmp_path, name="scans", unannotated=True)
    assert list(store.ids) == ["a"]
    assert any("an archive without arrays" in line for line in said)


def test_the_reader_keeps_its_contract():
    results = check_reader("npz")
    assert [one.name for one in results if not one.ok] == []


def test_classes_may_be_named_in_place_of_numbers(tmp_path):
    found = arrays()
    named = {name: np.array(["cyst", "mass"])[each[:, 0]] for name, each in found.items() if name.endswith("_labels")}
    written(tmp_path / "medmnist.npz", found | named)
    assert sorted(made(tmp_path)[0].class_names) == ["cyst", "mass"]


@pytest.mark.parametrize("value", [np.nan, 0.5, np.inf])
def test_classes_that_are_no_whole_numbers_are_refused(tmp_path, value):
    labels = np.zeros((6, 1))
    labels[2] = value
    written(tmp_path / "medmnist.npz", arrays(train_labels=labels))
    with pytest.raises(BadInput, match=r"medmnist\.npz: train_labels holds float64 values; expected whole numbers"):
        made(tmp_path)
