"""What a result may replace: an older result of its own kind, and nothing else.

A folder that a command makes in one go holds a mark with the names of its files. A run's folder and an evaluation
are known by what they say of themselves, and by the names that may be in them.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from medaug_cli import __version__
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import (
    finish_publishing,
    parse_json,
    publish_folder,
    refuse_existing,
    restore_folder,
    temporary_folder,
)
from medaug_cli.locks import alone

MARK = ".medaug.json"
PASSED_OVER = (MARK, ".*.tmp", ".*.lock", ".nfs*", ".DS_Store", "Thumbs.db", "desktop.ini")  # nobody's work
UNFINISHED = ".parts"
PNG = b"\x89PNG\r\n\x1a\n"
LONGEST = 240  # bytes of the name of a result: file systems take 255, and names beside it are longer


@dataclass(frozen=True)
class Kind:
    """A kind of folder that a command makes."""

    command: str
    words: str  # "a generator"
    names: tuple[str, ...] = ()  # patterns of all that one without a mark may hold
    proof: Callable[[Path], bool] = lambda folder: False  # whether a folder without a mark is one


@contextmanager
def folder_claimed(out: Path, kind: Kind, overwrite: bool, reads: Sequence[Path] = ()) -> Iterator[Path]:
    """Keep other processes from making the folder `out` while the block runs; yield where it really is.

    Raises UsageError where nothing can be made there, or where something exists that may not be replaced: anything,
    without `overwrite`; with it a file, what the command `reads`, and all but a result of the same kind.
    """
    check_folder(out, kind, overwrite, reads)
    place = Path(os.path.realpath(out)) if out.is_symlink() else out
    with alone(place):
        restore_folder(place)
        check_folder(place, kind, overwrite, reads)
        yield place


@contextmanager
def file_claimed(out: Path, overwrite: bool, reads: Sequence[Path] = ()) -> Iterator[None]:
    """Keep other processes from writing the file `out` while the block runs.

    Raises UsageError where nothing can be written there, or where something exists that may not be replaced.
    """
    check_file(out, overwrite, reads)
    with alone(out):
        finish_publishing(out)
        check_file(out, overwrite, reads)
        yield


def check_folder(out: Path, kind: Kind, overwrite: bool, reads: Sequence[Path] = ()) -> None:
    """Raise UsageError where the folder `out` cannot be made, or may not be replaced."""
    check_place(out)
    refuse_existing(out, overwrite)
    if out.exists():
        refuse_reads(out, reads)
        refuse_stranger(out, kind)


def check_file(out: Path, overwrite: bool, reads: Sequence[Path] = ()) -> None:
    """Raise UsageError where the file `out` cannot be written, is read by the command, or may not be replaced."""
    check_place(out)
    if out.is_dir():
        raise UsageError(f"{out} is a folder; --out names a file")
    refuse_reads(out, reads)
    refuse_existing(out, overwrite)


@contextmanager
def new_folder(out: Path, kind: Kind) -> Iterator[Path]:
    """Yield an empty folder; when the block ends well it becomes `out`, with a mark, else nothing is left of it."""
    with temporary_folder(out) as work:
        yield work
        files = sorted(_names(work))
        mark = {"medaug": __version__, "made_by": kind.command, "files": files}
        (work / MARK).write_text(json.dumps(mark, ensure_ascii=True) + "\n", encoding="utf-8")
        if out.exists():
            refuse_stranger(out, kind)  # again: the work may have taken hours
        publish_folder(work, out)


def refuse_stranger(folder: Path, kind: Kind) -> None:
    """Raise UsageError unless a folder is a result of `kind` and holds nothing else."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file; choose another --out")
    names = sorted(_names(folder))
    if not names:
        return
    allowed = _allowed(folder, kind)
    if allowed is None:
        raise UsageError(
            f"{folder} exists and is not {kind.words} that medaug made (it holds {names[0]}); choose another --out"
        )
    other = next((name for name in names if not allowed(name)), None)
    if other is not None:
        raise UsageError(
            f"{folder} holds {other}, which is not part of {kind.words}; move it elsewhere, or choose another --out"
        )


def _allowed(folder: Path, kind: Kind) -> Callable[[str], bool] | None:
    """Return which names may be in a folder; None where it is not a result of `kind`."""
    mark = _read_mark(folder)
    if mark is not None:
        files = frozenset(map(str, mark["files"]))
        return files.__contains__ if mark.get("made_by") == kind.command else None
    if kind.names and kind.proof(folder):
        return lambda name: any(fits(name, pattern) for pattern in kind.names)
    return None


def _read_mark(folder: Path) -> dict[str, Any] | None:
    try:
        mark = parse_json(folder / MARK)
    except BadInput:
        return None
    return mark if isinstance(mark, dict) and isinstance(mark.get("files"), list) else None


def fits(name: str, pattern: str) -> bool:
    """Tell whether a path below a folder, with /, is as a pattern says, step by step."""
    parts, patterns = name.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))


def _names(folder: Path) -> Iterator[str]:
    """Yield the files and links in a folder, as paths below it, but for those that are nobody's work."""

    def failed(error: OSError) -> None:
        raise error

    for place, folders, files in os.walk(folder, onerror=failed):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for name in (*files, *links):
            if not any(fnmatchcase(name, pattern) for pattern in PASSED_OVER):
                yield Path(place, name).relative_to(folder).as_posix()


def check_place(out: Path) -> None:
    """Raise UsageError where no file or folder can be named `out`."""
    real = Path(os.path.realpath(out))
    if real in (here := Path(os.path.realpath(".")), *here.parents):
        raise UsageError(f"{out} exists; choose another --out")
    if real.name.endswith(UNFINISHED):
        raise UsageError(f"--out {out}: medaug uses such names for unfinished work; choose another")
    if len(os.fsencode(real.name)) > LONGEST:
        raise UsageError(f"--out {real.name[:20]}...: the name is too long; choose one of at most {LONGEST} bytes")
    try:
        above = next(each for each in real.parents if each.exists())
    except OSError as error:
        raise UsageError(f"--out {str(out)[:40]}: nothing can be written there ({error.strerror})") from error
    if not above.is_dir():
        raise UsageError(f"{above} is a file, and {out} would be in it; choose another --out")


def refuse_reads(out: Path, reads: Sequence[Path]) -> None:
    """Raise UsageError where `out` is, or holds, what a command reads, by whatever name."""
    if not out.exists():
        return
    for path in reads:
        if path.exists():
            real = Path(os.path.realpath(path))
            if any(os.path.samefile(each, out) for each in (real, *real.parents)):
                word = "is" if os.path.samefile(real, out) else "holds"
                raise UsageError(f"{out} {word} {path}, which this command reads; choose another --out")


def is_picture(path: Path) -> bool:
    """Tell whether a file is a PNG, as medaug draws them."""
    with path.open("rb") as file:
        return file.read(len(PNG)) == PNG


def refuse_page(page: Path, report: Path) -> None:
    """Raise UsageError where a page stands where one would go, but without the report that it would be of."""
    if page.exists() and not report.exists():
        raise UsageError(f"{page} exists and is not part of a report of medaug; move it, or choose another --out")


def refuse_inside(option: str, out: Path, folder: Path) -> None:
    """Raise UsageError where `out` is, or lies in, a folder that a command reads: its results would be read later."""
    real = Path(os.path.realpath(out))
    if folder.is_dir() and any(each.exists() and os.path.samefile(each, folder) for each in (real, *real.parents)):
        raise UsageError(f"{option} {out} lies in {folder}, which this command reads; choose another folder")


class OtherSettings(UsageError):
    """A result was made, or begun, with other settings than are asked for."""

    def __init__(self, what: str, changed: str):
        super().__init__(
            f"{what} with other settings ({changed}); use the same ones, choose another --out, or start anew with "
            "--overwrite"
        )
        self.what, self.changed = what, changed

    def in_study(self) -> UsageError:
        """Return the error as a study says it, of what it does not make anew itself."""
        return UsageError(
            f"{self.what} with other settings ({self.changed}); use the same ones, choose another --out, or remove "
            "that to make it anew"
        )


def changes(before: Mapping[str, Any], now: Mapping[str, Any], but: tuple[str, ...] = ()) -> list[str]:
    """Return what differs between two plans, as "seed 0, now 1"."""
    found = []
    for key in sorted((before.keys() | now.keys()) - set(but)):
        old, new = before.get(key), now.get(key)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            found += changes(old, new)
        else:
            found.append(f"{key} {_short(old)}, now {_short(new)}")
    return found


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 24 else f"{text[:20]}..."
