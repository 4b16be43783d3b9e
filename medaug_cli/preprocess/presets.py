"""What scans of a modality need: `--modality us` stands for options, each of which can be given beside it instead."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from medaug_cli.errors import UsageError
from medaug_cli.preprocess.recipe import Recipe
from medaug_cli.scans.reading import Pixels

HOUNSFIELD = -100.0  # grey values of CT reach below it, as of air and fat; those of pictures do not


@dataclass(frozen=True)
class Preset:
    """The options of one modality; `mirrored`: whether a mirror image shows what could be a patient, too."""

    strip: str = "none"
    denoising: str = "none"
    window: tuple[float, float] | None = None  # of Hounsfield units
    mirrored: bool = True


PRESETS: Mapping[str, Preset] = {
    "mr-brain": Preset(strip="auto", denoising="auto"),
    "ct": Preset(window=(-1000.0, 400.0)),
    "us": Preset(),  # whose speckle is not noise
    "xray": Preset(mirrored=False),  # the heart has a side
    "other": Preset(),
}


def chosen_preset(modality: str | None) -> tuple[str | None, str | None]:
    """Return the preset in "us", "t1ce" or "mr-brain,t1ce", and which of a case's files are taken; None for none."""
    parts = [part.strip() for part in (modality or "").split(",") if part.strip()]
    presets = [part.lower() for part in parts if part.lower() in PRESETS]
    files = [part for part in parts if part.lower() not in PRESETS]
    if len(presets) > 1 or len(files) > 1:
        raise UsageError(
            f"--modality {modality}: expected one of {', '.join(PRESETS)}, one of a case's files, such as t1ce, or "
            "both, as in mr-brain,t1ce"
        )
    return next(iter(presets), None), next(iter(files), None)


def with_preset(recipe: Recipe, name: str | None, is_given: Callable[[str], bool]) -> Recipe:
    """Return a recipe with what a preset says of the fields that were not given."""
    if name is None:
        return recipe
    preset = PRESETS[name]
    told: dict[str, Any] = {"strip": preset.strip, "denoising": preset.denoising, "window": preset.window}
    return replace(recipe, preset=name, **{field: value for field, value in told.items() if not is_given(field)})


def are_sided(preset: str | None) -> bool:
    """Tell whether scans of a modality have a left and a right, so that no mirror image is a patient's."""
    return preset is not None and preset in PRESETS and not PRESETS[preset].mirrored


def without_needless_window(recipe: Recipe, first: Pixels) -> tuple[Recipe, list[str]]:
    """Return a recipe without the window of a preset where the first scan's grey values are not Hounsfield units."""
    preset = PRESETS.get(recipe.preset or "")
    if preset is None or preset.window is None or recipe.window != preset.window or first.image.min() < HOUNSFIELD:
        return recipe, []
    low, high = preset.window
    said = f"grey values from {first.image.min():g} on are not Hounsfield units: --window {low:g},{high:g} is not used"
    return replace(recipe, window=None), [said]
