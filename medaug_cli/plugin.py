"""Everything a plugin may import.

Legend of shapes: n images, b images per batch, m boxes of an image, c channels,
*s spatial axes in numpy order ((height, width) or (depth, height, width)), d = len(s).
Boxes are half-open pixel corners, low corner then high corner, x first: (m, 2*d) float32.
Pixels are float32 in [0, 1] wherever a plugin meets them.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import MISSING, dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, get_args, runtime_checkable

import numpy as np

from medaug_cli.blending import DARK, MARGIN, blended, faded, window
from medaug_cli.errors import BadInput, BrokenContract, MedaugError, MissingPlugin, UsageError
from medaug_cli.plugin_scans import Grid, MaskFile, Reader, ScanFiles, StoredImage, text_path

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

__all__ = [
    "API_VERSION",
    "DARK",
    "MARGIN",
    "BadInput",
    "Capabilities",
    "Classifier",
    "Condition",
    "Continuing",
    "Detections",
    "Detector",
    "Drawn",
    "Examples",
    "ExportedFiles",
    "ExportedGraph",
    "Extracted",
    "Featured",
    "Generator",
    "GeneratorCapabilities",
    "Grid",
    "ImageSpec",
    "Knowing",
    "Known",
    "MaskFile",
    "MedaugError",
    "MissingPlugin",
    "NetworkCapabilities",
    "Plane",
    "Previewed",
    "Reader",
    "Run",
    "ScanFiles",
    "Segmenter",
    "StoredImage",
    "Stripper",
    "UsageError",
    "as_drawn",
    "as_extracted",
    "blended",
    "box_map",
    "faded",
    "image_seed",
    "knowledge",
    "setting",
    "text_path",
    "window",
]

API_VERSION = 1

ConditionKind = Literal["none", "boxes", "mask", "label"]
Known = Literal["boxes", "labels", "mask", "class"]  # of an image that is drawn; labels: which lesions, not where
BOXES: tuple[Known, ...] = ("boxes",)
Plane = Literal["axial", "coronal", "sagittal"]
Detections = tuple[np.ndarray, np.ndarray, np.ndarray]  # boxes (m, 2*d), scores (m,), labels (m,)


@dataclass(frozen=True)
class Capabilities:
    """What any plugin can work on; the core refuses anything else before it calls it.

    Readers and strippers say no more than `dims` and `channels`.
    """

    dims: tuple[int, ...] = (2,)
    channels: tuple[int, ...] = (1, 3)
    power_of_two: bool = False  # every spatial axis must be a power of two
    default_budget: float | None = None  # kimg of a generator, optimizer steps of a network
    shares: bool = False  # `fit` shares each batch among the processes of a run (`run.rank`, `run.world`)


@dataclass(frozen=True)
class GeneratorCapabilities(Capabilities):
    """What a generator can draw, and how it learns."""

    condition: ConditionKind = "boxes"
    pictured: float | None = None  # kimg that the pictures in its documentation took
    learns: bool = True  # False: `fit` keeps what it needs in one pass, whatever the budget
    keeps_images: bool = False  # its weights hold training images: they are never exported to be shared
    continues: bool = False  # it can begin with the networks of another: it is `Continuing`
    unannotated: bool = False  # `fit` also learns from images of which no condition is known (`Examples.annotated`)


@dataclass(frozen=True)
class NetworkCapabilities(Capabilities):
    """What a detector, a classifier or a segmenter can do."""

    continues: bool = False  # `fit` after `load_state_dict` goes on from those weights
    exports: tuple[str, ...] = ()  # forms: "onnx" by `graph()`, any other by `files(form)`
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # arms of a study -> settings


@dataclass(frozen=True)
class ImageSpec:
    """The form of the images of a store: what a network needs to know before it sees one."""

    channels: int
    spatial: tuple[int, ...]  # (height, width) or (depth, height, width)
    label_names: tuple[str, ...]
    class_names: tuple[str, ...] = field(default=(), compare=False)  # of whole images; a detector need not know them
    mask_names: tuple[str, ...] = field(default=(), compare=False)  # of the values 1, 2, ... of masks
    masks: bool = field(default=False, compare=False)  # whether the store holds masks

    @property
    def dims(self) -> int:
        """Return how many axes an image has: 2 or 3."""
        return len(self.spatial)

    def __str__(self) -> str:
        """Write what two forms must have in common: "64x64, 1 channel, boxes of glioma"."""
        sides, several = "x".join(map(str, self.spatial)), "" if self.channels == 1 else "s"
        return f"{sides}, {self.channels} channel{several}, boxes of {', '.join(self.label_names) or 'nothing'}"


@dataclass(frozen=True)
class Condition:
    """What one image is asked to show."""

    spatial: tuple[int, ...]
    boxes: np.ndarray  # (m, 2*d) float32
    labels: np.ndarray  # (m,) int64, indices into ImageSpec.label_names
    mask: np.ndarray | None = None  # (*s) uint8, 0 outside the lesion
    image_class: int = -1  # index into ImageSpec.class_names, -1 where none is asked for


@dataclass(frozen=True)
class Drawn:
    """An image that shows more than it was asked for, as a real slice does that keeps its own lesions."""

    image: np.ndarray  # (c, *s) float32 in [0, 1]
    boxes: np.ndarray  # (m, 2*d) float32, every lesion in it
    labels: np.ndarray  # (m,) int64
    mask: np.ndarray | None = None  # (*s) uint8
    image_class: int = -1


class Examples(Protocol):
    """Annotated images to fit on: only real training images for a generator, a mixture for a detector."""

    spec: ImageSpec
    boxes: Sequence[np.ndarray]  # n of (m, 2*d) float32
    labels: Sequence[np.ndarray]  # n of (m,) int64
    patients: Sequence[str]
    classes: np.ndarray  # (n,) int64, indices into ImageSpec.class_names, -1 unknown
    synthetic: np.ndarray  # (n,) bool, which images a generator drew
    annotated: np.ndarray  # (n,) bool; elsewhere no box does not mean no lesion, and there is no condition to ask for

    def __len__(self) -> int: ...

    @property
    def weights(self) -> np.ndarray:
        """Return how often each image is to be drawn, (n,) float64 of sum 1; it may change as a run goes on."""
        ...

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return images (b, c, *s) as float32 in [0, 1]."""
        ...

    def condition(self, index: int) -> Condition:
        """Return the boxes, labels, mask and class of one image as a condition."""
        ...


class Run(Protocol):
    """One training run as the plugin sees it. The core owns files, devices, progress and time.

    A loop is `while run.fraction(done) < 1:` with `done` in images (generators) or optimiser steps
    (detectors). A run that derives each step's randomness from `seed` and `done` and restores
    `state` resumes to the bit.

    Only a plugin that `shares` meets more than one process: each takes its part of every batch,
    `batch[run.rank :: run.world]`, and averages its gradients with the others' before a step. All of
    them call the methods below alike; the core lets the first alone write, draw and score.
    """

    device: str  # "cpu", "cuda:0", "mps"
    precision: Literal["32", "bf16", "16"]
    seed: int
    workers: int
    state: Mapping[str, Any] | None  # what `checkpoint` last wrote, when this run resumes
    rank: int  # of this process among those that fit this plugin together, from 0
    world: int  # how many they are, mostly 1

    def fraction(self, done: int) -> float:
        """Return how much of the asked-for work is done, 0 to 1 and beyond; stop at 1."""
        ...

    def autocast(self) -> AbstractContextManager:
        """Return torch.autocast for this device and precision (nothing at precision 32)."""
        ...

    def average(self, tensors: "Iterable[Tensor]") -> None:
        """Replace gradients, or any tensors, by their means over the processes, in place."""
        ...

    def log(self, done: int, **values: float) -> None:
        """Append numbers to metrics.jsonl and show them; cheap enough to call often."""
        ...

    def checkpoint(self, done: int, state: Callable[[], dict[str, Any]], force: bool = False) -> bool:
        """Write `state()` if a checkpoint is due, and sample pictures with it; return whether it was.

        The state holds tensors, numbers, strings, lists and dicts only (it is read back with
        `weights_only=True`).
        """
        ...

    def validate(self, predict: Callable[[Iterable[np.ndarray]], Iterator[Any]]) -> dict[str, float]:
        """Score what a plugin's `predict` yields on the validation split: `score` (larger is better) and its parts.

        Empty when there is no validation split, and for generators.
        """
        ...


class Fitted(Protocol):
    """What every fitted plugin has: it is a dataclass whose fields are hyperparameters, and inherits nothing."""

    def fit(self, data: Examples, run: Run) -> None:
        """Learn from the examples until the run's budget is spent; a resumed run goes on from its checkpoint."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return name -> tensor of all that it needs once it is fitted."""
        ...

    def load_state_dict(self, state: Mapping[str, Any], spec: ImageSpec, device: str = "cpu") -> None:
        """Take up what `state_dict` returned, for images of this form; raise BadInput where it does not fit."""
        ...


@runtime_checkable
class Generator(Fitted, Protocol):
    """Draws images for conditions."""

    capabilities: ClassVar[GeneratorCapabilities]

    def state_dict(self) -> dict[str, Any]:
        """Return name -> tensor of what `sample` needs and no more: no discriminator, no training image."""
        ...

    def sample(self, conditions: Iterable[Condition], seeds: Iterable[int]) -> Iterator[np.ndarray | Drawn]:
        """Yield one image (c, *s) float32 in [0, 1] a condition; each depends on its own seed alone.

        Where an image shows other lesions besides those asked for, yield a `Drawn` that names them all.
        """
        ...


@runtime_checkable
class Continuing(Protocol):
    """A generator whose `capabilities.continues`: it can begin with what another one of its kind has learnt."""

    def begin_with(self, other: Any, spec: ImageSpec, checkpoint: Mapping[str, Any] | None) -> Sequence[str]:
        """Let the next `fit`, on images of this form, begin with the networks of `other`, which is loaded.

        `checkpoint` is what the `fit` of that one wrote last, where it is at hand. Return in words what is begun anew,
        since the two are not alike in it; raise BadInput where nothing is alike.
        """
        ...


@runtime_checkable
class Knowing(Protocol):
    """A generator that knows something else of its images than its `capabilities.condition` tells."""

    def knows(self, spec: ImageSpec) -> Collection[Known]:
        """Return what it knows of an image that it draws, fitted with these settings on a store of this form.

        A plain image is then taken to show the boxes, mask or class that it was asked for; `Drawn` says otherwise.
        """
        ...


@runtime_checkable
class Detector(Fitted, Protocol):
    """Finds lesions in images."""

    capabilities: ClassVar[NetworkCapabilities]

    def predict(self, images: Iterable[np.ndarray]) -> Iterator[Detections]:
        """Yield (boxes, scores, labels) an image (c, *s) float32 in [0, 1], best score first.

        Scores lie in [0, 1]; nothing below 0.001 need be returned.
        """
        ...


@runtime_checkable
class Previewed(Protocol):
    """A detector that shows how it augments."""

    def augmented(
        self, images: np.ndarray, boxes: Sequence[np.ndarray], labels: Sequence[np.ndarray], seed: int
    ) -> tuple[np.ndarray, Sequence[np.ndarray], Sequence[np.ndarray]]:
        """Return images (b, c, *s), their boxes and labels as a step of `fit` might see them."""
        ...


@runtime_checkable
class ExportedGraph(Protocol):
    """A network whose `capabilities.exports` names "onnx"."""

    def graph(self) -> "Module":
        """Return a module from images (b, c, *s) to what the network says of them.

        Of a detector these are boxes (b, n, 2*d) and scores (b, n, k), before the suppression that the setting `nms`
        describes; of a classifier probabilities (b, k), of a segmenter (b, 1 + labels, *s), the background's first.
        """
        ...


@runtime_checkable
class ExportedFiles(Protocol):
    """A detector whose `capabilities.exports` names forms of its own."""

    def files(self, form: str) -> Mapping[str, bytes]:
        """Return the detector in a form, name -> content of each file."""
        ...


@runtime_checkable
class Classifier(Fitted, Protocol):
    """Tells the class of an image."""

    capabilities: ClassVar[NetworkCapabilities]

    def predict(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the probabilities (k,) of `spec.class_names` of each image (c, *s) float32 in [0, 1]; they sum to 1."""
        ...


@runtime_checkable
class Featured(Protocol):
    """A classifier that shows what it looks at, as in Han et al., 2.5."""

    def features(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the numbers (f,) of the last layer before the class scores of each image (c, *s)."""
        ...


@runtime_checkable
class Segmenter(Fitted, Protocol):
    """Outlines lesions."""

    capabilities: ClassVar[NetworkCapabilities]

    def predict(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the label map (*s) uint8 of each image (c, *s) float32 in [0, 1]: 0 outside, then `spec.mask_names`."""
        ...


@dataclass(frozen=True)
class Extracted:
    """A brain mask (*s), and numbers that judge it; `agreement`, from 0 to 1, below 0.75 makes it doubtful."""

    mask: np.ndarray
    measures: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class Stripper(Protocol):
    """A dataclass whose fields are settings; nothing is inherited.

    Building one raises MissingPlugin in a sentence where its weights or its tool are not there. It trains nothing.
    """

    capabilities: ClassVar[Capabilities]  # dims alone is asked: slices (2), volumes (3) or both

    def extract(
        self, image: np.ndarray, spacing: tuple[float, ...] | None, plane: Plane | None
    ) -> np.ndarray | Extracted:
        """Return the brain's mask (*s) of an image (*s) float32 as its scanner stored it, True or > 0 inside.

        A volume (z, y, x) runs to the head, the back and the patient's left; `spacing` is mm in that order, None
        for a picture that does not say. `plane` is a picture's, where it is known.
        """
        ...


def setting(default: Any = MISSING, help: str = "", **metadata: Any) -> Any:
    """Declare a hyperparameter of a plugin dataclass, with one line of help.

    `minimum`, `maximum` and `choices` are checked when a plugin is built. A setting that a later version adds must
    change nothing at its default: runs of earlier versions, which lack it, are taken to have it there.
    """
    return field(default=default, metadata={"help": help, **metadata})


def knowledge(generator: Generator, spec: ImageSpec) -> frozenset[Known]:
    """Return what a generator knows of an image that it draws, fitted or not, on a store of this form."""
    if isinstance(generator, Knowing):
        known = generator.knows(spec)
        if isinstance(known, str) or not set(known) <= set(get_args(Known)):
            choices = ", ".join(get_args(Known))
            raise BrokenContract(f"{type(generator).__name__}.knows returns {known!r}; expected a set of {choices}")
        return frozenset(known)
    told: dict[str, tuple[Known, ...]] = {"boxes": ("boxes",), "mask": ("boxes", "mask"), "label": ("labels",)}
    return frozenset(told.get(generator.capabilities.condition, ()))


def as_drawn(image: np.ndarray | Drawn, condition: Condition, known: Collection[Known] = BOXES) -> Drawn:
    """Return what a generator yielded with what is `known` to be in it: what was asked for, where it names nothing."""
    asked_class = condition.image_class if "class" in known else -1
    if isinstance(image, Drawn):
        return image if image.image_class >= 0 else replace(image, image_class=asked_class)
    mask = condition.mask if "mask" in known else None
    if "boxes" in known:
        return Drawn(np.asarray(image), condition.boxes, condition.labels, mask, asked_class)
    return Drawn(np.asarray(image), condition.boxes[:0], condition.labels[:0], mask, asked_class)


def as_extracted(found: np.ndarray | Extracted) -> Extracted:
    """Return what a stripper gave as a mask with measures: none, where it gave the mask alone."""
    return found if isinstance(found, Extracted) else Extracted(np.asarray(found))


def image_seed(seed: int, index: int) -> int:
    """Return the seed of image `index` of a run: the same whichever batch or machine makes it."""
    state = np.random.SeedSequence(seed, spawn_key=(index,)).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def box_map(boxes: np.ndarray, spatial: tuple[int, ...]) -> np.ndarray:
    """Draw boxes white on black: (m, 2*d) -> (*s) float32, each pixel the share of it that a box covers.

    At any resolution this is the map of CPGGAN (Han et al. 2019, 2.2) without aliasing; scale the
    boxes first for a coarser grid.
    """
    drawn = np.zeros(spatial, np.float32)
    d = len(spatial)
    for box in np.asarray(boxes, np.float32).reshape(-1, 2 * d):
        cover = np.ones((), np.float32)
        for axis, length in enumerate(spatial):  # numpy axis 0 is the last box coordinate
            low, high = box[d - 1 - axis], box[2 * d - 1 - axis]
            edge = np.arange(length, dtype=np.float32)
            share = np.clip(np.minimum(high, edge + 1) - np.maximum(low, edge), 0, 1)
            cover = np.multiply.outer(cover, share)
        np.maximum(drawn, cover, out=drawn)
    return drawn
