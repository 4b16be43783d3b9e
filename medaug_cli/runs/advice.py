"""What a person should know of a generator before drawing many images with it."""

from medaug_cli import registry
from medaug_cli.plugin import GeneratorCapabilities
from medaug_cli.runs.fitting import DEFAULT_KIMG
from medaug_cli.runs.metadata import GeneratorMetadata

FEW = 0.5  # of the images that others have seen


def of_generator(metadata: GeneratorMetadata) -> list[str]:
    """Say where a generator has seen far fewer images than it takes: than those of the documentation's pictures had."""
    able = registry.capabilities("generator", metadata.name)
    if not isinstance(able, GeneratorCapabilities) or not able.learns:
        return []
    if metadata.start is not None:  # it has not seen all that its weights have learnt from
        return []
    kimg = able.pictured or able.default_budget or DEFAULT_KIMG
    if metadata.images_shown >= FEW * 1000 * kimg:
        return []
    took = "the documentation's pictures took" if able.pictured else "by default it sees"
    return [
        f"the generator has seen {metadata.images_shown:,} images; {took} {1000 * kimg:,.0f}: "
        f"train-gan --kimg {kimg:g} --resume continues"
    ]
