"""A file that a library writes into, whose errors are raised once the library has ended."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

PAGE = 1 << 12  # bytes
LARGEST_KEPT = 1 << 20  # bytes: what a library reads again is smaller, pixels and weights may be larger


class Outlet(io.RawIOBase):
    """A file for a library that ends in disorder where it cannot write: it goes on, and the error comes afterwards.

    HDF5 and torch's archives are of that kind; HDF5 crashes where it does not read again what it wrote, so that is kept
    in memory from the first error on. Use as a context manager around all that the library does.
    """

    def __init__(self, path: Path, mode: str = "w+b"):
        self._file = io.FileIO(path, mode)
        self._path = path
        self._error: OSError | None = None
        self._end = os.fstat(self._file.fileno()).st_size
        self._pages: dict[int, bytearray] = {}  # what could not be written

    def check(self) -> None:
        """Raise OSError where something could not be written."""
        if self._error is not None:
            raise OSError(self._error.errno, self._error.strerror, str(self._path)) from self._error

    def write(self, content: Any) -> int:
        """Write bytes, or from the first error on keep them; return how many, always all."""
        left, end = memoryview(content).cast("B"), self.tell() + memoryview(content).nbytes
        try:
            while left and self._error is None:
                left = left[self._file.write(left) :]
        except OSError as error:
            self._error = error
        if len(left) <= LARGEST_KEPT:
            for page, inside, outside in _pages(end - len(left), len(left)):
                self._page(page, keep=True)[inside] = left[outside]
        self._end = max(self._end, end)
        self._file.seek(end)
        return memoryview(content).nbytes

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from the file, and from what could not be written to it; return how many bytes."""
        if self._error is None:
            return self._file.readinto(buffer)
        start, into = self.tell(), memoryview(buffer).cast("B")
        found = max(0, min(len(into), self._end - start))
        for page, inside, outside in _pages(start, found):
            into[outside] = self._page(page)[inside]
        self._file.seek(start + found)
        return found

    def _page(self, number: int, keep: bool = False) -> bytearray:
        if number in self._pages:
            return self._pages[number]
        page = bytearray(os.pread(self._file.fileno(), PAGE, number * PAGE).ljust(PAGE, b"\0"))
        if keep:
            self._pages[number] = page
        return page

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset; the end is where a whole file would end."""
        if whence == os.SEEK_END:
            return self._file.seek(offset + self._end)
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the offset."""
        return self._file.tell()

    def truncate(self, size: int | None = None) -> int:
        """Cut the file, or keep the error; return its size."""
        self._end = self.tell() if size is None else size
        try:
            return self._file.truncate(size)
        except OSError as error:
            self._error = self._error or error
            return self._end

    def flush(self) -> None:
        """Do nothing, for nothing is buffered."""

    def readable(self) -> bool:
        """Return True."""
        return True

    def writable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        super().__exit__(kind, error, trace)
        self.check()


def _pages(start: int, length: int) -> Iterator[tuple[int, slice, slice]]:
    """Yield the pages that bytes lie in: its number, and which bytes they are inside it, and among all."""
    for page in range(start // PAGE, -(-(start + length) // PAGE) if length else 0):
        low, high = max(start, page * PAGE), min(start + length, (page + 1) * PAGE)
        yield page, slice(low - page * PAGE, high - page * PAGE), slice(low - start, high - start)
