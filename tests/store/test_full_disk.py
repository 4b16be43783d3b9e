"""A store for which there is no room at any moment is an error of the system: HDF5 neither crashes nor loses it."""

import errno
import os
import resource
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import make_records, make_store

from medaug_cli.files import new_file, new_files, temporary_folder
from medaug_cli.outlet import LARGEST_KEPT, Outlet
from medaug_cli.store import open_store


def in_a_fork(work):
    """Run a function in a fork, which HDF5 may crash; fail unless it returns."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def limited(limit):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_a_disk_that_is_full_at_any_byte_is_an_error_that_names_the_file(tmp_path):
    make_store(tmp_path / "whole.h5", make_records(12))
    records = list(make_records(12, labels=("lesion", "x" * 300)))  # text beyond what one heap takes
    size = (tmp_path / "whole.h5").stat().st_size

    def work():
        for limit in range(600, size - 1, size // 60):
            limited(limit)
            with pytest.raises(OSError, match="too large") as error:
                make_store(tmp_path / "real.h5", records, labels=("lesion", "x" * 300))
            assert "real.h5" in error.value.filename

    in_a_fork(work)
    assert not (tmp_path / "real.h5").exists()
    make_store(tmp_path / "real.h5", records, labels=("lesion", "x" * 300))
    open_store(tmp_path / "real.h5").verify()


def test_what_cannot_be_written_is_read_again_as_it_was(tmp_path):
    rng = np.random.default_rng(0)
    pieces = [(int(rng.integers(0, 20_000)), rng.bytes(int(rng.integers(0, 9_000)))) for _ in range(40)]
    like = bytearray()

    def work():
        limited(7_000)
        outlet = Outlet(tmp_path / "file")
        for start, content in pieces:
            outlet.seek(start)
            assert outlet.write(content) == len(content)
            like.extend(bytes(max(0, start + len(content) - len(like))))
            like[start : start + len(content)] = content
            assert outlet.seek(0, os.SEEK_END) == len(like)
        outlet.seek(0)
        read = bytearray(len(like) + 100)
        assert outlet.readinto(read) == len(like)
        assert read[: len(like)] == like
        outlet.write(bytes(LARGEST_KEPT + 1))  # pixels are not kept
        assert sum(map(len, outlet._pages.values())) < 40_000
        with pytest.raises(OSError, match="too large"):
            outlet.check()

    in_a_fork(work)


def test_hdf5_ends_well_where_nothing_can_be_written(tmp_path):
    def write():
        with Outlet(tmp_path / "a.h5") as outlet, h5py.File(outlet, "w") as file:
            for i in range(30):
                text = np.array([f"{i} {k}" * 40 for k in range(40)], object)
                file.create_dataset(f"text{i}", data=text, dtype=h5py.string_dtype())
            assert file["text3"][7] == b"3 7" * 40

    def work():
        limited(0)
        with pytest.raises(OSError, match="too large"):
            write()

    in_a_fork(work)


def test_an_error_names_the_file_beside_a_store_that_it_was_about(tmp_path):
    place = tmp_path / "real.h5"
    for raised, named in (("preprocess.json", "preprocess.json"), ("real.h5", "real.h5"), ("", "real.h5")):
        with pytest.raises(OSError, match="full") as error, new_files(place) as work:
            raise OSError(errno.ENOSPC, "full", str(work / raised))
        assert error.value.filename == str(tmp_path / named)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("making", [new_file, temporary_folder])
def test_an_error_names_the_result_and_not_its_temporary_file(making, tmp_path):
    place = tmp_path / "made"
    for raised, named in (
        (lambda work: OSError(errno.ENOSPC, "full"), place),
        (lambda work: OSError(errno.ENOSPC, "full", str(work)), place),
        (lambda work: OSError(errno.ENOSPC, "full", str(work / "a.png")), place / "a.png"),
        (lambda work: OSError(errno.EIO, "error", "/other"), "/other"),
        (lambda work: OSError(errno.EIO, "error", 7), 7),
        (lambda work: OSError("of no number"), None),
    ):
        with pytest.raises(OSError, match=r"\w") as error, making(place) as work:
            raise raised(work)
        assert error.value.filename == (str(named) if isinstance(named, Path) else named)
    assert list(tmp_path.iterdir()) == []
