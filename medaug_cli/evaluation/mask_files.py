"""Folders of masks, of anyone: pictures, label volumes or npy files, one of each image's name in every folder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medaug_cli.errors import BadInput
from medaug_cli.evaluation.class_files import patients_of
from medaug_cli.evaluation.named_images import read_patients
from medaug_cli.files import files_below
from medaug_cli.forms.annotations import Annotation
from medaug_cli.plugin import Grid
from medaug_cli.scans.mask_grids import only_turned
from medaug_cli.scans.masks import (
    PREDICTED,
    Labels,
    colour_name,
    labels_of_dataset,
    mask_values,
    predicted_labels,
)
from medaug_cli.scans.reading import read_stored, stem_of, suffix_of, suffixes
from medaug_cli.tasks.cases import Cases, Each
from medaug_cli.tasks.segmentation import ALL

NPY = ".npy"
DATASET = "dataset.json"
EXAMPLE = '{"labels": {"background": 0, "lesion": 1}}'
NEAR = 1e-3  # mm by which the places of two volumes may differ


@dataclass(frozen=True)
class MaskFile:
    """A mask as its file holds it."""

    path: Path
    values: np.ndarray  # (*s) int32
    grid: Grid | None = None  # of a volume
    flat_spacing: tuple[float, float] | None = None  # of a picture, where its file says it

    @property
    def spacing(self) -> list[float] | None:
        """Return mm in numpy axis order, None where the file does not say."""
        if self.grid is not None:
            return list(self.grid.spacing[::-1])
        return None if self.flat_spacing is None else list(self.flat_spacing)

    @property
    def size(self) -> str:
        """Return the sides as a person writes them: "64x64"."""
        return "x".join(map(str, self.values.shape))


@dataclass(frozen=True)
class MaskSet:
    """The masks of one folder: the file of each image, and what stands in it."""

    path: Path
    files: Mapping[str, Path]  # image -> file
    labels: Labels | None = None  # of a dataset.json or labels.json
    trusted: bool = True  # the truth, whose masks may not look like a mistake
    values: set[int] = field(default_factory=set)  # that were seen, 0 left out

    def read(self, image: str) -> MaskFile:
        """Return the mask of an image; raise BadInput where it is none."""
        return read_mask(self.files[image], self.labels, self.trusted)


def read_mask(path: Path, labels: Labels | None = None, trusted: bool = True) -> MaskFile:
    """Return what stands in a mask's file; see `scans.masks.mask_values`."""
    if path.suffix.lower() != NPY:
        found = read_stored((path,), labels=True)
        return MaskFile(path, mask_values(path, found.image, labels, strict=trusted), found.grid, found.spacing)
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())[:120]
        raise BadInput(f"{path} cannot be read as an array of numbers ({reason})") from error
    if array.dtype.kind not in "buif" or array.ndim not in (2, 3):
        raise BadInput(f"{path} holds {array.dtype} of shape {array.shape}; a mask has two or three axes of numbers")
    if not np.isfinite(array).all():
        raise BadInput(f"{path} holds values that are NaN or infinite")
    return MaskFile(path, mask_values(path, array[None].astype(np.float32), labels, strict=trusted))


def read_mask_truth(path: Path) -> MaskSet:
    """Return the masks of a folder, or the one in a file, with the names of their values that stand there or above."""
    if path.is_file():
        return MaskSet(path, {stem_of(path): path}, _labels(path.parent))
    return MaskSet(path, _named_files(path), _labels(path))


def read_mask_predictions(path: Path, truth: MaskSet) -> MaskSet:
    """Return the masks of a folder, one for each image of the truth; raise BadInput for others and for what lacks.

    Values are named as the folder says, else as the truth says.
    """
    if truth.path.is_file():
        if path.is_dir():
            raise BadInput(f"{path} is a folder, but the truth is the one mask {truth.path}")
        return MaskSet(path, dict.fromkeys(truth.files, path), _labels(path.parent) or truth.labels, trusted=False)
    if not path.is_dir():
        raise BadInput(f"{path} is not a folder; the truth is the folder {truth.path}")
    files = _named_files(path)
    for name, file in files.items():
        if name not in truth.files:
            raise BadInput(f"{file} fits no image of {truth.path}: it has no mask called {name}")
    missing = [name for name in truth.files if name not in files]
    if missing:
        raise BadInput(
            f"{path} has no mask of the image {missing[0]!r} of {truth.path} "
            f"({len(missing)} of {len(truth.files)} are missing)"
        )
    return MaskSet(path, files, _labels(path) or truth.labels, trusted=False)


def _named_files(folder: Path) -> dict[str, Path]:
    """Return the masks below a folder by name without suffix; raise BadInput for none, and for two of one name."""
    found: dict[str, Path] = {}
    for path in sorted(files_below(folder)):
        if suffix_of(path) not in (*suffixes(), NPY):
            continue
        name = (path.parent / stem_of(path)).relative_to(folder).as_posix()
        if name in found:
            raise BadInput(f"{found[name]} and {path} are masks of the same image; keep one")
        found[name] = path
    if not found:
        raise BadInput(f"{folder} holds no mask; the choices are {', '.join((*suffixes(), NPY))}")
    return found


def _labels(folder: Path) -> Labels | None:
    """Return what the values of masks stand for: by nnU-Net's dataset.json or predict's labels.json in their folder.

    A dataset.json above it counts where there is neither.
    """
    ours = None if (folder / DATASET).is_file() else predicted_labels(folder / PREDICTED)
    if ours is not None:
        return ours
    place = next((each / DATASET for each in (folder, folder.parent) if (each / DATASET).is_file()), None)
    labels = None if place is None else labels_of_dataset(place)
    if place is not None and labels is not None and sum(map(len, labels)) > len(set().union(*labels)):
        raise BadInput(f"{place} names regions that share values; give each label values of its own")
    return labels


def read_cases(
    truth: MaskSet,
    predictions: Mapping[str, MaskSet],
    pictures: Callable[[str, tuple[int, ...]], np.ndarray],
    patients: Path | None,
) -> tuple[Cases, dict[str, Sequence[np.ndarray]]]:
    """Return the truth as cases, and each system's label maps, read when they are needed.

    Every mask is looked at once before: raises BadInput for one of another size or place than the truth's, and for a
    value that the truth does not have. `pictures` gives the image behind a mask of such a name and size.
    """
    ids = list(truth.files)
    shapes: list[tuple[int, ...]] = []
    spacing: list[list[float] | None] = []
    for name in ids:
        own = truth.read(name)
        truth.values.update(np.unique(own.values[own.values > 0]).tolist())
        for each in predictions.values():
            _check_alike(own, other := each.read(name))
            each.values.update(np.unique(other.values[other.values > 0]).tolist())
        shapes.append(own.values.shape)
        spacing.append(own.spacing)
    if len({len(shape) for shape in shapes}) > 1:
        raise BadInput(f"{truth.path} holds pictures and volumes; evaluate each kind separately")
    (own_numbers, *others), names = _numbered(truth, predictions)
    named = read_patients(patients, ids) if patients is not None else None
    cases = Cases(
        ids=ids,
        patients=patients_of(truth.path, {name: Annotation() for name in ids}, named),
        names=names,
        truth=_maps(truth, ids, own_numbers),
        picture=lambda k: pictures(ids[k], shapes[k]),
        spacing=spacing,
    )
    maps = zip(predictions.items(), others, strict=True)
    return cases, {name: _maps(each, ids, numbers) for (name, each), numbers in maps}


def _check_alike(truth: MaskFile, other: MaskFile) -> None:
    grid, target = other.grid, truth.grid
    if grid and target and only_turned(grid, other.values.shape, target, truth.values.shape):
        raise BadInput(
            f"{other.path} lies where its truth {truth.path} does, but its axes are stored in another order or "
            "direction; store both alike"
        )
    if truth.values.shape != other.values.shape:
        hint = "; an npy file holds rows (and slices before them) first" if NPY in (
            truth.path.suffix, other.path.suffix) else ""  # fmt: skip
        raise BadInput(f"{other.path} is {other.size}, but its truth {truth.path} is {truth.size}{hint}")
    places = [("spacing", truth.spacing, other.spacing)]
    if truth.grid is not None and other.grid is not None:
        places += [(word, getattr(truth.grid, word), getattr(other.grid, word)) for word in ("origin", "direction")]
    for word, one, two in places:
        if one is not None and two is not None and np.abs(np.subtract(one, two)).max() > NEAR:
            raise BadInput(f"{other.path} has another {word} than its truth {truth.path}: they do not lie in one place")


def _numbered(
    truth: MaskSet, predictions: Mapping[str, MaskSet]
) -> tuple[list[Mapping[int, int] | None], tuple[str, ...]]:
    """Return the label 1, 2, ... of each value in the truth and each prediction, and what labels stand for.

    None for all of them where everything but 0 is one label. Values of a folder that names its own are matched by name.
    """
    if truth.labels is not None:
        names = tuple(dict.fromkeys(name for name in truth.labels.values() if name))
        return [_matched(each, truth, names) for each in (truth, *predictions.values())], names
    for each in predictions.values():
        named = sorted(each.labels.values()) if each.labels is not None else []
        if len(named) > 1:
            raise BadInput(
                f"{each.path} names what its values stand for ({', '.join(named)}), but {truth.path} does not; name "
                f"its labels in {truth.path / DATASET}, as {EXAMPLE}"
            )
    nothing: list[Mapping[int, int] | None] = [None] * (1 + len(predictions))
    if max(len(each.values) for each in (truth, *predictions.values())) < 2:
        return nothing, (ALL,)  # 255 in one folder may be 1 in the other
    for each in predictions.values():
        strange = sorted(each.values - truth.values)
        if strange:
            known = ", ".join(map(colour_name, sorted(truth.values))) or "nothing"
            raise BadInput(
                f"{each.path} marks the value {colour_name(strange[0])}, which no mask of {truth.path} has (it has "
                f"{known}); name all labels in {truth.path / DATASET}, as {EXAMPLE}"
            )
    numbers = {value: k for k, value in enumerate(sorted(truth.values), 1)}
    return [numbers] * len(nothing), tuple(map(colour_name, sorted(truth.values)))


def _matched(masks: MaskSet, truth: MaskSet, names: Sequence[str]) -> dict[int, int]:
    """Return the label of each value of masks by the names that they have; raise BadInput for one of another name."""
    own = masks.labels or {}
    for values, name in own.items():
        if name and name not in names and values & masks.values:
            raise BadInput(
                f"{masks.path} marks {name}, which is not among the labels of {truth.path} ({', '.join(names)})"
            )
    return {value: names.index(name) + 1 for values, name in own.items() if name in names for value in values}


def _maps(masks: MaskSet, ids: Sequence[str], numbers: Mapping[int, int] | None) -> Sequence[np.ndarray]:
    def read(index: int) -> np.ndarray:
        values = masks.read(ids[index]).values
        if numbers is None:
            return (values > 0).astype(np.uint8)
        found = np.zeros(values.shape, np.min_scalar_type(len(numbers)))
        for value, number in numbers.items():
            found[values == value] = number
        return found

    return Each(len(ids), read)
