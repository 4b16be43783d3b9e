"""Many images in one file of NumPy's arrays, as MedMNIST and `medaug store export --format npz` lay them out.

SPLIT_images is (n, h, w), (n, h, w, 3) of colours, or (n, z, y, x) of volumes; SPLIT_labels (n, 1) counts classes from
0, and class_names names them. https://medmnist.com
"""

import functools
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from medaug_cli.plugin import BadInput, Capabilities, Grid, ScanFiles, StoredImage
from medaug_plugins.readers.volumes import damaged

SPLITS = ("train", "val", "test")
COLOURS = 3
KINDS = "biuf"  # of NumPy's numbers
HEADER = 1 << 16  # bytes that the header of an array has at most
Say = Callable[[str], None]


@dataclass
class Npz:
    """Images in files of NumPy's arrays, each with its split and class."""

    capabilities: ClassVar[Capabilities] = Capabilities(dims=(2, 3), channels=(1, COLOURS))
    suffixes: ClassVar[tuple[str, ...]] = (".npz",)

    def group(self, files: Sequence[Path], root: Path, say: Say) -> list[ScanFiles]:
        """Return every image of each file; a file without images is left out."""
        found = []
        for path in files:
            name = path.relative_to(root).as_posix()
            folder = "" if len(files) == 1 else f"{path.relative_to(root).with_suffix('').as_posix()}/"
            try:
                shapes = _shapes(path)
                if any(f"{split}_images" in shapes for split in SPLITS):
                    found += _items(path, shapes, folder, say)
                else:
                    found.append(ScanFiles(name, (path,), left_out="an archive without arrays such as train_images"))
            except BadInput as error:
                found.append(ScanFiles(name, (path,), left_out=str(error), damaged=True))
        return found

    def read(self, files: Sequence[Path]) -> StoredImage:
        """Raise BadInput: a file holds many images, of which `read_item` reads one."""
        _shapes(files[0])
        raise BadInput(f"{files[0]} holds many images in one file, and cannot be read as one; give it as SCANS")

    def read_item(self, path: Path, item: str) -> StoredImage:
        """Return the image of a split and number, such as "train 12"."""
        split, number = item.split()
        values = _array(path, f"{split}_images", path.stat().st_mtime_ns)[int(number)]
        if _channels(values.shape) == COLOURS:
            return StoredImage(np.ascontiguousarray(np.moveaxis(values, -1, 0), np.float32))
        image = np.asarray(values, np.float32)[None]
        if image.ndim == 3:
            return StoredImage(image)
        return StoredImage(image, Grid((1.0, 1.0, 1.0)), notes=("it does not say how wide its voxels are: 1 mm",))


def _items(path: Path, shapes: dict[str, tuple[int, ...]], folder: str, say: Say) -> list[ScanFiles]:
    names = [str(name) for name in _array(path, "class_names", 0)] if "class_names" in shapes else []
    found = []
    for split in SPLITS:
        shape = shapes.get(f"{split}_images", (0,))
        if not shape[0]:
            continue
        own = shape[1:]
        if len(own) not in (2, 3) or not min(own):
            raise BadInput(f"{path}: {split}_images has the shape {shape}; expected (n, h, w), (n, h, w, 3) or volumes")
        told = {
            key: _column(path, f"{split}_{key}", shapes, shape[0], say) for key in ("labels", "ids", "patients")
        }  # fmt: skip
        classes = None if told["labels"] is None else _classes(path, f"{split}_labels", told["labels"], names)
        digits = len(str(shape[0] - 1))
        for i in range(shape[0]):
            found.append(
                ScanFiles(
                    folder + (f"{split}-{i:0{digits}d}" if told["ids"] is None else str(told["ids"][i])),
                    (path,),
                    patient=None if told["patients"] is None else str(told["patients"][i]),
                    picture=len(own) == 2 or _channels(own) == COLOURS,
                    item=f"{split} {i}",
                    split=split,
                    image_class=None if classes is None else classes[i],
                )
            )
    return found


def _column(path: Path, name: str, shapes: dict[str, tuple[int, ...]], count: int, say: Say) -> np.ndarray | None:
    """Return an array with one value per image; None where there is none, or several per image, which is said."""
    shape = shapes.get(name)
    if shape is None:
        return None
    if shape[:1] != (count,):
        raise BadInput(f"{path}: {name} has the shape {shape}, but there are {count} images")
    if len(shape) > 2 or shape[1:] > (1,):
        say(f"{path}: {name} has several values per image, which are not read; name classes with --classes")
        return None
    return _array(path, name, 0).reshape(-1)


def _classes(path: Path, name: str, labels: np.ndarray, names: Sequence[str]) -> list[str]:
    """Return the class of each image: what its number stands for, or its own name."""
    if labels.dtype.kind == "U":
        return [str(label) for label in labels]
    if labels.dtype.kind not in KINDS or not np.isfinite(labels).all() or (labels % 1).any():
        raise BadInput(f"{path}: {name} holds {labels.dtype} values; expected whole numbers from 0, or names")
    return [names[k] if 0 <= k < len(names) else str(k) for k in map(int, labels)]


def _channels(shape: tuple[int, ...]) -> int:
    return COLOURS if len(shape) == 3 and shape[-1] == COLOURS else 1


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each array by its name; raise BadInput for a file that is damaged or holds other things."""
    shapes = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                with archive.open(member) as file:
                    shape, kind = _header(file)
                whole = int(np.prod(shape, dtype=object)) * kind.itemsize
                if kind.hasobject or not 0 <= member.file_size - whole <= HEADER:
                    raise ValueError(f"{member.filename} is not a plain array")
                shapes[member.filename.removesuffix(".npy")] = shape
    except (OSError, ValueError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile) as error:
        raise damaged(path, error) from error
    return shapes


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = read(file)
    return shape, kind


@functools.lru_cache(4)
def _array(path: Path, name: str, changed: int) -> np.ndarray:
    """Return an array, kept from one image to the next; `changed` is when the file was, so that a new one is read."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found: np.ndarray = arrays[name]
    except Exception as error:  # whatever NumPy and zlib raise of bytes that are not an array
        raise damaged(path, error) from error
    if name.endswith("_images") and found.dtype.kind not in KINDS:
        raise damaged(path, f"{name} holds {found.dtype}, which are not grey values")
    return found
