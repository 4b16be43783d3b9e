"""What the site needs beyond its pages: links to files of the repository, which it does not hold, become plain text."""

import re
from typing import Any


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return a page whose links stay on the site."""
    above = "../" * (1 + page.file.src_uri.count("/"))  # out of the folder of the docs
    return re.sub(rf"\[((?:[^\[\]]|\[[^\]]*\])*)\]\({re.escape(above)}[^)]*\)", r"\1", markdown)
