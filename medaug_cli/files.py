"""Publish results by rename, so that a file that exists is always whole."""

import ctypes
import errno
import glob
import hashlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from medaug_cli import __version__
from medaug_cli.errors import BadInput, UsageError

MAX_JSON_BYTES = 1 << 30
LONGEST_IN_TEMPORARY = 150  # bytes of a name that the names of its temporary files repeat
RENAME_EXCHANGE, RENAME_SWAP, AT_FDCWD = 2, 2, -100  # of Linux's renameat2 and macOS's renamex_np

Model = TypeVar("Model", bound=BaseModel)


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems do not flush folders
            raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(handle)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well it becomes `path`, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(path)
    temporary = _temporary(path)
    try:
        with named(path, temporary):
            yield temporary
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def named(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Let errors of the system name `path` where they name no file, or its temporary one."""
    try:
        yield
    except OSError as error:
        name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(path)
        if temporary is not None and name.startswith(str(temporary)):
            name = f"{path}{name.removeprefix(str(temporary))}"
        elif error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, name) from error


def _temporary(path: Path) -> Path:
    return path.with_name(f"{_before_temporary(path)}{os.getpid()}.tmp")


def _before_temporary(path: Path) -> str:
    """Return what the names of temporary files for `path` begin with on this machine."""
    name = path.name
    if len(os.fsencode(name)) > LONGEST_IN_TEMPORARY:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    return f".{name}.{platform.node()[:64]}."


def remove_stale(path: Path) -> None:
    """Remove the temporary files and folders that killed processes of this machine left beside `path`."""
    for left in path.parent.glob(f"{glob.escape(_before_temporary(path))}*.tmp"):
        process = left.name.split(".")[-2]
        if process.isdigit() and not process_runs(int(process)):
            remove(left)


def remove_temporaries(folder: Path) -> None:
    """Remove every temporary file in a folder that no other process works in."""
    for left in folder.rglob(".*.tmp"):
        remove(left)


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it, as far as that can be done."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def process_runs(process: int) -> bool:
    """Tell whether a process of this machine is there."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def remove_folder(folder: Path, beside: Path) -> None:
    """Remove a folder at once: a kill leaves it whole, or nothing but what `remove_stale(beside)` removes."""
    gone = _temporary(beside)
    try:
        os.replace(folder, gone)
    except FileNotFoundError:
        return
    remove(gone)


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; whatever of it is left after the block is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(path)
    work = _temporary(path)
    remove(work)
    work.mkdir()
    try:
        with named(path, work):
            yield work
    finally:
        remove(work)


@contextmanager
def new_files(path: Path) -> Iterator[Path]:
    """Yield an empty folder; when the block ends well, the files in it take their places beside `path` together.

    A kill leaves none of them in its place, or all but for what `finish_publishing` moves there.
    """
    with temporary_folder(path) as work:
        with _named_beside(path, work):
            yield work
        for file in work.iterdir():
            sync(file)
        sync(work)
        finish_publishing(path)  # what a killed process had left
        os.replace(work, _publishing(path))  # from here on they are published
        finish_publishing(path)
        sync(path.parent)


@contextmanager
def _named_beside(path: Path, folder: Path) -> Iterator[None]:
    """Let errors of the system about a file in a folder name the one beside `path` that it would become."""
    try:
        yield
    except OSError as error:
        name = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else folder
        if name.parent != folder:
            raise
        raise OSError(error.errno, error.strerror, str(path.with_name(name.name))) from error


def finish_publishing(path: Path) -> None:
    """Move what a process that was killed had published with `path` to its place; the file `path` itself comes last."""
    staged = _publishing(path)
    if not staged.is_dir():
        return
    for file in sorted(staged.iterdir(), key=lambda file: (file.name == path.name, file.name)):
        with suppress(FileNotFoundError):  # another process that looks here has just moved it
            os.replace(file, path.with_name(file.name))
    with suppress(FileNotFoundError):
        staged.rmdir()


def _publishing(path: Path) -> Path:
    return path.with_name(f".{path.name}.publishing")


def publish_bytes(path: Path, content: bytes) -> None:
    """Write a whole file or nothing."""
    with new_file(path) as temporary:
        temporary.write_bytes(content)


def publish_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 text file or nothing."""
    publish_bytes(path, text.encode())


def publish_folder(finished: Path, path: Path) -> None:
    """Rename a finished folder to `path`; a folder that is there is whole until the new one stands in its place."""
    for file in sorted(finished.rglob("*"), reverse=True):
        if not file.is_symlink():
            sync(file)
    sync(finished)
    if not path.exists():
        os.replace(finished, path)
    elif _exchange(finished, path):
        remove_folder(finished, path)  # the old one
    else:
        _replace_in_two_steps(finished, path)
    sync(path.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change places at once; return False where the system or the file system cannot do that."""
    library = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    with suppress(AttributeError):
        if sys.platform == "darwin":
            return library.renamex_np(*names, RENAME_SWAP) == 0
        return library.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0
    return False


def _replace_in_two_steps(finished: Path, path: Path) -> None:
    """Rename twice; `restore_folder` undoes the first where a kill falls between them."""
    old = replaced(path)
    remove(old)
    os.replace(path, old)
    os.replace(finished, path)
    remove(old)


def replaced(path: Path) -> Path:
    """Return where a folder stands for the moment in which another takes its place."""
    return path.with_name(f".{path.name}.replaced")


def restore_folder(path: Path) -> None:
    """Put back the folder that an interrupted replacement had set aside; remove it where it is not needed."""
    old = replaced(path)
    if not old.exists():
        return
    if not path.exists():
        os.replace(old, path)
    else:
        remove(old)


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise UsageError if `path` exists and may not be replaced."""
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists; choose another --out, or replace it with --overwrite")


def files_below(folder: Path, passed_over: Collection[str] = ()) -> list[Path]:
    """Return the files below a folder, sorted, without hidden ones and those in folders that are `passed_over`.

    Links to folders are not followed. Raises BadInput for a folder that cannot be read: what it holds would be missed.
    """
    found = []

    def refuse(error: OSError) -> None:
        raise BadInput(f"{error.filename} cannot be read ({error.strerror})") from error

    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in passed_over]
        found += [Path(place) / name for name in names if not name.startswith(".")]
    return sorted(found)


def real_path(path: Path) -> Path:
    """Return where a path leads in the end; as far as it leads, for a link that is broken or leads to itself."""
    return Path(os.path.realpath(path))  # Path.resolve raises where links form a loop


def name_of(path: Path) -> str:
    """Return a file's name as text, also where it is none: what is not UTF-8 in it is replaced."""
    return _as_text(path.name)


def names_of(paths: Sequence[Path]) -> list[str]:
    """Return the names of files as text, with as many of the folders above them as tell the files apart."""
    parts = [path.absolute().parts for path in paths]
    for shown in range(1, max(map(len, parts), default=0) + 1):
        names = [_as_text("/".join(each[-shown:])) for each in parts]
        if len(set(names)) == len(set(parts)):
            return names
    return [_as_text(str(path)) for path in paths]


def _as_text(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "replace")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise BadInput where the system does not let `path` be read, as it may at another time."""
    try:
        yield
    except OSError as error:
        raise BadInput(f"{path} cannot be read now ({error.strerror or error})") from error


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as hex digits."""
    with reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical(value: Any) -> str:
    """Return one JSON text for equal values: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def readable(path: Path) -> None:
    """Raise BadInput unless `path` is a file: a pipe or a device could be waited for without end."""
    if not path.exists():
        raise BadInput(f"{path} does not exist")
    if not path.is_file():
        raise BadInput(f"{path} is a {'folder' if path.is_dir() else 'pipe or device'}; expected a file")


def read_text(path: Path, limit: int = MAX_JSON_BYTES) -> str:
    """Read a UTF-8 text file of at most `limit` bytes; raise BadInput that says why it cannot be."""
    try:
        with reading(path):
            readable(path)
            if (size := path.stat().st_size) > limit:
                raise BadInput(f"{path} has {size} bytes, more than the limit of {limit}")
            return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text (byte {error.start})") from error


def parse_json(path: Path) -> Any:
    """Read a JSON file; NaN and infinity, which JSON does not have, are refused."""

    def refuse(constant: str) -> None:
        raise ValueError(f"holds {constant}, which JSON does not have")

    try:
        return json.loads(read_text(path), parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise BadInput(f"{path} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} {error}") from error


def read_json(path: Path, model: type[Model]) -> Model:
    """Read and validate a JSON file; raise BadInput with the place and the reason of the first fault."""
    return validated(path, model, parse_json(path))


def validated(path: Path, model: type[Model], value: Any) -> Model:
    """Validate parsed JSON of `path` against `model`; raise BadInput with the place and the reason."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(map(str, fault["loc"])) or "the whole file"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        reason = fault["msg"].removeprefix("Value error, ")
        raise BadInput(f"{path}: {place}: {reason}{more}{_other_version(value)}") from error


def _other_version(value: Any) -> str:
    """Say which medaug wrote a file, where it was not this one: its form may have changed."""
    wrote = value.get("tool_version") if isinstance(value, dict) else None
    return f"; medaug {wrote} wrote it, and this is {__version__}" if wrote not in (None, __version__) else ""


def write_json(path: Path, value: BaseModel | dict[str, Any]) -> None:
    """Publish a model or plain dict as indented JSON without NaN."""
    plain = value.model_dump(mode="json", exclude_none=True) if isinstance(value, BaseModel) else value
    publish_text(path, json.dumps(plain, indent=1, allow_nan=False, ensure_ascii=False) + "\n")
