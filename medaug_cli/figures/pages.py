"""Pages from templates: one HTML file each, which loads nothing, and in which names and sentences stay text."""

import json
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


def filled(template: str, **content: Any) -> str:
    """Return a page: a template, by its path in the package, with its gaps filled."""
    return _templates().get_template(template).render(**content)


def script_data(value: Any) -> str:
    """Return a value as JSON that a script of a page reads; nothing in it ends the script."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


@cache
def _templates() -> "Environment":
    """Return the templates of the package, each compiled once a process."""
    from jinja2 import Environment, PackageLoader

    return Environment(loader=PackageLoader("medaug_cli", ""), autoescape=True, trim_blocks=True, lstrip_blocks=True)
