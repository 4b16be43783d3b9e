"""Weights of generators that packages bring, by name, each with a card; and how such weights are made."""

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from pydantic import Field

from medaug_cli import __version__, registry
from medaug_cli.boxes import Strict
from medaug_cli.errors import BadInput, MissingPlugin, UsageError
from medaug_cli.files import publish_bytes, publish_text, read_json
from medaug_cli.runs.loading import load_parts, packed, save_plugin
from medaug_cli.runs.training import newest_checkpoint

GROUP = "medaug.weights"
CARD = "card.json"
DISCRIMINATOR = "discriminator.safetensors"  # beside generator.safetensors, where anyone may have the training images


class WeightsCard(Strict):
    """card.json: what a person must know of weights before beginning with them."""

    tool_version: str = __version__
    draws: str  # what, in words
    data: str  # what they were fitted on, and whose it is
    licence: str  # of the data, and so of the weights
    source: str  # where the data may be had: a citation, a DOI
    hours: float = Field(ge=0)  # of one thread's work
    measures: dict[str, float] = {}  # of `medaug tsne`, against the real training images
    copies: float | None = None  # share of drawn images that are nearer to a training image than held-out ones are
    not_for: str  # who must not use them, and for what
    start_with: dict[str, bool | int | float | str] = {}  # settings of the generator, for a run that begins with them


@dataclass(frozen=True)
class NamedWeights:
    """Installed weights that have not been opened yet."""

    name: str
    distribution: str
    version: str
    place: str  # the module in whose folder they lie


def named_weights() -> dict[str, NamedWeights]:
    """Return the installed weights by name, importing none of the packages that bring them."""
    found: dict[str, NamedWeights] = {}
    for entry in registry.entry_points(GROUP):
        distribution, version = registry.about(entry)
        if entry.name in found:
            owners = f"{found[entry.name].distribution} and {distribution}"
            raise MissingPlugin(f"{owners} both bring weights named {entry.name!r}; uninstall one of them")
        found[entry.name] = NamedWeights(entry.name, distribution, version, entry.value)
    return dict(sorted(found.items()))


def weights_folder(name: str) -> Path:
    """Return the folder of installed weights; raise UsageError for an unknown name, MissingPlugin for no generator."""
    installed = named_weights()
    if name not in installed:
        raise UsageError(f"no weights {name!r} are installed; {_choices(name, installed)}")
    whose = f"the weights {name!r} of {installed[name].distribution}"
    try:
        place: Traversable = files(installed[name].place)
    except (ImportError, TypeError) as error:
        raise MissingPlugin(f"{whose} cannot be found ({error})") from error
    folder = Path(str(place))
    if not (folder / "generator.json").is_file():
        raise MissingPlugin(f"{whose} hold no generator (generator.json is missing in {folder})")
    return folder


def generator_folder(given: str | Path) -> Path:
    """Return the folder of a generator that is given by its folder, finished or not, or as installed weights by name.

    A folder takes precedence over a name. Raises BadInput where there is neither.
    """
    folder = Path(given)
    if folder.exists() or folder.with_name(f"{folder.name}.parts").exists():
        return folder
    installed = named_weights()
    if str(given) in installed:
        return weights_folder(str(given))
    raise BadInput(
        f"{given} holds no trained generator (there is no such folder, and no installed weights of that name; "
        f"{_choices(str(given), installed)})"
    )


def _choices(name: str, installed: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(installed), 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}installed: {', '.join(installed) or 'none'}"


def card_of(folder: Path) -> WeightsCard | None:
    """Return the card beside a generator's weights; None where there is none."""
    return read_json(folder / CARD, WeightsCard) if (folder / CARD).is_file() else None


def write_weights(trained: Path, folder: Path, card: WeightsCard, *, discriminator: bool = False) -> int:
    """Write the generator of a trained folder in half precision, with its card; return how many bytes that takes.

    The digests of its training patients stay: guards know by them whom the weights have seen. `discriminator` writes
    that of the newest checkpoint too: a run that begins with both loses Adam's moments alone, but a discriminator tells
    who was in the training set, so it is for images that are public anyway. Raises UsageError for a generator whose
    weights hold training images, or that draws each class from a generator of its own, BadInput where there is no
    discriminator.
    """
    metadata, parts = load_parts(trained)
    plugin = next(iter(parts.values()))
    if metadata.parts or plugin.capabilities.keeps_images:
        why = "holds a generator for each class" if metadata.parts else "keeps training images in its weights"
        raise UsageError(f"{trained}: it {why}, so it cannot be installed as weights to start from")
    opponent = _newest_discriminator(trained) if discriminator else None
    folder.mkdir(parents=True, exist_ok=True)
    described: dict[str, Any] = metadata.model_dump(exclude={"weights"})
    save_plugin(folder, "generator", plugin, described, half=True)
    if opponent is None:
        (folder / DISCRIMINATOR).unlink(missing_ok=True)  # of an earlier writing: it may not be handed on
    else:
        publish_bytes(folder / DISCRIMINATOR, packed(opponent, half=True))
    publish_text(folder / CARD, json.dumps(card.model_dump(mode="json"), indent=1) + "\n")
    written = ("generator.safetensors", "generator.json", CARD, *([DISCRIMINATOR] if opponent is not None else []))
    return sum((folder / name).stat().st_size for name in written)


def _newest_discriminator(trained: Path) -> Mapping[str, Any]:
    found = (newest_checkpoint(trained) or {}).get("discriminator")
    if not found:
        raise BadInput(f"{trained} holds no checkpoint with a discriminator; keep its checkpoints")
    return found


def checkpoint_of(folder: Path) -> Mapping[str, Any] | None:
    """Return what a generator's `fit` wrote last, or what installed weights hold of it; None where there is neither."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = folder / DISCRIMINATOR
    if not path.is_file():
        return newest_checkpoint(folder)
    try:
        return {"discriminator": load(path.read_bytes())}
    except SafetensorError as error:
        raise BadInput(f"{path} is damaged ({error})") from error
