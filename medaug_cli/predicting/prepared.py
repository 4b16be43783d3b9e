"""How new scans are pre-processed for a network: as the images were that it learned from."""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from medaug_cli.brain.files import masks_folder
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.preprocess.recipe import Recipe
from medaug_cli.store.joining import DIFFERING

ANNOTATED = {"label", "least_area", "with_masks", "keep_masks", "slices", "seed"}  # of lesions, not of images


def recipe_of(network: Path, prepared: Mapping[str, Any], strip: str | None) -> Recipe:
    """Return the recipe of the images that a network learned from; `strip` replaces its brain extraction.

    Raises BadInput where the network does not say how they were made, or learned from images that were made in several
    ways, or from regions around lesions; UsageError where brain masks that somebody else made are needed.
    """
    known = {each.name for each in fields(Recipe)} - ANNOTATED
    replaced = set() if strip is None else {"strip", "strip_settings"}
    if differing := known & set(prepared.get(DIFFERING, ())) - replaced:
        raise BadInput(
            f"{network} was trained on joined stores that were pre-processed with different settings "
            f"({', '.join(sorted(differing))}); train it on stores that were pre-processed alike, or preprocess the "
            "scans by hand and use detect or evaluate"
        )
    if "size" not in prepared:
        raise BadInput(
            f"{network} does not say how its images were pre-processed; train it again on a store of this version's "
            "preprocess, or preprocess the scans by hand and use detect or evaluate"
        )
    if prepared.get("region_mm"):
        raise BadInput(f"{network} was trained on regions around lesions; predict takes networks of whole images")
    recipe = Recipe(**{name: _tuples(value) for name, value in prepared.items() if name in known})
    if strip is not None:
        return replace(recipe, strip=strip, strip_settings=())
    if masks_folder(recipe.strip) is not None:
        raise UsageError(
            f"{network} was trained on images stripped by masks in a folder; give those of the new scans with --strip "
            "FOLDER, or --strip auto"
        )
    return recipe


def _tuples(value: Any) -> Any:
    """Return lists, as JSON has them, as tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
