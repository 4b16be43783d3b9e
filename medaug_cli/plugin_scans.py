"""What a reader of scans takes and gives; plugins import it from medaug_cli.plugin."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np


@contextmanager
def text_path(path: Path) -> Iterator[str]:
    """Yield a path as text for a library that takes no other, as ITK does, which ends the process at a name of bytes.

    That is `path` itself, or a link to it where it is not text.
    """
    whole = str(path)
    if not any("\udc80" <= letter <= "\udcff" for letter in whole):
        yield whole
        return
    with tempfile.TemporaryDirectory() as folder:
        ending = "".join(each for each in path.suffixes if each.isascii())
        link = Path(folder) / f"scan{ending}"
        link.symlink_to(path.absolute())
        yield str(link)


@dataclass(frozen=True)
class ScanFiles:
    """The files of one scan, as a reader groups them; `left_out` says why they are not to be used."""

    name: str  # path inside the folder of scans, without a suffix
    files: tuple[Path, ...]
    patient: str | None = None  # where the files tell patients apart; never what identifies one
    left_out: str = ""  # such as "a localiser"
    damaged: bool = False  # with `left_out`: what should have been read cannot be
    private: bool = False  # the name tells who the patient is and may not reach an output
    identity: str = field(default="", repr=False)  # of the patient; nothing but a keyed hash of it is ever written
    picture: bool = False  # one file that is a picture, though its reader gives volumes too
    item: str | None = None  # which image of a file that holds many, as `read_item` takes it
    split: str | None = None  # where the file itself says so: train, val or test
    image_class: str | None = None  # where the file itself says so


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a volume lie: millimetres along DICOM's axes (to the left, back and head), x first."""

    spacing: tuple[float, float, float]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)  # centre of the first voxel
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)  # row by row, a column an axis


@dataclass(frozen=True)
class StoredImage:
    """What the files of a scan hold, as they hold it: a picture (c, h, w), or a volume (c, z, y, x) and its grid."""

    image: np.ndarray  # (c, *s) float32
    grid: Grid | None = None  # of a volume
    other_grid: Grid | None = None  # a second one that the file names, and that is valid too
    notes: tuple[str, ...] = ()  # in words, what a person should know of how the file was read
    spacing: tuple[float, float] | None = None  # of a picture, where the file says it: mm between rows, and columns


@dataclass(frozen=True)
class MaskFile:
    """What a file that is a mask says of itself."""

    names: Mapping[int, str]  # value -> what it stands for
    is_of: Callable[[Sequence[Path]], bool]  # whether it is of the scan of some files


@runtime_checkable
class Reader(Protocol):
    """A dataclass that reads one format of scans; nothing is inherited.

    `capabilities.dims` is (2,) for pictures, (3,) for volumes, and (2, 3) where `group` says which is which. Six
    methods are optional: `claims(path) -> bool` knows by its content a file that no suffix gives away,
    `flat(path) -> bool` a picture among volumes, `group(files, root, say) -> list[ScanFiles]` puts together the files
    of each scan where that is not one file, and `read_labels(files) -> StoredImage` reads a mask, where its values are
    not those of the picture, as with a palette; of a file
    that holds many images, each of which `group` calls an item, `read_item(path, item) -> StoredImage` reads one.
    `describe_mask(path) -> MaskFile | None` tells which values of a mask are what, and which scan it is of.
    A setting `max_pixels`, where there is one, is what --max-pixels says.
    """

    capabilities: ClassVar[Any]  # a Capabilities
    suffixes: ClassVar[tuple[str, ...]]  # in small letters, with the dot

    def read(self, files: Sequence[Path]) -> StoredImage:
        """Return what the files hold; raise BadInput where they are truncated, damaged or not understood in full."""
        ...
