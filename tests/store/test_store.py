"""The store: what goes in comes out, what is damaged or dishonest is refused."""

import os
import shutil
from contextlib import contextmanager

import h5py
import numpy as np
import pytest
from conftest import make_records, make_store
from hypothesis import given
from hypothesis import strategies as st
from thoroughness import examples

from medaug_cli.errors import BadInput, UsageError
from medaug_cli.store import (
    GeneratorOrigin,
    Record,
    StoreInfo,
    StoreWriter,
    already_made,
    detector_examples,
    digest_patient,
    generator_examples,
    open_store,
)
from medaug_cli.store.seal import seal
from medaug_cli.store.writing import parts_folder

INFO = StoreInfo(tool_version="0", command="test", settings={}, seed=0, label_names=["lesion"])


def synthetic_info(patients=(), labels=("lesion",)):
    origin = GeneratorOrigin(
        name="g", version="1", hash="h", training_store="t", training_patients=[digest_patient(p) for p in patients]
    )
    return INFO.model_copy(update={"generators": [origin], "label_names": list(labels)})


def synthetic_store(path, info, split="train", size=16):
    writer = StoreWriter(path, info, {})
    for i, record in enumerate(make_records(6, size)):
        record.source, record.split, record.patient, record.seed = "g", split, "synthetic-g", i
        writer.add(i, [record])
    writer.publish()
    return path


def test_what_goes_in_comes_out(tmp_path):
    records = list(make_records(masks=True))
    store = make_store(tmp_path / "a.h5", records)
    store.verify()
    assert store.ids == [r.id for r in records]
    assert (np.stack([r.image for r in records]) == store.images).all()
    assert (np.stack([r.mask for r in records]) == store.masks).all()
    assert all((store.boxes[i] == r.boxes).all() for i, r in enumerate(records))
    assert store.read([3])[0].max() == pytest.approx(records[3].image.max() / 255)


@examples(25, deadline=None)
@given(order=st.permutations(range(6)), counts=st.lists(st.integers(0, 3), min_size=6, max_size=6), data=st.data())
def test_units_in_any_order_with_kills_give_one_store(tmp_path_factory, order, counts, data):
    folder = tmp_path_factory.mktemp("s")
    rng = np.random.default_rng(1)
    images = rng.integers(0, 255, (sum(counts) + 1, 1, 4, 4)).astype(np.uint8)
    starts = np.cumsum([0, *counts])

    def unit(u):
        one = np.array([[0, 0, 2, 2]], np.float32)
        return [Record(f"{u}-{k}", images[starts[u] + k], one[: k % 2], ["lesion"] * (k % 2), f"p{u}", "train")
                for k in range(counts[u])]  # fmt: skip

    last = [Record("last", images[-1], np.zeros((0, 4)), [], "q", "test")]
    whole = StoreWriter(folder / "whole.h5", INFO, {})
    for u in range(6):
        whole.add(u, unit(u), {"u": u})
    whole.add(6, last)
    killed = StoreWriter(folder / "killed.h5", INFO, {})
    for u in order:
        if killed.has(u):
            continue
        killed.add(u, unit(u), {"u": u})
        if data.draw(st.booleans()):
            killed.flush()
        elif data.draw(st.booleans()):
            killed = StoreWriter(folder / "killed.h5", INFO, {}, resume=True)
    for u in range(6):
        if not killed.has(u):
            killed.add(u, unit(u), {"u": u})
    killed.add(6, last)
    assert killed.notes() == whole.notes()
    assert killed.publish().hash == whole.publish().hash
    assert (folder / "killed.h5").read_bytes() == (folder / "whole.h5").read_bytes()
    assert not (folder / "killed.h5.parts").exists()


def test_a_result_is_not_overwritten_and_leftovers_are_named(tmp_path):
    make_store(tmp_path / "a.h5")
    with pytest.raises(UsageError, match="--overwrite"):
        StoreWriter(tmp_path / "a.h5", INFO, {})
    StoreWriter(tmp_path / "b.h5", INFO, {"size": 1})
    with pytest.raises(UsageError, match="--resume"):
        StoreWriter(tmp_path / "b.h5", INFO, {"size": 1})
    with pytest.raises(UsageError, match="size"):
        StoreWriter(tmp_path / "b.h5", INFO, {"size": 2}, resume=True)


def test_what_a_kill_while_clearing_away_left_is_removed(tmp_path, monkeypatch):
    def killed(folder, ignore_errors):
        raise KeyboardInterrupt

    path = tmp_path / "a.h5"
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", killed)
        patch.setattr("os.getpid", lambda: 2**30)  # no process of this machine
        with pytest.raises(KeyboardInterrupt):
            make_store(path, make_records(3))
    assert path.exists()
    assert not parts_folder(path).exists()
    assert len(list(tmp_path.iterdir())) == 2
    already_made(path, open_store(path).info, resume=True, overwrite=False)
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_kill_right_after_publishing_left_is_removed(tmp_path):
    store = make_store(tmp_path / "a.h5")
    StoreWriter(tmp_path / "a.h5", store.info, {"test": 1}, overwrite=True)
    assert parts_folder(tmp_path / "a.h5").exists()
    assert already_made(tmp_path / "a.h5", store.info, resume=True, overwrite=False).hash == store.hash
    assert not parts_folder(tmp_path / "a.h5").exists()
    other = store.info.model_copy(update={"seed": 7})
    StoreWriter(tmp_path / "a.h5", other, {"test": 1}, overwrite=True)
    already_made(tmp_path / "a.h5", store.info, resume=True, overwrite=False)
    assert parts_folder(tmp_path / "a.h5").exists()  # begun on something else


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"patient": "p5", "split": "train"}, "splits"),
        ({"id": "i000"}, "twice"),
        ({"split": "dev"}, "choices"),
        ({"source": "g", "split": "test"}, "synthetic"),
        ({"boxes": np.array([[0, 0, 99, 4]], np.float32)}, "outside"),
        ({"boxes": np.array([[0, 0, np.nan, 4]], np.float32)}, "outside"),
        ({"boxes": np.array([[4, 4, 4, 8]], np.float32)}, "empty"),
        ({"labels": ["other"]}, "other"),
        ({"image": np.zeros((1, 8, 8), np.uint8)}, "alike"),
    ],
)
def test_rules_that_no_store_may_break(tmp_path, change, word):
    records = list(make_records())
    for name, value in change.items():
        setattr(records[2], name, value)
    writer = StoreWriter(tmp_path / "a.h5", INFO, {})

    def store_them():
        writer.add(0, records)
        writer.publish()

    with pytest.raises(BadInput, match=word):
        store_them()
    assert not (tmp_path / "a.h5").exists()


@pytest.mark.parametrize("at", [0, 7, 100, 0.3, 0.7, 0.999])
def test_a_truncated_store_is_refused(real, at):
    whole = real.read_bytes()
    real.write_bytes(whole[: int(at if at >= 1 or at == 0 else at * len(whole))])
    with pytest.raises(BadInput, match=r"real\.h5"):
        open_store(real).verify()


@examples(60, deadline=None)
@given(place=st.floats(0, 1), value=st.integers(1, 255))
def test_a_flipped_byte_never_gives_another_image(tmp_path_factory, place, value):
    path = tmp_path_factory.getbasetemp() / "flip.h5"
    if not path.exists():
        make_store(path)
    whole = bytearray(path.read_bytes())
    before = open_store(path)
    copy = path.with_name("flipped.h5")
    whole[min(len(whole) - 1, int(place * len(whole)))] ^= value
    copy.write_bytes(whole)
    try:
        store = open_store(copy)
        store.verify()
    except BadInput:
        return
    assert (store.images == before.images).all()
    assert (store.columns.boxes == before.columns.boxes).all()
    assert store.ids == before.ids


@pytest.mark.parametrize("place", range(512, 1536, 64))
def test_no_damaged_byte_of_the_tables_reaches_the_hdf5_library(real, monkeypatch, place):
    whole = bytearray(real.read_bytes())
    whole[place] ^= 1
    real.write_bytes(whole)
    monkeypatch.setattr(h5py, "File", None)
    with pytest.raises(BadInput, match="damaged"):
        open_store(real)


def test_links_external_and_oversized_data_are_refused(real, tmp_path):
    def doctored(name, change):
        path = tmp_path / name
        shutil.copy(real, path)
        with h5py.File(path, "r+") as file:
            change(file)
        with pytest.raises(BadInput, match="damaged"):
            open_store(path)
        seal(path, [])
        return path

    def external_link(file):
        del file["images"]
        file["images"] = h5py.ExternalLink(str(real), "images")

    def external_data(file):
        shape = file["images"].shape
        del file["images"]
        secret = tmp_path / "secret"
        secret.write_bytes(b"x" * 100000)
        file.create_dataset("images", shape, "uint8", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])

    def oversized(file):
        del file["images"]
        file.create_dataset("images", (24, 1, 100000, 100000), "uint8")

    def chunked(file):
        data = file["images"][()]
        del file["images"]
        file.create_dataset("images", data=data, chunks=(1, *data.shape[1:]), compression="gzip")

    def newer(file):
        file.attrs["medaug"] = 9

    for change, word in (
        (external_link, "link"), (external_data, "external"), (oversized, "claims"), (chunked, "chunked"),
        (newer, "version 9"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=word):
            open_store(doctored(f"{change.__name__}.h5", change))


def test_a_generator_is_fitted_on_real_training_images_alone(tmp_path, real):
    store = open_store(real)
    data = generator_examples(store)
    assert set(data.patients) == {"p0", "p1", "p2", "p3"}
    assert len(data) == len(store.indices("train"))
    with pytest.raises(BadInput, match="real images only"):
        generator_examples(open_store(synthetic_store(tmp_path / "s.h5", synthetic_info())))
    empty = list(make_records())
    for record in empty:
        record.boxes, record.labels = np.zeros((0, 4), np.float32), []
    with pytest.raises(BadInput, match="no box"):
        generator_examples(make_store(tmp_path / "e.h5", empty))


def test_synthetic_images_are_mixed_only_where_that_is_honest(tmp_path, real):
    store = open_store(real)
    good = open_store(synthetic_store(tmp_path / "good.h5", synthetic_info(["p0", "p1"])))
    data = detector_examples(store, [good], ratio=0.5)
    assert data.weights.sum() == pytest.approx(1)
    assert data.weights[16:].sum() == pytest.approx(1 / 3)
    assert (data.read([0, 17])[1] == good.read([1])[0]).all()
    leaky = open_store(synthetic_store(tmp_path / "leaky.h5", synthetic_info(["p0", "p5"])))
    with pytest.raises(BadInput, match="holds out"):
        detector_examples(store, [leaky])
    with pytest.raises(BadInput, match="so it cannot be used"):
        detector_examples(store, [open_store(synthetic_store(tmp_path / "unknown.h5", INFO))])
    with pytest.raises(BadInput, match="pixels"):
        detector_examples(store, [open_store(synthetic_store(tmp_path / "large.h5", synthetic_info(), size=32))])
    with pytest.raises(BadInput, match="real images"):
        detector_examples(store, [store])


@contextmanager
def pipe(path, content):
    """Make a pipe that holds so much already that whoever reads it does not wait."""
    os.mkfifo(path)
    handle = os.open(path, os.O_RDWR)
    try:
        os.write(handle, content)
        yield path
    finally:
        os.close(handle)


def test_a_pipe_is_not_waited_for(tmp_path):
    with (
        pipe(tmp_path / "real.h5", b"x" * 60_000) as path,
        pytest.raises(BadInput, match=r"real\.h5 is a pipe or device"),
    ):
        open_store(path)
