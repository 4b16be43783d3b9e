"""A checksum in a store's first 512 bytes, so that damage is known before the HDF5 library meets it.

A single changed byte can send the HDF5 library into an endless loop. The seal covers every byte but
the pixels, whose checksum is the store's `hash`: opening stays quick however many images there are.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from medaug_cli.errors import BadInput

SIZE = 512  # the smallest user block of HDF5, which every reader of HDF5 skips
MARK = b"medaug store\n"
HDF5 = b"\x89HDF\r\n\x1a\n"
CHUNK = 1 << 20


def seal(path: Path, pixels: Sequence[tuple[int, int]]) -> None:
    """Write the seal of a finished file; `pixels` are the (offset, length) that it leaves out."""
    left_out = json.dumps(sorted(pixels))
    with path.open("r+b") as file:
        file.write(MARK + f"{_digest(path, left_out)}\n{left_out}\n".encode().ljust(SIZE - len(MARK), b"\0"))


def check_seal(path: Path) -> None:
    """Raise BadInput if a file is not a store or is not what was written, pixels aside."""
    with path.open("rb") as file:
        head = file.read(SIZE)
    if head.startswith(HDF5):
        raise BadInput(f"{path} is an HDF5 file, but not a medaug store")
    if not head.startswith(MARK):
        raise BadInput(f"{path} is not a store: it is truncated, damaged or something else")
    try:
        digest, left_out, _ = head[len(MARK) :].decode().split("\n")
        whole = digest == _digest(path, left_out)
    except (ValueError, TypeError):
        whole = False
    if not whole:
        raise BadInput(f"{path} is truncated or damaged: its content is not what was written (SHA-256 differs)")


def _digest(path: Path, left_out: str) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256(f"{size} {left_out}".encode())
    with path.open("rb") as file:
        file.seek(SIZE)
        for start, length in [*json.loads(left_out), (size, 0)]:
            if not file.tell() <= start <= start + length <= size:
                raise ValueError("the pixels reach outside the file")
            while file.tell() < start:
                digest.update(file.read(min(CHUNK, start - file.tell())))
            file.seek(start + length)
    return digest.hexdigest()
