"""The contract of a reader of scans."""

import random
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli.plugin import BadInput, Grid, StoredImage
from medaug_cli.testing.checking import Checks, Result, require
from medaug_cli.testing.contract import Subject, check_class
from medaug_cli.words import percent


def check_reader(
    plugin: type | str,
    settings: Mapping[str, Any] | None = None,
    report: Callable[[str], None] = lambda name: None,
    example: Path | None = None,
) -> list[Result]:
    """Check a reader, a class or the name of an installed one; with an `example` file also that it is read in full.

    Returns one result per check; checks that need what has failed are left out.
    """
    checks, subject = Checks(report), Subject("reader", plugin, settings or {})
    if not check_class(checks, subject):
        return checks.results
    if not checks.run("suffixes", lambda: _suffixes(subject.cls)):
        return checks.results
    checks.run("nonsense", lambda: _nonsense(subject))
    if example is not None and checks.run("example", lambda: _example(subject, example)):
        checks.run("truncated", lambda: _truncated(subject, example))
    return checks.results


def _suffixes(cls: Any) -> str:
    suffixes: Any = getattr(cls, "suffixes", None)
    fine = isinstance(suffixes, tuple) and all(
        isinstance(one, str) and one == one.lower() and one.startswith(".") and len(one) > 1 for one in suffixes
    )
    require(fine, f"suffixes is {suffixes!r}; expected a tuple of lower-case suffixes with their dot, as in ('.npy',)")
    claims = callable(getattr(cls, "claims", None))
    require(suffixes or claims, "it has neither suffixes nor a method `claims`, so it would never be asked")
    return ", ".join(suffixes)


def _nonsense(subject: Subject) -> str:
    """Check that what is not a scan is refused by BadInput and never becomes an image."""
    noise = random.Random(0)
    contents = (b"", b"this is no scan\n", bytes(4096), noise.randbytes(4096))
    with tempfile.TemporaryDirectory() as folder:
        for suffix in subject.cls.suffixes or (".scan",):
            for number, content in enumerate(contents):
                path = Path(folder) / f"{number}{suffix}"
                path.write_bytes(content)
                require(_refused(subject, path), f"it makes an image of {len(content)} bytes of nonsense ({suffix})")
    return "refused"


def _refused(subject: Subject, path: Path) -> bool:
    try:
        subject.make().read((path,))
    except BadInput:
        return True
    return False


def _example(subject: Subject, path: Path) -> str:
    found = subject.make().read((path,))
    require(isinstance(found, StoredImage), "read must return a StoredImage")
    dims = found.image.ndim - 1
    able = subject.cls.capabilities
    require(dims in able.dims and len(found.image) in able.channels, f"it gave the shape {found.image.shape}")
    require(found.image.dtype == np.float32, f"it gave {found.image.dtype}; expected float32")
    require(dims == 2 or isinstance(found.grid, Grid), "a volume needs a grid")
    return "x".join(map(str, found.image.shape))


def _truncated(subject: Subject, path: Path) -> str:
    """Check that a file which is cut off is refused, or gives what the whole one gives."""
    whole, content = subject.make().read((path,)).image, path.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        for share in (0.1, 0.5, 0.9, 0.99):
            cut = Path(folder) / path.name
            cut.write_bytes(content[: int(len(content) * share)])
            if not _refused(subject, cut):
                same = np.array_equal(subject.make().read((cut,)).image, whole)
                require(same, f"of {percent(share)} of the file it makes another image")
    return "refused"
