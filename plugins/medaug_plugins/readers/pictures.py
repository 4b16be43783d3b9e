"""PNG, JPEG, TIFF and BMP, of 8 bits and more, grey and colour, one picture per file."""

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from medaug_cli.plugin import BadInput, Capabilities, StoredImage, setting
from medaug_plugins.readers.label_pictures import label_pixels
from medaug_plugins.readers.tiff import (
    BITS,
    HEIGHT,
    WIDTH,
    check_tiff,
    grey_tiff,
    is_tiff,
    number,
    read_tags,
    read_with_itk,
)
from medaug_plugins.readers.volumes import damaged

PNG = b"\x89PNG\r\n\x1a\n"
TURNED = 274  # the tag of EXIF and TIFF that tells how a picture is to be turned for looking at
GREY16 = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
GREY_ALPHA, COLOUR_ALPHA = 4, 6  # types of PNG


@dataclass
class Pictures:
    """Pictures of a slice each."""

    capabilities: ClassVar[Capabilities] = Capabilities(dims=(2,), channels=(1, 3))
    suffixes: ClassVar[tuple[str, ...]] = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")

    max_pixels: int = setting(100_000_000, "pixels of the largest picture that is read", minimum=1)

    def read(self, files: Sequence[Path]) -> StoredImage:
        """Return the picture, of one channel where all are equal; raise BadInput where the file is not whole."""
        return _stored(files[0], self.max_pixels, labels=False)

    def read_labels(self, files: Sequence[Path]) -> StoredImage:
        """Return a mask: the numbers of a palette, and nothing where it is transparent; see read."""
        return _stored(files[0], self.max_pixels, labels=True)


def _stored(path: Path, most: int, labels: bool) -> StoredImage:
    """Return what a file that is whole, and has `most` pixels or fewer, shows."""
    content = path.read_bytes()
    try:
        if content.startswith(PNG):
            _check_png(path, content)
        elif content.startswith(b"\xff\xd8"):
            _check_jpeg(path, content)
        elif content.startswith(b"BM"):
            _check_bmp(path, content)
        with _any_size():
            pixels = (_tiff if is_tiff(content) else _pixels)(path, content, most, labels)
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
            raise BadInput(f"{path} holds several pictures; give one file per slice")
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
        raise BadInput(f"{path} is a BMP with a palette that is not a ramp of greys; save it as PNG")


def _coded_end(content: bytes, place: int) -> int:
    """Return where the coded pixels end that begin at `place`: at a mark other than a restart."""
    while (place := content.find(b"\xff", place)) >= 0:
        if place + 1 < len(content) and content[place + 1] != 0 and not 0xD0 <= content[place + 1] <= 0xD7:
            return place
        place += 2
    return len(content)


@contextmanager
def _any_size() -> Iterator[None]:
    """Let Pillow open a picture of any size: our own limit is looked at, and said, before pixels are read."""
    from PIL import Image

    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _check_look(path: Path, width: int, height: int, turned: int, most: int) -> None:
    """Raise BadInput for a picture that is too large, or is to be turned before it is looked at."""
    if width * height > most:
        raise BadInput(
            f"{path} is too large: it has {width}x{height} = {width * height} pixels, {most} are read at most; "
            "raise the limit with --max-pixels"
        )
    if turned not in (0, 1):  # some writers leave it at 0
        raise BadInput(f"{path} is stored rotated (EXIF orientation {turned}); rotate its pixels first")


def _pixels(path: Path, content: bytes, most: int, labels: bool) -> np.ndarray:
    """Return the pixels (h, w) or (h, w, 3) float32 of what Pillow opens."""
    from PIL import Image

    with Image.open(path) as file:
        picture: Image.Image = file
        if getattr(file, "n_frames", 1) > 1:
            raise BadInput(f"{path} holds several pictures; give one file per slice")
        _check_look(path, *file.size, file.getexif().get(TURNED, 1), most)
        if file.mode not in GREY16 and content.startswith(PNG) and content[24] == 16:
            return _deep_grey_alpha(content) if content[25] == GREY_ALPHA else _deep_colour(path)
        marked = label_pixels(path) if labels else None
        if marked is not None:
            return marked
        if picture.mode not in (*GREY16, "L", "RGB"):
            picture = picture.convert("L" if picture.mode in ("1", "LA", "La") else "RGB")
        return np.asarray(picture, np.float32)


def _tiff(path: Path, content: bytes, most: int, labels: bool) -> np.ndarray:
    """Return the pixels (h, w) or (h, w, 3) float32 of a TIFF."""
    tags = read_tags(path, content)
    _check_look(path, number(tags, WIDTH, 0), number(tags, HEIGHT, 0), number(tags, TURNED, 1), most)
    parts = check_tiff(path, content, tags)
    grey = grey_tiff(path, tags, "<" if content.startswith(b"II") else ">", parts)
    if grey is not None:
        return grey
    return _deep_colour(path) if number(tags, BITS, 1) > 8 else _pixels(path, content, most, labels)


def _deep_colour(path: Path) -> np.ndarray:
    """Read colours of 16 bits, which Pillow would cut down to 8; what is transparent is shown."""
    values = read_with_itk(path).astype(np.float32)
    if values.ndim == 2:
        return values
    return values[..., 0] if values.shape[-1] == 2 else values[..., :3]


def _deep_grey_alpha(content: bytes) -> np.ndarray:
    """Return the grey values (h, w) of a PNG of 16 bits with alpha, which neither Pillow nor ITK reads in full.

    Its pixels have four bytes, as those of colours with alpha of 8 bits have, and are packed in the same way: read as
    such a one, red and green are the two bytes of grey.
    """
    from PIL import Image

    head = b"IHDR" + content[16:24] + bytes([8, COLOUR_ALPHA]) + content[26:29]
    parts, place = [PNG, struct.pack(">I", 13), head, struct.pack(">I", zlib.crc32(head))], 33
    while place < len(content):
        (length,) = struct.unpack_from(">I", content, place)
        if content[place + 4 : place + 8] in (b"IDAT", b"IEND"):
            parts.append(content[place : place + 12 + length])
        place += 12 + length
    with Image.open(io.BytesIO(b"".join(parts))) as picture:
        values = np.asarray(picture).astype(np.uint16)
    return (values[..., 0] << 8 | values[..., 1]).astype(np.float32)
