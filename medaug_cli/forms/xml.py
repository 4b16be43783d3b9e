"""XML files of annotations, without what XML can do to a reader."""

import re
from pathlib import Path
from typing import Any

from medaug_cli.errors import BadInput
from medaug_cli.files import readable

ROOT = re.compile(r"<([A-Za-z_][\w.-]*)")
MAX_XML_BYTES = 1 << 30
HEAD = 4096  # bytes in which the root stands


def root_of(path: Path) -> str | None:
    """Return the name of an XML file's root element, None for another file."""
    if path.suffix.lower() != ".xml":
        return None
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return None
    text = head.decode("utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8", "replace")
    found = ROOT.search(re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL))
    return found.group(1) if found else None


def parse_xml(path: Path) -> Any:
    """Return the root element of an XML file, in the encoding that it says; raise BadInput where it is broken.

    So are files that would expand entities.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    readable(path)
    if path.stat().st_size > MAX_XML_BYTES:
        raise BadInput(f"{path} has {path.stat().st_size} bytes, more than the limit of {MAX_XML_BYTES}")
    try:
        return fromstring(path.read_bytes())
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise BadInput(f"{path} is not XML: {error}") from error
