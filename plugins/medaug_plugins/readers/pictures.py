"""PNG, JPEG, TIFF and BMP, 8 and 16 bit, grey and colour, one picture a file."""

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from medaug_cli.plugin import BadInput, Capabilities, StoredImage
from medaug_plugins.readers.label_pictures import label_pixels
from medaug_plugins.readers.volumes import damaged

PNG = b"\x89PNG\r\n\x1a\n"
TURNED = 274  # the tag of EXIF and TIFF that tells how a picture is to be turned for looking at
GREY16 = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
STRIPS, STRIP_BYTES = (273, 324), (279, 325)  # tags of TIFF: where strips or tiles lie, and how long they are
BITS, SAMPLES, KIND, COMPRESSION = 258, 277, 262, 259
DEFLATE = (8, 32946)


@dataclass
class Pictures:
    """Pictures of a slice each."""

    capabilities: ClassVar[Capabilities] = Capabilities(dims=(2,), channels=(1, 3))
    suffixes: ClassVar[tuple[str, ...]] = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")

    def read(self, files: Sequence[Path]) -> StoredImage:
        """Return the picture, of one channel where all are equal; raise BadInput where the file is not whole."""
        return _stored(files[0], _pixels)

    def read_labels(self, files: Sequence[Path]) -> StoredImage:
        """Return a mask: the numbers of a palette, and nothing where it is transparent; see read."""
        return _stored(files[0], _labels)


def _stored(path: Path, pixels_of: Callable[[Path], np.ndarray]) -> StoredImage:
    """Return what `pixels_of` reads of a file that is whole."""
    content = path.read_bytes()
    try:
        if content.startswith(PNG):
            _check_png(path, content)
        elif content.startswith(b"\xff\xd8"):
            _check_jpeg(path, content)
        elif content.startswith(b"BM"):
            _check_bmp(path, content)
        pixels = pixels_of(path)
    except BadInput:
        raise
    except Exception as error:  # whatever Pillow's decoders raise
        raise damaged(path, error) from error
    image = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    if len(image) == 3 and (image[0] == image[1]).all() and (image[0] == image[2]).all():
        image = image[:1]
    return StoredImage(np.ascontiguousarray(image))


def _check_png(path: Path, content: bytes) -> None:
    """Compare every chunk with its checksum, which Pillow does not do for pixels; raise BadInput where one differs."""
    place, ended = len(PNG), False
    while not ended:
        head = content[place : place + 8]
        if len(head) < 8:
            raise damaged(path, "it ends too early")
        length, kind = struct.unpack(">I4s", head)
        body = content[place + 4 : place + 8 + length]
        check = content[place + 8 + length : place + 12 + length]
        if len(check) < 4 or zlib.crc32(body) != struct.unpack(">I", check)[0]:
            raise damaged(path, f"the checksum of its part {kind.decode('latin-1')} differs")
        if kind == b"acTL":
            raise BadInput(f"{path} holds several pictures; give one file a slice")
        ended = kind == b"IEND"
        place += 12 + length


def _check_jpeg(path: Path, content: bytes) -> None:
    """Raise BadInput unless a JPEG's segments follow each other up to its end mark.

    The format has no checksum: a changed byte within the coded pixels cannot be told.
    """
    place = 2
    while place < len(content) - 1:
        if content[place] != 0xFF:
            raise damaged(path, f"byte {place} begins no segment")
        mark = content[place + 1]
        if mark == 0xD9:
            return
        if mark == 0xFF:  # a fill byte
            place += 1
            continue
        length = int.from_bytes(content[place + 2 : place + 4], "big")
        if mark in (0x00, 0x01) or 0xD0 <= mark <= 0xD8 or length < 2:
            raise damaged(path, f"byte {place} begins no segment")
        place += 2 + length
        if mark == 0xDA:
            place = _coded_end(content, place)
    raise damaged(path, "it ends too early")


def _check_bmp(path: Path, content: bytes) -> None:
    """Raise BadInput unless a BMP is as long as its header says, uncompressed, and grey or colour without a palette."""
    start, head, width, height, planes, bits, packed = struct.unpack_from("<IIiiHHI", content, 10)
    used = struct.unpack_from("<I", content, 46)[0] or 256
    palette = 4 * used if bits == 8 else 0
    row = (width * bits + 31) // 32 * 4
    if bits not in (8, 24, 32) or packed or planes != 1 or head not in (40, 108, 124):
        raise BadInput(f"{path} is a BMP of {bits} bits and kind {packed}; plain ones of 8, 24 and 32 bits are read")
    if len(content) != 14 + head + palette + row * abs(height) or start != 14 + head + palette:
        raise damaged(path, "its length is not what its header says")
    greys = [bytes(range(256))] * 3
    if palette and [content[14 + head + i : start : 4] for i in range(3)] != greys:
        raise BadInput(f"{path} is a BMP with a palette that is no ramp of greys; save it as PNG")


def _coded_end(content: bytes, place: int) -> int:
    """Return where the coded pixels end that begin at `place`: at a mark other than a restart."""
    while (place := content.find(b"\xff", place)) >= 0:
        if place + 1 < len(content) and content[place + 1] != 0 and not 0xD0 <= content[place + 1] <= 0xD7:
            return place
        place += 2
    return len(content)


def _labels(path: Path) -> np.ndarray:
    found = label_pixels(path)
    return _pixels(path) if found is None else found


def _pixels(path: Path) -> np.ndarray:
    """Return pixels (h, w) or (h, w, 3) float32."""
    from PIL import Image

    with Image.open(path) as file:
        picture: Image.Image = file
        if getattr(file, "n_frames", 1) > 1:
            raise BadInput(f"{path} holds {file.n_frames} pictures; give one file a slice")  # type: ignore[attr-defined]
        if file.getexif().get(TURNED, 1) != 1:
            raise BadInput(f"{path} is to be turned for looking at (its EXIF orientation); turn its pixels first")
        tags = getattr(file, "tag_v2", None)
        deep = bool(tags) and set(_numbers(tags, BITS)) - {1, 8}
        if tags:
            _check_tiff(path, tags, file.size)
        if file.mode not in GREY16 and (deep or _deep_png(path)):
            return _deep_colour(path)
        if picture.mode not in (*GREY16, "L", "RGB"):
            picture = picture.convert("L" if picture.mode in ("1", "LA", "La") else "RGB")
        values = np.asarray(picture, np.float32)
        if tags and picture.mode in GREY16 and _numbers(tags, KIND) == [0]:  # white is zero; Pillow leaves it at that
            values = values.max(initial=0) - values if picture.mode == "F" else np.float32(_white(tags)) - values
        return values


def _white(tags: Any) -> int:
    return (1 << _numbers(tags, BITS)[0]) - 1


def _numbers(tags: Any, tag: int) -> list[int]:
    value = tags.get(tag, ())
    return [int(one) for one in (value if isinstance(value, tuple) else (value,))]


def _check_tiff(path: Path, tags: Any, size: tuple[int, int]) -> None:
    """Raise BadInput where pixels lie outside the file, or are fewer than the picture has."""
    content = path.read_bytes()
    whole = len(content)
    for place, length in zip(STRIPS, STRIP_BYTES, strict=True):
        starts, lengths = _numbers(tags, place), _numbers(tags, length)
        if len(starts) != len(lengths) or any(a + b > whole for a, b in zip(starts, lengths, strict=False)):
            raise damaged(path, "it says that its pixels go on beyond its end")
        samples, bits = (_numbers(tags, SAMPLES) or [1])[0], _numbers(tags, BITS) or [1]
        wanted = size[0] * size[1] * samples * bits[0] // 8
        if place == STRIPS[0] and starts and _numbers(tags, COMPRESSION) == [1] and sum(lengths) != wanted:
            raise damaged(path, f"it holds {sum(lengths)} bytes of pixels where {wanted} are wanted")
        if starts and _numbers(tags, COMPRESSION)[0] in DEFLATE:
            strips = [content[a : a + b] for a, b in zip(starts, lengths, strict=True)]
            held = sum(len(zlib.decompress(strip)) for strip in strips)  # raises where a checksum differs
            if place == STRIPS[0] and held != wanted:
                raise damaged(path, f"it holds {held} bytes of pixels where {wanted} are wanted")


def _deep_png(path: Path) -> bool:
    with path.open("rb") as file:
        begun = file.read(25)
    return begun.startswith(PNG) and begun[24] == 16


def _deep_colour(path: Path) -> np.ndarray:
    """Read colours of 16 bits, which Pillow would cut down to 8; what is transparent is shown."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    values = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(np.float32)
    if values.ndim == 2:
        return values
    return values[..., 0] if values.shape[-1] == 2 else values[..., :3]
