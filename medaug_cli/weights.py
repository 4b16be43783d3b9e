"""Weights of generators that packages bring: which are installed, where they lie, and what their cards say."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from pydantic import Field

from medaug_cli import __version__, registry
from medaug_cli.boxes import Strict
from medaug_cli.errors import BadInput, MissingPlugin, UsageError
from medaug_cli.files import read_json

GROUP = "medaug.weights"
CARD = "card.json"


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
