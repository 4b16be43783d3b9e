"""XML files of annotations, without what XML can do to a reader."""

import re
from pathlib import Path
from typing import Any

from medaug_cli.errors import BadInput
from medaug_cli.files import read_text

ROOT = re.compile(r"<([A-Za-z_][\w.-]*)")
HEAD = 4096  # bytes in which the root stands


def root_of(path: Path) -> str | None:
    """Return the name of an XML file's root element, None for another file."""
    if path.suffix.lower() != ".xml":
        return None
    try:
        with path.open("rb") as file:
            head = file.read(HEAD).decode("utf-8", "replace")
    except OSError:
        return None
    found = ROOT.search(re.sub(r"<!--.*?-->", "", head, flags=re.DOTALL))
    return found.group(1) if found else None


def parse_xml(path: Path) -> Any:
    """Return the root element of an XML file; raise BadInput where it is broken, or would expand entities."""
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    try:
        return fromstring(read_text(path))
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise BadInput(f"{path} is not XML: {error}") from error
