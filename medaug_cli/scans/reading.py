"""Read scans through the installed readers: pictures as they are, volumes as axial slices.

Legend of shapes: c channels, *s spatial axes ((height, width) or (depth, height, width)).
"""

import functools
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli import registry
from medaug_cli.errors import BadInput, BrokenContract, MissingPlugin, UsageError
from medaug_cli.plugin import Grid, MaskFile, StoredImage
from medaug_cli.scans.grids import carried, upright

MOST_CHANNELS = 4  # of a picture; more are rows, and channels stand last
POINTERS = {  # how files begin that stand for content elsewhere -> what fetches it
    b"/annex/objects/": "git annex get",
    b"version https://git-lfs.github.com/spec/": "git lfs pull",
}


@dataclass(frozen=True)
class Reading:
    """How files are read that are out of the ordinary."""

    nan: float | None = None  # what NaN and infinite values are read as; None: they are refused
    max_pixels: int | None = None  # of the largest picture that is read, instead of the reader's own limit
    spacing: tuple[float, ...] | None = None  # mm, or mm along each axis in numpy order, instead of what files say
    spacing_if_unsaid: bool = False  # only where a file says none, or 1 mm along each axis, as if it knew none


PLAIN = Reading()


@dataclass(frozen=True)
class Scan:
    """One file or DICOM series: a picture, or a volume of slices."""

    id: str
    path: Path
    relative: str  # path inside the folder of scans
    volume: bool
    files: tuple[Path, ...] = ()  # the slices of a DICOM series; none for a single file
    patient: str | None = None  # where the file itself tells patients apart
    reader: str = ""
    private: bool = False  # `relative` and `id` tell who the patient is
    shown: str = ""  # what outputs call the file
    identity: str = field(default="", repr=False)  # of the patient; nothing but a keyed hash of it is ever written
    brain_mask: Path | None = None  # that somebody else made
    item: str | None = None  # which image of a file that holds many
    split: str | None = None  # where the file itself says so
    image_class: str | None = None  # where the file itself says so
    reading: Reading = PLAIN

    @property
    def name(self) -> str:
        """Return what masks and annotations call it: its path inside the folder of scans, without a suffix."""
        return self.relative if self.files else self.relative[: len(self.relative) - len(suffix_of(self.path))]

    @property
    def all_files(self) -> tuple[Path, ...]:
        """Return the files that hold it: all of a series, or its only one."""
        return self.files or (self.path,)

    @property
    def bytes(self) -> int:
        """Return how many bytes its files have; none for a broken link."""
        return sum(path.stat().st_size for path in self.all_files if path.exists())

    @property
    def folder(self) -> str | None:
        """Return the first folder that the file lies in, None in a flat folder."""
        first, slash, _ = self.relative.partition("/")
        return first if slash else None


@dataclass(frozen=True)
class Pixels:
    """A picture (c, h, w), or a volume as axial slices of square pixels (c, z, y, x)."""

    image: np.ndarray  # float32
    grid: Grid | None = None  # of a volume, as it is here
    stored: Grid | None = None  # of a volume, as its file holds it
    stored_shape: tuple[int, ...] = ()  # (z, y, x)
    other_grid: Grid | None = None  # a second one that its file names, and that is valid too
    true_grid: Grid | None = None  # `grid` and `stored` by a given spacing, where files lie about it: they keep their
    true_stored: Grid | None = None  # places, so that masks and boxes fit them, but have other millimetres
    notes: tuple[str, ...] = ()  # in words, what a person should know of how it was read
    flat_spacing: tuple[float, float] | None = None  # of a picture, where its file says it

    @property
    def spacing(self) -> tuple[float, ...] | None:
        """Return the spacing in mm, in numpy axis order, as given or as the file says; None where nothing does."""
        grid = self.true_grid or self.grid
        return self.flat_spacing if grid is None else grid.spacing[::-1]


@functools.cache
def readers() -> dict[str, Any]:
    """Return the installed readers that load, by name; raise MissingPlugin if there is none."""
    found = {}
    for name in registry.names("reader"):
        try:
            found[name] = registry.build("reader", name, {})
        except MissingPlugin:
            continue
    if not found:
        raise MissingPlugin("no reader of scans is installed, not even medaug's own; reinstall medaug")
    return found


def broken_readers() -> list[str]:
    """Return why each installed reader that does not load does not."""
    reasons = []
    for name in registry.names("reader"):
        if name not in readers():
            try:
                registry.load("reader", name)
            except MissingPlugin as error:
                reasons.append(str(error))
    return reasons


@functools.cache
def suffixes(volumes: bool | None = None) -> tuple[str, ...]:
    """Return the suffixes of pictures, of volumes, or of both that the installed readers know."""
    chosen = [one for one in readers().values() if volumes in (None, is_volume_reader(one))]
    return tuple(dict.fromkeys(suffix for one in chosen for suffix in one.suffixes))


def is_volume_reader(reader: Any) -> bool:
    """Tell whether a reader gives volumes rather than pictures."""
    return 3 in reader.capabilities.dims


def is_flat(reader: Any, path: Path) -> bool:
    """Tell whether a file of a reader of volumes holds a picture."""
    return suffix_of(path) in reader.suffixes and hasattr(reader, "flat") and bool(reader.flat(path))


def is_volume_file(path: Path) -> bool | None:
    """Tell whether a file is a volume rather than a picture; None where its suffix may be of both, or of neither."""
    kinds = {3 in one.capabilities.dims for one in readers().values() if suffix_of(path) in one.suffixes}
    kinds |= {2 not in one.capabilities.dims for one in readers().values() if suffix_of(path) in one.suffixes}
    kind = kinds.pop() if len(kinds) == 1 else None
    return False if kind and any(is_flat(one, path) for one in readers().values()) else kind


def suffix_of(path: Path) -> str:
    """Return a file's suffix in small letters: the longest that a reader knows, as `.nii.gz`, else Python's."""
    name = path.name.lower()
    return max((suffix for suffix in suffixes() if name.endswith(suffix)), key=len, default=path.suffix.lower())


def stem_of(path: Path) -> str:
    """Return a file's name without its suffix."""
    return path.name[: len(path.name) - len(suffix_of(path))]


def reader_of(path: Path, chosen: str | None = None) -> str | None:
    """Return the name of the reader whose suffix a file has; raise UsageError where that is more than one."""
    own = [name for name, one in readers().items() if suffix_of(path) in one.suffixes and chosen in (None, name)]
    if len(own) > 1:
        raise UsageError(f"{path} can be read by {' and '.join(own)}; choose one with --reader")
    return own[0] if own else None


def claimed_by(path: Path, chosen: str | None = None) -> str | None:
    """Return the name of the reader of a file: by its suffix, else by its content; None where it is nobody's."""
    name = reader_of(path, chosen)
    if name is not None:
        return name
    known = ((name, one) for name, one in readers().items() if chosen in (None, name) and hasattr(one, "claims"))
    return next((name for name, one in known if one.claims(path)), None)


def read_pixels(scan: Scan) -> Pixels:
    """Read a scan. Raise BadInput if it cannot be."""
    return _read(scan.all_files, scan.reader, scan.reading, scan.item)


def read_scan(path: Path) -> Pixels:
    """Read a picture or a volume in one file."""
    return _read((path,), None, PLAIN, None)


def stored_scan(scan: Scan) -> StoredImage:
    """Read a scan as its files hold it. Raise BadInput if it cannot be."""
    return read_stored(scan.all_files, scan.reader, reading=scan.reading, item=scan.item)


def read_stored(
    files: tuple[Path, ...], name: str | None = None, labels: bool = False, reading: Reading = PLAIN,
    item: str | None = None,
) -> StoredImage:  # fmt: skip
    """Read the files of a scan as they hold it, by a reader's name, or see `claimed_by`; with `labels` those of a mask.

    `item` is which image is read of a file that holds many.

    A mask marks nothing where its values are NaN or infinite, if `reading` allows these at all.
    """
    reader = readers().get(name or claimed_by(files[0]) or "")
    if reader is None:
        raise BadInput(f"{files[0]}: unknown scan format; choose one of {', '.join(suffixes())}")
    if reading.max_pixels is not None and hasattr(reader, "max_pixels"):
        reader = replace(reader, max_pixels=reading.max_pixels)
    try:
        _check_there(files[0])
        read = getattr(reader, "read_labels", reader.read) if labels else reader.read
        with warnings.catch_warnings(action="ignore"):  # of libraries, about files that they read all the same
            found: StoredImage = read(files) if item is None else reader.read_item(files[0], item)
    except (BadInput, MissingPlugin):
        raise
    except Exception as error:  # a reader may be a stranger's
        raise _unreadable(files[0], error) from error
    _check_form(files[0], reader, found)
    return _finite(files[0], found, 0.0 if labels and reading.nan is not None else reading.nan)


def _check_form(path: Path, reader: Any, found: Any) -> None:
    """Raise BrokenContract where a reader gives no image of channels, rows and columns, with slices before the rows."""
    whose = f"the reader {type(reader).__name__} breaks its contract on {path}"
    image = getattr(found, "image", None)
    if not isinstance(found, StoredImage) or not isinstance(image, np.ndarray):
        raise BrokenContract(f"{whose}: read returns {type(found).__name__}; expected a StoredImage of a numpy array")
    if image.ndim not in (3, 4) or image.dtype.kind not in "buif":
        raise BrokenContract(f"{whose}: read returns {image.dtype} of shape {image.shape}; expected float32 (c, *s)")
    if image.ndim == 3 and len(image) > MOST_CHANNELS >= image.shape[-1]:
        raise BrokenContract(f"{whose}: read returns an image of shape {image.shape}; expected channels first")


def _finite(path: Path, found: StoredImage, nan: float | None) -> StoredImage:
    """Return an image whose values are all numbers, `nan` where they were none; raise BadInput where that is None."""
    finite = np.isfinite(found.image)
    odd = finite.size - int(np.count_nonzero(finite))
    if not odd:
        return found
    if nan is None:
        raise BadInput(
            f"{path} holds {odd} values that are NaN or infinite; read them as a number, such as 0, with --nan 0 of "
            f"`medaug preprocess`, or rewrite the file without them"
        )
    said = f"{odd} values that are NaN or infinite are read as {nan:g}"
    return replace(found, image=np.where(finite, found.image, np.float32(nan)), notes=(*found.notes, said))


def _read(files: tuple[Path, ...], name: str | None, reading: Reading, item: str | None) -> Pixels:
    found = read_stored(files, name, reading=reading, item=item)
    image = found.image
    spacing, notes = _spacing(files[0], found, reading)
    if image.ndim == 3:
        return Pixels(image, notes=notes, flat_spacing=spacing)
    if found.grid is None or image.ndim != 4:
        raise BadInput(f"{files[0]}: its reader gave {image.ndim - 1} axes and no grid")
    if min(image.shape[1:]) < 2:
        size = "x".join(map(str, image.shape[:0:-1]))
        raise BadInput(f"{files[0]} is a volume of {size} voxels; give single slices as PNG")
    true = replace(found.grid, spacing=spacing[::-1])
    turned = [upright(channel, true, labels=False) for channel in image]
    pixels = Pixels(
        np.stack([pixels for pixels, _ in turned]), grid=turned[0][1], stored=found.grid, stored_shape=image.shape[1:],
        other_grid=found.other_grid, notes=notes,
    )  # fmt: skip
    if true == found.grid:
        return pixels
    return replace(pixels, grid=carried(turned[0][1], true, found.grid), true_grid=turned[0][1], true_stored=true)


def _spacing(path: Path, found: StoredImage, reading: Reading) -> tuple[Any, tuple[str, ...]]:
    """Return mm in numpy axis order, as given, else as the file says, or None; and the notes, with one of a choice."""
    own = found.spacing if found.grid is None else found.grid.spacing[::-1]
    if reading.spacing is None:
        return own, found.notes
    axes = found.image.ndim - 1
    if len(reading.spacing) not in (1, axes):
        raise UsageError(f"--spacing {in_mm(reading.spacing, ',')}: {path} has {axes} axes")
    given = reading.spacing * axes if len(reading.spacing) == 1 else reading.spacing
    if not reading.spacing_if_unsaid or own is None or set(own) == {1.0} or np.allclose(own, given, rtol=1e-3):
        return given, found.notes
    said = f"its own spacing is taken, {in_mm(own)} mm, not {in_mm(given)} mm"
    return own, (*found.notes, said)


def in_mm(spacing: Sequence[float], between: str = " x ") -> str:
    """Write a spacing in numpy axis order as a person does, x first: 1 x 1 x 5."""
    return between.join(f"{step:g}" for step in spacing[::-1])


def mask_file(path: Path) -> MaskFile | None:
    """Return what a mask says of itself, None where it says nothing; raise BadInput where it is damaged."""
    reader = readers().get(claimed_by(path) or "")
    if reader is None or not hasattr(reader, "describe_mask") or not path.exists():
        return None
    found: MaskFile | None = reader.describe_mask(path)
    return found


def picture_size(path: Path) -> tuple[int, int]:
    """Return the width and height of a picture, without reading its pixels where Pillow knows the format."""
    from PIL import Image

    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as picture:
            return picture.size
    except Exception:  # whatever Pillow's decoders raise, of a picture that is very large too
        height, width = read_stored((path,)).image.shape[-2:]
        return width, height


def _unreadable(path: Path, error: Exception) -> BadInput:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[-1][:160] if lines else type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        return BadInput(f"{path} cannot be read ({error.strerror})")
    return BadInput(f"{path} cannot be read, it is truncated, damaged or something else ({reason})")


def _check_there(path: Path) -> None:
    """Raise BadInput where there is no content: a broken link, or a pointer to what was never fetched."""
    if path.is_symlink() and not path.exists():
        target = os.readlink(path)
        fetch = "; fetch it with `git annex get`" if "annex" in target else ""
        raise BadInput(f"{path} is a link to {target}, which is not there{fetch}")
    if not path.exists():
        raise BadInput(f"{path} does not exist")
    with path.open("rb") as file:
        begun = file.read(len(max(POINTERS, key=len)))
    tool = next((tool for start, tool in POINTERS.items() if begun.startswith(start)), None)
    if tool:
        raise BadInput(f"{path} is a placeholder for content that was never fetched; fetch it with `{tool}`")
