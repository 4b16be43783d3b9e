"""What a trained generator, detector, classifier or segmenter says of itself: generator.json, detector.json, ..."""

from typing import Any, Literal

from pydantic import Field

from medaug_cli.boxes import Strict
from medaug_cli.plugin import ImageSpec


class Form(Strict):
    """The form of the images that a plugin was fitted on."""

    channels: int = Field(ge=1)
    spatial: list[int] = Field(min_length=2, max_length=3)
    label_names: list[str]
    bits: Literal[8, 16] = 8
    class_names: list[str] = []
    mask_names: list[str] = []
    masks: bool = False

    def spec(self) -> ImageSpec:
        """Return the form as plugins are given it."""
        return ImageSpec(
            self.channels,
            tuple(self.spatial),
            tuple(self.label_names),
            class_names=tuple(self.class_names),
            mask_names=tuple(self.mask_names),
            masks=self.masks,
        )


class ExternalPart(Strict):
    """An external store that something was also fitted on."""

    hash: str
    names: list[str]  # of where its images come from
    images: int
    annotated: int  # of them, those whose annotations were used
    share: float  # of a batch


class PluginMetadata(Strict):
    """Common to generators and networks: what it is, what it was fitted on, and the hash of its weights."""

    version: Literal[1] = 1
    tool_version: str
    name: str  # of the plugin
    distribution: str
    distribution_version: str
    settings: dict[str, Any]
    form: Form
    weights: str  # SHA-256 of the .safetensors file beside it
    seed: int
    precision: str
    training_store: str  # hash of its content
    training_images: int
    training_patients: list[str]  # digests
    external: list[ExternalPart] = []
    fold: str | None = None  # "2/5" where it was fitted on a fold, and not on the store's own training split


class GeneratorMetadata(PluginMetadata):
    """generator.json: enough to draw images with it, nothing of the images it has seen."""

    condition: Literal["none", "boxes", "mask", "label"]
    images_shown: int
    draws: list[str] = []  # the kinds of images that it was fitted on alone; empty: on all
    start: str | None = None  # SHA-256 of the weights that it began with
    unannotated_images: int = 0  # that it was fitted on without a condition
    parts: dict[str, str] = {}  # kind of image -> the folder below of the generator that draws it


class SyntheticPart(Strict):
    """A synthetic store that a network was also fitted on."""

    hash: str
    images: int
    generators: list[str]


class NetworkMetadata(PluginMetadata):
    """detector.json, classifier.json and segmenter.json."""

    steps: int
    synthetic: list[SyntheticPart] = []
    ratio: float | None = None
    synthetic_only: bool = False
    start: str | None = None  # SHA-256 of the weights that it went on from
    prepared: dict[str, Any] = {}  # how its images were pre-processed, as their store says
    validation: dict[str, float] = {}
