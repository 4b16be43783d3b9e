"""Publish results by rename, so that a file that exists is always whole."""

import glob
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from medaug_cli.errors import BadInput, UsageError

MAX_JSON_BYTES = 1 << 30

Model = TypeVar("Model", bound=BaseModel)


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well it becomes `path`, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(path)
    temporary = _temporary(path)
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.tmp")


def remove_stale(path: Path) -> None:
    """Remove the temporary files and folders that killed processes of this machine left beside `path`."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.{glob.escape(platform.node())}.*.tmp"):
        process = left.name.split(".")[-2]
        if process.isdigit() and not Path(f"/proc/{process}").exists() and Path("/proc/self").exists():
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def remove_folder(folder: Path, beside: Path) -> None:
    """Remove a folder at once: a kill leaves it whole, or nothing but what `remove_stale(beside)` removes."""
    gone = _temporary(beside)
    try:
        os.replace(folder, gone)
    except FileNotFoundError:
        return
    shutil.rmtree(gone, ignore_errors=True)


def publish_bytes(path: Path, content: bytes) -> None:
    """Write a whole file or nothing."""
    with new_file(path) as temporary:
        temporary.write_bytes(content)


def publish_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 text file or nothing."""
    publish_bytes(path, text.encode())


def publish_folder(finished: Path, path: Path) -> None:
    """Rename a finished folder to `path`, replacing a folder that is there.

    The two renames of a replacement cannot be one; `restore_folder` undoes the first where a kill
    fell between them.
    """
    for file in sorted(finished.rglob("*"), reverse=True):
        sync(file)
    sync(finished)
    old = path.with_name(f"{path.name}.replaced")
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(path, old)
    os.replace(finished, path)
    sync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; when the block ends well it becomes `path`, else nothing is left of it."""
    work = path.with_name(f"{path.name}.parts")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        yield work
        publish_folder(work, path)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def restore_folder(path: Path) -> None:
    """Put back the folder that an interrupted replacement had set aside; remove it where it is not needed."""
    old = path.with_name(f"{path.name}.replaced")
    if old.exists() and not path.exists():
        os.replace(old, path)
    shutil.rmtree(old, ignore_errors=True)


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise UsageError if `path` exists and may not be replaced."""
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists; choose another --out, or replace it with --overwrite")


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical(value: Any) -> str:
    """Return one JSON text for equal values: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def readable(path: Path) -> None:
    """Raise BadInput unless `path` is a file."""
    if not path.exists():
        raise BadInput(f"{path} does not exist")
    if not path.is_file():
        raise BadInput(f"{path} is a folder, a file is wanted")


def read_text(path: Path, limit: int = MAX_JSON_BYTES) -> str:
    """Read a UTF-8 text file of at most `limit` bytes; raise BadInput that says why it cannot be."""
    readable(path)
    if path.stat().st_size > limit:
        raise BadInput(f"{path} has {path.stat().st_size} bytes, more than the {limit} that are read")
    try:
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
        raise BadInput(f"{path}: {place}: {reason}{more}") from error


def write_json(path: Path, value: BaseModel | dict[str, Any]) -> None:
    """Publish a model or plain dict as indented JSON without NaN."""
    plain = value.model_dump(mode="json", exclude_none=True) if isinstance(value, BaseModel) else value
    publish_text(path, json.dumps(plain, indent=1, allow_nan=False, ensure_ascii=False) + "\n")
