"""What the site needs beyond its pages: links to files of the repository, which it does not hold, become plain text."""

import re
from typing import Any

OUTSIDE = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\(\.\./[^)]*\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return a page whose links stay on the site."""
    return OUTSIDE.sub(r"\1", markdown)
