"""Find scans and read them: pictures as they are, volumes as axial slices.

Legend of shapes: c channels, *s spatial axes ((height, width) or (depth, height, width)).
"""

import gzip
import math
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medaug_cli.boxes import safe_id
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.scans.dicom import find_series, is_dicom, read_series

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
VOLUMES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
NIFTI_HEADER = 348  # bytes of the first version's header
SQUARE = 0.01  # difference of the two in-plane spacings up to which pixels count as square


@dataclass(frozen=True)
class Scan:
    """One file or DICOM series: a picture, or a volume of slices."""

    id: str
    path: Path
    relative: str  # path inside the folder of scans
    volume: bool
    files: tuple[Path, ...] = ()  # the slices of a DICOM series; none for a single file
    patient: str | None = None  # where the file itself tells patients apart

    @property
    def name(self) -> str:
        """Return what masks and annotations call it: its path inside the folder of scans, without a suffix."""
        return self.relative if self.files else self.relative[: len(self.relative) - len(suffix_of(self.path))]

    @property
    def all_files(self) -> tuple[Path, ...]:
        return self.files or (self.path,)

    @property
    def folder(self) -> str | None:
        """Return the first folder that the file lies in, None in a flat folder."""
        first, slash, _ = self.relative.partition("/")
        return first if slash else None


@dataclass(frozen=True)
class Pixels:
    """What a file holds."""

    image: np.ndarray  # (c, *s) float32, as stored
    spacing: tuple[float, ...] | None  # mm, in numpy axis order; None where the file does not say
    bits: int  # 8 or 16


def suffix_of(path: Path) -> str:
    """Return a file's suffix in small letters; `.nii.gz` is one."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


def stem_of(path: Path) -> str:
    """Return a file's name without its suffix."""
    return path.name[: len(path.name) - len(suffix_of(path))]


def find_scans(source: Path, say: Callable[[str], None] = lambda sentence: None) -> list[Scan]:
    """Return the pictures and volumes of a file or folder, sorted by path; raise BadInput if there is none.

    `say` hears which DICOM files are left out, and why.
    """
    if not source.exists():
        raise BadInput(f"{source} does not exist")
    root = source if source.is_dir() else source.parent
    files = sorted(_walk(source)) if source.is_dir() else [source]
    paths = [path for path in files if suffix_of(path) in PICTURES + VOLUMES]
    scans = _single_files(paths, root) + _dicom(files, root, say)
    if not scans:
        raise BadInput(f"{source} holds no scan; the choices are {', '.join(PICTURES + VOLUMES)} and DICOM series")
    scans.sort(key=lambda scan: scan.relative)
    _check_ids(source, scans)
    return scans


def _dicom(files: Sequence[Path], root: Path, say: Callable[[str], None]) -> list[Scan]:
    other = [path for path in files if suffix_of(path) not in PICTURES + VOLUMES and is_dicom(path)]
    return [
        Scan(safe_id(one.name), one.files[0], one.name, True, one.files, one.patient)
        for one in (find_series(other, root, say) if other else [])
    ]


def _single_files(paths: Sequence[Path], root: Path) -> list[Scan]:
    stems = [stem_of(path) for path in paths]
    clash = len(set(stems)) < len(stems)
    scans = []
    for path, stem in zip(paths, stems, strict=True):
        relative = path.relative_to(root).as_posix()
        name = relative[: len(relative) - len(suffix_of(path))] if clash else stem
        scans.append(Scan(safe_id(name), path, relative, suffix_of(path) in VOLUMES))
    return scans


def _walk(folder: Path) -> list[Path]:
    """Return the files below a folder, hidden ones and links to other folders left out."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place) / name for name in files if not name.startswith(".")]
    return found


def _check_ids(source: Path, scans: Sequence[Scan]) -> None:
    seen: dict[str, Scan] = {}
    for scan in scans:
        if scan.id in seen:
            raise BadInput(f"{source}: {seen[scan.id].relative} and {scan.relative} would both be called {scan.id}")
        seen[scan.id] = scan


def read_pixels(scan: Scan) -> Pixels:
    """Read a scan: a picture, a volume or a DICOM series. Raise BadInput if it cannot be."""
    return read_scan(scan.path) if not scan.files else _finite(scan.path, _upright(read_series(scan.files), False))


def read_scan(path: Path, labels: bool = False) -> Pixels:
    """Read a picture or a volume; with `labels` resampling keeps whole numbers. Raise BadInput if it cannot be."""
    return _finite(path, _read_volume(path, labels) if suffix_of(path) in VOLUMES else _read_picture(path))


def _finite(path: Path, pixels: Pixels) -> Pixels:
    odd = int(np.count_nonzero(~np.isfinite(pixels.image)))
    if odd:
        raise _not_finite(path, odd)
    return pixels


def picture_size(path: Path) -> tuple[int, int]:
    """Return the width and height of a picture without reading its pixels."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return picture.size
    except Exception as error:  # whatever Pillow's decoders raise
        raise _unreadable(path, error) from error


def _read_picture(path: Path) -> Pixels:
    from PIL import Image

    try:
        with Image.open(path) as file:
            picture: Image.Image = file
            deep = picture.mode in ("I", "I;16", "I;16B", "I;16L", "F")
            if not deep and picture.mode not in ("L", "RGB"):
                picture = picture.convert("L" if picture.mode in ("1", "LA", "La") else "RGB")
            pixels = np.asarray(picture, np.float32)
    except Exception as error:  # whatever Pillow's decoders raise
        raise _unreadable(path, error) from error
    image = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    if len(image) == 3 and (image[0] == image[1]).all() and (image[0] == image[2]).all():
        image = image[:1]
    return Pixels(np.ascontiguousarray(image), None, 16 if deep else 8)


def _read_volume(path: Path, labels: bool) -> Pixels:
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        if suffix_of(path) in (".nii", ".nii.gz"):
            _check_nifti(path)
        scan = sitk.ReadImage(str(path))
    except (RuntimeError, EOFError, OSError, zlib.error) as error:
        raise _unreadable(path, error) from error
    if scan.GetDimension() != 3 or scan.GetNumberOfComponentsPerPixel() != 1:
        size = "x".join(map(str, scan.GetSize()))
        raise BadInput(f"{path} is no volume of one channel (its size is {size}); give one file a volume")
    if min(scan.GetSize()) < 2:
        raise BadInput(f"{path} is a volume of {'x'.join(map(str, scan.GetSize()))} voxels; give single slices as PNG")
    return _upright(scan, labels)


def _upright(scan, labels: bool) -> Pixels:  # type: ignore[no-untyped-def]
    """Return a volume of SimpleITK as axial slices of square pixels, seen as a radiologist does."""
    import SimpleITK as sitk

    scan = _square(sitk.DICOMOrient(scan if labels else sitk.Cast(scan, sitk.sitkFloat32), "LPS"), labels)
    spacing = tuple(float(s) for s in scan.GetSpacing()[::-1])
    return Pixels(sitk.GetArrayFromImage(scan).astype(np.float32)[None], spacing, 16)


def _check_nifti(path: Path) -> None:
    """Raise EOFError or OSError for a NIfTI file that is shorter than its header says, BadInput for NaN in it.

    ITK fills up what is missing, and replaces NaN, with zeros. A compressed file is read to its end, where its
    checksum is.
    """
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else path.open("rb") as file:
        header = file.read(NIFTI_HEADER)
        order = {b"\x5c\x01\0\0": "<", b"\0\0\x01\x5c": ">"}.get(header[:4])
        if order is None or len(header) < NIFTI_HEADER or header[344:347] != b"n+1":
            return  # not NIfTI-1 in one file; ITK says what it is
        axes, *shape = struct.unpack_from(f"{order}8h", header, 40)
        coded, bits = struct.unpack_from(f"{order}2h", header, 70)
        start = int(struct.unpack_from(f"{order}f", header, 108)[0])
        kind = {(16, 32): "f4", (64, 64): "f8"}.get((coded, bits))
        wanted = math.prod(max(1, side) for side in shape[: min(max(axes, 0), 7)]) * bits // 8
        file.read(max(0, start - NIFTI_HEADER))
        found = odd = 0
        while chunk := file.read(1 << 20):
            if kind:
                whole = max(0, min(len(chunk), wanted - found)) // (bits // 8) * (bits // 8)
                values = np.frombuffer(chunk[:whole], order + kind)
                odd += int(np.count_nonzero(~np.isfinite(values)))
            found += len(chunk)
    if found < wanted:
        raise EOFError(f"it holds {found} bytes of voxels where its header says {wanted}")
    if odd:
        raise _not_finite(path, odd)


def _not_finite(path: Path, count: int) -> BadInput:
    """Return the error that names a file with NaN or infinity in it."""
    return BadInput(f"{path} holds {count} pixels that are NaN or infinite; give them a number first")


def _square(scan, labels: bool):  # type: ignore[no-untyped-def]
    """Return a volume whose in-plane pixels are square, resampled to the finer spacing if they were not."""
    import SimpleITK as sitk

    x, y, z = scan.GetSpacing()
    if abs(x - y) <= SQUARE * min(x, y):
        return scan
    finer = min(x, y)
    columns, rows, slices = scan.GetSize()
    size = [max(1, round(columns * x / finer)), max(1, round(rows * y / finer)), slices]
    how = sitk.sitkNearestNeighbor if labels else sitk.sitkLinear
    return sitk.Resample(
        scan, size, sitk.Transform(), how, scan.GetOrigin(), (finer, finer, z), scan.GetDirection(), 0.0
    )


def _unreadable(path: Path, error: Exception) -> BadInput:
    if not path.exists():
        return BadInput(f"{path} does not exist")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[-1][:160] if lines else type(error).__name__
    return BadInput(f"{path} cannot be read, it is truncated, damaged or something else ({reason})")


def check_volume_kind(scans: Sequence[Scan]) -> bool:
    """Return whether the scans are volumes; raise UsageError if some are and some are pictures."""
    kinds = {scan.volume for scan in scans}
    if len(kinds) > 1:
        first = next(scan for scan in scans if scan.volume != scans[0].volume)
        raise UsageError(f"{scans[0].relative} and {first.relative} are a picture and a volume; preprocess them apart")
    return kinds.pop()
