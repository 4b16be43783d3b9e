"""How weights are made for others to begin with, and what a run that begins with them finds of a discriminator."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import publish_bytes, publish_text
from medaug_cli.runs.loading import load_parts, packed, save_plugin
from medaug_cli.runs.training import newest_checkpoint
from medaug_cli.weights import CARD, WeightsCard

DISCRIMINATOR = "discriminator.safetensors"  # beside generator.safetensors, where anyone may have the training images


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
    """Return what a generator's `fit` wrote last, or what installed weights hold of it; None where there is neither.

    Raises BadInput where that is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = folder / DISCRIMINATOR
    if not path.is_file():
        found = newest_checkpoint(folder)
        if found is None and (damaged := sorted((folder / "checkpoints").glob("*.pt"))):
            raise BadInput(
                f"{damaged[-1]} is damaged, and so is what is before it; remove {damaged[0].parent} to begin with the "
                "generator alone"
            )
        return found
    try:
        return {"discriminator": load(path.read_bytes())}
    except SafetensorError as error:
        raise BadInput(f"{path} is damaged ({error})") from error
