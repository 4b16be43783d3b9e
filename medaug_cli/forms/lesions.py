"""The lesions of a scan in the pixels that are processed: from flat boxes, boxes in 3D, or a mask."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from medaug_cli.errors import BadInput
from medaug_cli.forms.agreement import agree
from medaug_cli.forms.annotations import Annotation, Note
from medaug_cli.forms.outlines import label_map
from medaug_cli.forms.policy import LESION, UNMET, UNNAMED, cut_off
from medaug_cli.scans.grids import moved_boxes, placed_boxes
from medaug_cli.scans.mask_grids import read_mask
from medaug_cli.scans.masks import Labels, joined_parts, labelled_components, mask_values, sizes_below, unnamed
from medaug_cli.scans.reading import Pixels, Scan

GRAZE = 0.1  # of a slice; less is rounding


@dataclass(frozen=True)
class Lesions:
    """Where the lesions of a scan are: `values` of a label map, or else boxes."""

    boxes: np.ndarray  # (m, 2*d) float32, as the pixels lie
    labels: list[str]
    notes: list[Note] = field(default_factory=list)  # what was found wrong with them
    values: np.ndarray | None = None  # (*s) int32
    names: Labels | None = None  # what the values stand for
    fitted: tuple[str, ...] = ()  # in words, how the mask came onto the grid of its scan
    both: bool = False  # boxes count, and the values are no more than their outlines

    @property
    def dropped(self) -> list[str]:
        """Return, in words, the annotated lesions that are not used, and why."""
        return [str(note) for note in self.notes if note.lost]

    @property
    def repaired(self) -> list[str]:
        """Return, in words, what was put right."""
        return [str(note) for note in self.notes if not note.lost]

    def marks(self, names: Sequence[str], z: int | None = None) -> np.ndarray | None:
        """Return what the mask marks (*s) uint8, of all of it or of slice z, where there is one.

        0 is outside, 1, 2, ... are `names`; without names all that is marked is 1. Of a value that has several names,
        as nnU-Net's regions lie in one another, the narrowest counts.
        """
        if self.values is None:
            return None
        values = self.values if z is None else self.values[z]
        if not names:
            return (values > 0).astype(np.uint8)
        if self.names is None:
            return ((values > 0) * (names.index(LESION) + 1)).astype(np.uint8)
        marked = np.zeros(values.shape, np.uint8)
        for own, name in sorted(self.names.items(), key=lambda one: -len(one[0])):
            if name in names:
                marked[np.isin(values, list(own))] = names.index(name) + 1
        return marked

    def whole(self, least: int) -> tuple[np.ndarray, list[str]]:
        """Return the boxes (m, 2*d) and labels of all of it; components of `least` pixels or voxels count."""
        if self.values is None or self.both:
            return self.boxes, self.labels
        return labelled_components(self.values, self.names, least)

    def in_slice(self, z: int | None, least: int) -> tuple[np.ndarray, list[str]]:
        """Return the boxes (m, 2*d) and labels of all of it (None), or (m, 4) of slice z; see `whole`."""
        if z is None:
            return self.whole(least)
        if self.values is not None and not self.both:
            return labelled_components(self.values[z], self.names, least)
        chosen = [i for i, box in enumerate(self.boxes) if z in slices_of(box)]
        if not chosen:
            return np.zeros((0, 4), np.float32), []
        return self.boxes[chosen][:, [0, 1, 3, 4]], [self.labels[i] for i in chosen]

    def too_small(self, z: int | None, least: int) -> list[int]:
        """Return the pixels or voxels of each component, in slice z or (None) in all, that has fewer than `least`."""
        if self.values is None or self.both:
            return []
        return sizes_below(self.values if z is None else self.values[z], self.names, least)

    def grazes(self, z: int) -> bool:
        """Tell whether a lesion reaches into slice z of a volume without having a box there."""
        if self.values is not None:
            return self.both and bool(self.values[z].any())
        return any(min(box[5], z + 1) - max(box[2], z) > GRAZE and z not in slices_of(box) for box in self.boxes)


def slices_of(box: np.ndarray) -> range:
    """Return the slices whose middle a box (6,) holds; of a box that holds none, the one that it lies in most."""
    low, high = int(np.ceil(box[2] - 0.5)), int(np.ceil(box[5] - 0.5))
    most = int(np.floor((box[2] + box[5]) / 2))
    return range(low, high) if low < high else range(most, most + 1)


def lesions_of(scan: Scan, annotation: Annotation, pixels: Pixels, least: int = 1) -> Lesions:
    """Return the lesions that an annotation names; raise BadInput where it does not fit its scan.

    Where it has boxes and a mask, lesions of the mask of `least` pixels or voxels have boxes too.
    """
    _check_size(scan, annotation, pixels)
    if annotation.mask is None:
        own = _boxed(scan, annotation, pixels)
        return own if scan.volume or not annotation.marked else _outlined(own, annotation, pixels)
    marked = _marked(scan, annotation, pixels)
    if not annotation.both or marked.values is None:
        return marked
    own, place = _boxed(scan, annotation, pixels), str(annotation.mask)
    boxes, labels, notes = agree(
        own.boxes, own.labels, values=marked.values, names=marked.names, least=least, place=place
    )
    return replace(marked, boxes=boxes, labels=labels, notes=[*own.notes, *_shown(scan, notes)], both=True)


def _shown(scan: Scan, notes: Sequence[Note]) -> list[Note]:
    """Return notes that call a scan what outputs call it, where files tell who the patient is."""
    if not scan.shown or scan.shown == scan.relative:
        return list(notes)
    return [replace(note, place=scan.shown) for note in notes]


def _boxed(scan: Scan, annotation: Annotation, pixels: Pixels) -> Lesions:
    """Return the lesions that have boxes."""
    boxes, places, notes = annotation.arrays(), annotation.places, list(annotation.notes)
    if scan.volume and len(boxes):
        boxes, own = _upright_boxes(scan, annotation, pixels)
        notes += [note for note in own if not note.lost]  # those that are lost are so below, too
    boxes = boxes if len(boxes) else np.zeros((0, 2 * (pixels.image.ndim - 1)), np.float32)
    size = pixels.image.shape[:0:-1][: boxes.shape[1] // 2]
    cut, whole, own = cut_off(boxes, size, places, scan.shown or scan.relative)
    labels = [label for label, ok in zip(annotation.labels, whole, strict=True) if ok]
    return Lesions(cut[whole], labels, _shown(scan, [*notes, *own]))


def _outlined(own: Lesions, annotation: Annotation, pixels: Pixels) -> Lesions:
    """Return the lesions of a picture with the pixels of their outlines."""
    values, names = label_map(annotation.outlines, annotation.labels, pixels.image.shape[1:])
    return replace(own, values=values, names=names, both=True)


def _check_size(scan: Scan, annotation: Annotation, pixels: Pixels) -> None:
    shape = pixels.stored_shape or pixels.image.shape[1:]
    if annotation.size is not None and annotation.size != shape[::-1]:
        claimed, found = "x".join(map(str, annotation.size)), "x".join(map(str, shape[::-1]))
        raise BadInput(f"{scan.path} has {found} pixels, its annotation says {claimed}")
    wrong = [box for box in annotation.boxes if len(box) != 2 * len(shape)]
    if wrong and scan.volume:
        raise BadInput(
            f"{scan.path} is a volume, but its annotation has flat boxes; give boxes in 3D, or give "
            "label volumes with --masks"
        )
    if wrong:
        raise BadInput(f"{scan.path} is a picture, but its annotation has boxes in 3D")


def _upright_boxes(scan: Scan, annotation: Annotation, pixels: Pixels) -> tuple[np.ndarray, list[Note]]:
    """Return boxes (m, 6) in the voxels of the axial slices, cut off at the border of the volume as it is stored."""
    if pixels.grid is None or pixels.stored is None:
        raise BadInput(f"{scan.path} is a volume that does not say where its voxels lie")
    boxes = np.array(annotation.boxes, np.float64)
    if annotation.millimetres:
        boxes = placed_boxes(boxes, pixels.stored)
    cut, _, notes = cut_off(boxes, pixels.stored_shape[::-1], annotation.places, scan.shown or scan.relative)
    size = np.tile(pixels.image.shape[:0:-1], 2)
    return np.clip(moved_boxes(cut, pixels.stored, pixels.grid), 0, size).astype(np.float32), notes


def _marked(scan: Scan, annotation: Annotation, pixels: Pixels) -> Lesions:
    """Return the lesions of one or several masks, each on the grid of the scan."""
    paths, names = annotation.masks, annotation.mask_labels
    fitted = [read_mask(path, scan, pixels) for path in paths]
    parts = [mask_values(path, one.image, names) for path, one in zip(paths, fitted, strict=True)]
    said = [note for one in fitted for note in one.notes]
    if unnamed(parts, names):
        said.append(UNNAMED)
    values, names = joined_parts(parts, names)
    nothing = np.zeros((0, 4), np.float32)
    lost = [Note(UNMET, str(path), lost=True) for path, one in zip(paths, fitted, strict=True) for _ in range(one.lost)]
    notes = _shown(scan, [*annotation.notes, *lost])
    return Lesions(nothing, [], notes, values=values, names=names, fitted=tuple(dict.fromkeys(said)))
