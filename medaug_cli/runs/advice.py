"""What a person should know of a generator before drawing many images with it, and of a network before judging it."""

from medaug_cli import registry
from medaug_cli.plugin import GeneratorCapabilities
from medaug_cli.runs.fitting import DEFAULT_KIMG
from medaug_cli.runs.metadata import GeneratorMetadata, NetworkMetadata
from medaug_cli.words import counted

FEW = 0.5  # share of the images that a generator takes, or of the steps that a network takes by default


def of_generator(metadata: GeneratorMetadata) -> list[str]:
    """Say where a generator has seen far fewer images than it takes, as those of the documentation's pictures did."""
    able = registry.capabilities("generator", metadata.name)
    if not isinstance(able, GeneratorCapabilities) or not able.learns:
        return []
    if metadata.start is not None:  # its count leaves out what its first weights have seen
        return []
    kimg = able.pictured or able.default_budget or DEFAULT_KIMG
    if metadata.images_shown >= FEW * 1000 * kimg:
        return []
    took = "the documentation's pictures took" if able.pictured else "by default it sees"
    return [
        f"the generator has seen {metadata.images_shown:,} images; {took} {1000 * kimg:,.0f}: "
        f"train-gan STORE --out FOLDER --kimg {kimg:g} --resume, with the same other options, continues"
    ]


def of_network(kind: str, metadata: NetworkMetadata) -> list[str]:
    """Say where a network was trained for far fewer steps than by default, unless its patience ended them."""
    usual = getattr(registry.capabilities(kind, metadata.name), "default_budget", None)
    if not usual or metadata.settings.get("patience") or metadata.start is not None:
        return []
    if metadata.steps >= FEW * usual:
        return []
    return [f"the {kind} was trained for {counted(metadata.steps, 'step')}; by default it takes {usual:,.0f}"]
