"""JSON Schemas (2020-12) of every file that users or plugins write or read.

They are generated from the models that medaug itself validates with: `python -m data_schemas`.
"""

import json
from importlib.resources import files
from typing import Any


def names() -> list[str]:
    """Return the names of the schemas."""
    ending = ".schema.json"
    return sorted(file.name.removesuffix(ending) for file in files(__name__).iterdir() if file.name.endswith(ending))


def load(name: str) -> dict[str, Any]:
    """Return a schema; raise KeyError, naming the choices, if there is none of that name."""
    if name not in names():
        raise KeyError(f"no schema {name!r}; the choices are {', '.join(names())}")
    return json.loads(files(__name__).joinpath(f"{name}.schema.json").read_text(encoding="utf-8"))
