"""Grey TIFF of any depth: whole numbers of 1 to 64 bits, signed or not, and floats, in either order of bytes.

Pillow and ITK read fewer of these, and some wrongly without a word: numbers of 32 bits above half of their range as
negative ones, compressed ones of the other order of bytes as noise. What is packed otherwise than by deflate is theirs.
https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf
"""

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli.plugin import BadInput, text_path
from medaug_plugins.readers.volumes import damaged

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
WIDTH, HEIGHT, BITS, COMPRESSION, MEANING, FILL_ORDER, STRIPS, SAMPLES = 256, 257, 258, 259, 262, 266, 273, 277
STRIP_BYTES, PLANES, PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES, FORMAT = (
    279, 284, 317, 322, 323, 324, 325, 339
)  # fmt: skip
PLAIN, DEFLATE = 1, (8, 32946)
KINDS = {1: "u", 2: "i", 3: "f"}  # sample format -> NumPy's letter
WIDTHS = {"u": (8, 16, 32, 64), "i": (8, 16, 32, 64), "f": (16, 32, 64)}  # bits that NumPy has a type for
Tags = dict[int, tuple[Any, ...]]


def is_tiff(content: bytes) -> bool:
    """Tell whether a file says that it is TIFF."""
    return content.startswith(STARTS)


def read_tags(path: Path, content: bytes) -> Tags:
    """Return the tags of the one picture; raise BadInput where they cannot be read, and for several pictures."""
    from PIL import TiffImagePlugin

    file = io.BytesIO(content)
    try:
        found: Any = TiffImagePlugin.ImageFileDirectory_v2(file.read(16 if b"+" in content[:4] else 8))
        file.seek(found.next)
        found.load(file)
        tags = {tag: value if isinstance(value, tuple) else (value,) for tag, value in found.items()}
    except Exception as error:  # whatever Pillow's parser raises on bytes that are not a directory
        raise damaged(path, error) from error
    if found.next:
        raise BadInput(f"{path} holds several pictures; give one file per slice")
    return tags


def numbers(tags: Tags, tag: int, default: int | None = None) -> list[int]:
    """Return the whole numbers of a tag, the default where it is missing."""
    return [int(one) for one in tags.get(tag, () if default is None else (default,))]


def number(tags: Tags, tag: int, default: int) -> int:
    """Return the first whole number of a tag, the default where it is missing."""
    return numbers(tags, tag, default)[0]


def check_tiff(path: Path, content: bytes, tags: Tags) -> list[bytes]:
    """Return the strips or tiles, unpacked where that is done here; raise BadInput where pixels are missing."""
    packing, tiled = number(tags, COMPRESSION, PLAIN), TILES in tags
    starts, lengths = numbers(tags, TILES if tiled else STRIPS), numbers(tags, TILE_BYTES if tiled else STRIP_BYTES)
    ends = [start + length for start, length in zip(starts, lengths, strict=False)]
    if not starts or len(starts) != len(lengths) or max(ends) > len(content):
        raise damaged(path, "it says that its pixels go on beyond its end")
    parts = [content[start:end] for start, end in zip(starts, ends, strict=True)]
    if packing in DEFLATE:
        parts = [zlib.decompress(part) for part in parts]  # raises where a checksum differs
    if packing in (PLAIN, *DEFLATE):
        held, wanted = sum(map(len, parts)), _bytes(tags, tiled)
        if held != wanted:
            raise damaged(path, f"it holds {held} bytes of pixels, expected {wanted}")
    return parts


def _bytes(tags: Tags, tiled: bool) -> int:
    """Return how many bytes of pixels there should be: each row, and each tile, begins with a byte of its own."""
    width, height = number(tags, WIDTH, 0), number(tags, HEIGHT, 0)
    samples, bits = number(tags, SAMPLES, 1), number(tags, BITS, 1)
    planes, deep = (samples, 1) if number(tags, PLANES, 1) == 2 else (1, samples)
    if not tiled:
        return planes * height * (-(-width * deep * bits // 8))
    across, down = max(1, number(tags, TILE_WIDTH, 0)), max(1, number(tags, TILE_HEIGHT, 0))
    return planes * -(-width // across) * -(-height // down) * down * (-(-across * deep * bits // 8))


def grey_tiff(path: Path, tags: Tags, order: str, parts: list[bytes]) -> np.ndarray | None:
    """Return the pixels (h, w) float32 of a grey TIFF, None for one that any library reads well.

    `order` is that of its bytes, as NumPy writes it. Values are as they are stored, turned round where white is zero.
    """
    kind, bits = KINDS.get(number(tags, FORMAT, 1), "?"), number(tags, BITS, 1)
    if number(tags, SAMPLES, 1) != 1 or number(tags, MEANING, 1) not in (0, 1):
        return None
    predictor, packing = number(tags, PREDICTOR, 1), number(tags, COMPRESSION, PLAIN)
    if packing not in (PLAIN, *DEFLATE) or TILES in tags or predictor not in (1, 2) or (predictor == 2 and kind == "f"):
        if kind == "u" and bits in (1, 8):
            return None
        values = read_with_itk(path)
    else:
        values = _from_strips(path, tags, order=order, parts=parts, kind=kind, bits=bits)
        if predictor == 2:
            values = np.cumsum(values, axis=1, dtype=values.dtype.newbyteorder("="))
    return _lit(values, kind, bits, white_is_zero=number(tags, MEANING, 1) == 0)


def _from_strips(path: Path, tags: Tags, order: str, parts: list[bytes], kind: str, bits: int) -> np.ndarray:
    """Return the values (h, w) in the bytes of some strips."""
    width, height, content = number(tags, WIDTH, 0), number(tags, HEIGHT, 0), b"".join(parts)
    if bits in WIDTHS.get(kind, ()):
        return np.frombuffer(content, f"{order}{kind}{bits // 8}").reshape(height, width)
    if kind == "u" and bits < 16:
        return _unpacked(content, height, width, bits, "little" if number(tags, FILL_ORDER, 1) == 2 else "big")
    sort = number(tags, FORMAT, 1)
    raise BadInput(f"{path} is a TIFF of {bits} bits per pixel of the sample format {sort}, which is not read")


def _unpacked(content: bytes, height: int, width: int, bits: int, order: Any) -> np.ndarray:
    """Return whole numbers of so many bits (h, w), of which each row begins with a byte of its own."""
    rows = np.frombuffer(content, np.uint8).reshape(height, -1)
    single = np.unpackbits(rows, axis=1, count=width * bits, bitorder=order)
    values: np.ndarray = np.zeros((height, width), np.uint16)
    for place in range(bits):
        values = values << 1 | single[:, place::bits]
    return values


def read_with_itk(path: Path) -> np.ndarray:
    """Return the values of a picture (h, w) or (h, w, c) as ITK's decoders give them."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    with text_path(path) as name:
        values: np.ndarray = sitk.GetArrayFromImage(sitk.ReadImage(name))
    return values


def _lit(values: np.ndarray, kind: str, bits: int, white_is_zero: bool) -> np.ndarray:
    if not white_is_zero:
        return values.astype(np.float32)
    if kind == "f":
        return values.max(initial=0).astype(np.float32) - values.astype(np.float32)
    white = (1 << bits) - 1 if kind == "u" else -1
    return (white - values.astype(np.float64)).astype(np.float32)
