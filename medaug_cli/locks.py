"""One writer at a time: a lock beside what is written, which no dead process keeps.

The file system's own lock (fcntl) tells a live holder on this machine, and on others where it has a lock service.
Where it has none, the lock file says who holds it, and its holder touches it every few seconds.
"""

import errno
import fcntl
import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from medaug_cli.errors import MedaugError
from medaug_cli.files import process_runs

BEAT = 10.0  # seconds between touches of a lock that is held
FORGOTTEN = 45.0  # seconds without a touch after which a holder on another machine is taken for dead
LOOK = 0.5  # seconds between two looks at a lock that another process holds
SETTLED = 0.3  # seconds that two processes which both find a lock free need to see each other

_held: dict[tuple[int, str], int] = {}  # (process, lock file) -> how often this process has taken it


@contextmanager
def alone(path: Path, wait: bool = False) -> Iterator[None]:
    """Keep other processes from writing `path`, a file or a folder, while the block runs.

    Where another one is at it: wait for it, or raise MedaugError. A process may take a lock that it holds.
    """
    file = lock_file(path)
    key = os.getpid(), str(file)
    if _held.get(key):
        _held[key] += 1
        try:
            yield
        finally:
            _held[key] -= 1
        return
    made = _make_folders(file.parent)
    lock = _Lock(file)
    try:
        while (holder := _taken(lock, path)) is not None:
            if not wait:
                raise MedaugError(
                    f"{path} is being written by another medaug ({holder}); wait until it has finished, or choose "
                    f"another --out"
                )
            time.sleep(LOOK)
        _held[key] = 1
        try:
            yield
        finally:
            del _held[key]
            lock.release()
    finally:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()  # where nothing was written into it


def _taken(lock: "_Lock", path: Path) -> str | None:
    try:
        return lock.take()
    except OSError as error:  # as in a folder that may not be written
        raise OSError(error.errno, error.strerror, str(path)) from error


def lock_file(path: Path) -> Path:
    """Return the lock of a file or folder, beside the place that it really has."""
    real = Path(os.path.realpath(path))
    return real.with_name(f".{real.name}.lock")


def remove_dead_locks(folder: Path) -> None:
    """Remove the locks that killed processes of this machine left below a folder."""
    for file in folder.rglob(".*.lock"):
        remove_dead_lock(file.with_name(file.name[1:].removesuffix(".lock")))


def remove_dead_lock(path: Path) -> None:
    """Remove the lock of a file or folder that a killed process of this machine left."""
    file = lock_file(path)
    if file.exists() and not _held.get((os.getpid(), str(file))):
        with suppress(OSError):
            _remove_dead(file)


def _remove_dead(file: Path) -> None:
    handle = os.open(file, os.O_RDWR)
    try:
        if _lock(handle) and _same(handle, file):
            holder = _Holder.parse(os.pread(handle, 4096, 0))
            if holder is None or (holder.machine == _machine() and not process_runs(holder.process)):
                file.unlink()
    finally:
        os.close(handle)


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder and those above it; return the new ones, the deepest first."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
    return missing


@dataclass
class _Holder:
    process: int
    host: str
    machine: str

    @classmethod
    def this(cls) -> "_Holder":
        return cls(os.getpid(), platform.node(), _machine())

    @classmethod
    def parse(cls, text: bytes) -> "_Holder | None":
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}" if self.host else f"process {self.process}"


def _machine() -> str:
    """Return what tells apart the process ids of this machine, or of this container, from those of others."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


@dataclass
class _Lock:
    file: Path
    handle: int = -1
    ended: threading.Event = field(default_factory=threading.Event)

    def take(self) -> str | None:
        """Take the lock and return None, or return who holds it."""
        while True:
            handle = _opened(self.file)
            granted = _lock(handle)
            if granted is False or _same(handle, self.file):
                break
            os.close(handle)  # its holder removed it while this process opened it
        try:
            holder = self._holder(handle, granted)
        except OSError:
            os.close(handle)
            raise
        if holder is not None:
            os.close(handle)
            return holder
        self.handle = handle
        threading.Thread(target=self._beat, daemon=True).start()
        return None

    def _holder(self, handle: int, granted: bool | None) -> str | None:
        """Return who holds the lock, or write this process into it."""
        holder, this = _Holder.parse(os.pread(handle, 4096, 0)), _Holder.this()
        if granted is False:
            return str(holder or "one that has just begun")
        if holder is not None and holder != this and self._alive(holder, this, granted):
            return str(holder)
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps(vars(this)).encode(), 0)
        except OSError:  # a full disk; where the system grants locks, nothing needs to stand in them
            if granted is None:
                raise
        if granted is None:  # two processes may both have come so far: the last to write has it
            os.fsync(handle)
            time.sleep(SETTLED)
            written = _Holder.parse(self.file.read_bytes()) if self.file.exists() else None
            return None if written == this else str(written or "one that has just begun")
        return None

    def _alive(self, holder: _Holder, this: _Holder, granted: bool | None) -> bool:
        """Tell whether the process that the lock names is still there."""
        if holder.machine == this.machine:
            return granted is None and process_runs(holder.process)
        start, before = time.monotonic(), _touched(self.file)
        while time.monotonic() - start < FORGOTTEN:
            time.sleep(LOOK)
            if _touched(self.file) != before:
                return self.file.exists()
        return False

    def _beat(self) -> None:
        while not self.ended.wait(BEAT):
            with suppress(OSError):
                os.utime(self.file)

    def release(self) -> None:
        self.ended.set()
        with suppress(OSError):
            if _same(self.handle, self.file):
                self.file.unlink()
        os.close(self.handle)


def _opened(file: Path) -> int:
    """Open a lock file that every user may take once its holder is dead, whatever the umask."""
    handle = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    with suppress(OSError):
        os.fchmod(handle, 0o666)
    return handle


def _lock(handle: int) -> bool | None:
    """Take the file system's lock: True if it is taken, False if another has it, None where there is no lock."""
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EAGAIN, errno.EACCES) else None
    return True


def _same(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _touched(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
