"""Open a store, trusting nothing that it declares before it is checked."""

import hashlib
import json
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli.blending import ellipsoid, window
from medaug_cli.errors import BadInput
from medaug_cli.files import canonical, finish_publishing, readable, reading, validated
from medaug_cli.plugin import Condition, ImageSpec
from medaug_cli.store.model import (
    OPTIONAL_COLUMNS,
    TEXT_COLUMNS,
    Columns,
    Record,
    StoreInfo,
    check_rules,
    source_kind,
)
from medaug_cli.store.seal import check_seal

STORE_VERSION = 1
NUMBER_COLUMNS = {"seed": "int64", "boxes": "float32", "box_labels": "int32", "box_offsets": "int64"}


class Store:
    """A read-only data set; `open_store` makes one. Pixels are memory-mapped, the tables are in memory.

    Of the n images: `images` (n, c, *s) uint8 or uint16, `masks` (n, *s) uint8 or None, and `ids`, `patients`,
    `splits`, `sources` and `seeds`; `spec` is their form, `info` what made them.
    """

    def __init__(
        self, path: Path, info: StoreInfo, columns: Columns, images: np.ndarray, masks: np.ndarray | None, hash: str
    ):
        self.path, self.info, self.columns, self.hash = path, info, columns, hash
        self.images, self.masks = images, masks  # (n, c, *s) uint8 | uint16, (n, *s) uint8
        self.spec = ImageSpec(
            images.shape[1],
            tuple(images.shape[2:]),
            tuple(info.label_names),
            class_names=tuple(info.class_names),
            mask_names=tuple(info.mask_names),
            masks=masks is not None,
        )
        self.ids, self.patients = columns.id, columns.patient
        self.splits, self.sources = np.array(columns.split), np.array(columns.source)
        self.seeds = columns.seed

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def boxes(self) -> list[np.ndarray]:
        """Return the boxes of each image: n of (m, 2*d) float32."""
        return np.split(self.columns.boxes, self.columns.box_offsets[1:-1]) if len(self) else []

    @cached_property
    def labels(self) -> list[np.ndarray]:
        """Return the labels of each image's boxes: n of (m,) int64 indices into `spec.label_names`."""
        labels = self.columns.box_labels.astype(np.int64)
        return np.split(labels, self.columns.box_offsets[1:-1]) if len(self) else []

    @property
    def class_names(self) -> list[str]:
        """Return the names of the classes of whole images."""
        return self.info.class_names

    @cached_property
    def classes(self) -> np.ndarray:
        """Return the class of each image, (n,) int64 indices into `class_names`, -1 where it is unknown."""
        known = self.columns.classes
        return np.full(len(self), -1, np.int64) if known is None else known.astype(np.int64)

    @cached_property
    def spacing(self) -> np.ndarray:
        """Return the mm between pixels of each image in numpy axis order, (n, d) float32, NaN where unknown."""
        if self.columns.spacing is not None:
            return self.columns.spacing
        spacing = np.full((len(self), self.spec.dims), np.nan, np.float32)
        for i, details in enumerate(self.details):  # where stores of before kept that of cubes
            said = details.get("spacing")
            if isinstance(said, list) and len(said) == self.spec.dims:
                spacing[i] = said
        return spacing

    def spacing_of(self, index: int) -> list[float] | None:
        """Return the mm between pixels of one image, x first; None where it is unknown."""
        spacing = self.spacing[index, ::-1]
        return None if np.isnan(spacing).any() else [float(step) for step in spacing]

    @cached_property
    def annotated(self) -> np.ndarray:
        """Tell which images were searched for lesions, (n,) bool; elsewhere no box does not mean no lesion."""
        known = self.columns.annotated
        return np.ones(len(self), bool) if known is None else known.astype(bool)

    @cached_property
    def outlined(self) -> np.ndarray:
        """Tell in which images the mask marks something in every box, (n,) bool; in others 0 may be a lesion."""
        if self.masks is None:
            return np.zeros(len(self), bool)
        return np.array([not self._blank(i) for i in range(len(self))], bool)

    def _blank(self, index: int) -> list[int]:
        """Return the boxes of an image in which its mask marks nothing."""
        assert self.masks is not None
        mask, spatial = self.masks[index], self.spec.spatial
        return [k for k, box in enumerate(self.boxes[index]) if not np.any(mask[window(box, spatial)])]

    def mask(self, index: int) -> np.ndarray | None:
        """Return the mask (*s) of one image, with an ellipsoid in each box in which it marks nothing; None without.

        A lesion that somebody has boxed and nobody has outlined is there all the same.
        """
        if self.masks is None:
            return None
        blank = self._blank(index)
        if not blank:
            return np.asarray(self.masks[index])
        mask, names, labels = np.array(self.masks[index]), self.info.mask_names, self.info.label_names
        for k in blank:
            label = labels[self.labels[index][k]]
            mask[ellipsoid(self.boxes[index][k], mask.shape)] = names.index(label) + 1 if label in names else 1
        return mask

    @cached_property
    def details(self) -> list[dict[str, Any]]:
        """Return what is recorded about each image."""
        return [json.loads(text) for text in self.columns.details]

    def indices(self, split: str | None = None, source: str | None = None, unannotated: bool = False) -> np.ndarray:
        """Return the indices of the images of a split, a source ("real", "external:NAME" or a generator), or both.

        Images that were not searched for lesions are included only with `unannotated`: having no box does not make them
        normal.
        """
        chosen = np.ones(len(self), bool) if unannotated else self.annotated.copy()
        if split is not None:
            chosen &= self.splits == split
        if source is not None:
            chosen &= self.sources == source
        return np.flatnonzero(chosen)

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return images (b, c, *s) as float32 in [0, 1]."""
        raw = self.images[np.asarray(indices, np.int64)]
        return raw.astype(np.float32) / np.float32(np.iinfo(raw.dtype).max)

    def condition(self, index: int) -> Condition:
        """Return the boxes, labels, mask and class of one image."""
        own = self.boxes[index], self.labels[index], self.mask(index), int(self.classes[index])
        return Condition(self.spec.spatial, *own)

    def record(self, index: int) -> Record:
        """Return one image with everything known about it, to be written into another store."""
        known = self.classes[index]
        spacing = self.spacing[index]
        return Record(
            id=self.ids[index],
            image=np.asarray(self.images[index]),
            boxes=self.boxes[index],
            labels=[self.spec.label_names[label] for label in self.labels[index]],
            patient=self.patients[index],
            split=str(self.splits[index]),
            source=str(self.sources[index]),
            seed=int(self.seeds[index]),
            mask=None if self.masks is None else np.asarray(self.masks[index]),
            details=self.details[index],
            image_class=None if known < 0 else self.class_names[known],
            spacing=None if np.isnan(spacing).any() else tuple(map(float, spacing)),
            annotated=bool(self.annotated[index]),
        )

    def verify(self) -> None:
        """Read everything again; raise BadInput if it is not what was written."""
        if content_hash(self.info, self.columns, self.images, self.masks) != self.hash:
            raise BadInput(f"{self.path} is damaged: its content is not what was written (SHA-256 differs)")


def content_hash(info: StoreInfo, columns: Columns, images: np.ndarray, masks: np.ndarray | None) -> str:
    """Return the SHA-256 of a data set's content: what it shows, not which command made it."""
    digest = hashlib.sha256(canonical([list(images.shape), str(images.dtype), info.label_names]).encode())
    texts = [getattr(columns, name) for name in TEXT_COLUMNS]
    digest.update(canonical(texts).encode())
    for name, kind in NUMBER_COLUMNS.items():
        digest.update(np.ascontiguousarray(getattr(columns, name), kind).tobytes())
    for name, (kind, _) in OPTIONAL_COLUMNS.items():  # only where they are there: older stores keep their hash
        values = getattr(columns, name)
        if values is not None:
            named = [name, info.class_names] if name == "classes" else [name]
            digest.update(canonical(named).encode() + np.ascontiguousarray(values, kind).tobytes())
    if info.mask_names:
        digest.update(canonical(["masks", info.mask_names]).encode())
    for pixels in (images, masks):
        for image in () if pixels is None else pixels:
            digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def open_store(path: Path) -> Store:
    """Open a store; raise BadInput if it is not a store, is damaged, or reaches outside its own file."""
    import h5py

    with reading(path):
        if path.is_dir():
            raise BadInput(f"{path} is a folder; expected a store (.h5)")
        finish_publishing(path)
        readable(path)
        check_seal(path)
    try:
        with h5py.File(path, "r", locking=False) as file:
            return _open(path, file)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, OSError) and error.errno:  # of the system, not of what the file holds
            raise BadInput(f"{path} cannot be read now ({os.strerror(error.errno)})") from error
        reason = " ".join(str(error).split())[:200]
        raise BadInput(
            f"{path} cannot be read as a store, it is truncated, damaged or something else ({reason})"
        ) from error


def _open(path: Path, file: Any) -> Store:
    version = file.attrs.get("medaug")
    if version != STORE_VERSION:
        raise BadInput(f"{path} is a store of version {version}; this medaug reads version {STORE_VERSION}")
    datasets = {name: _trusted(path, file, name) for name in file}
    missing = ({"images", *TEXT_COLUMNS, *NUMBER_COLUMNS}) - set(datasets)
    if missing:
        raise BadInput(f"{path} lacks {', '.join(sorted(missing))}: it is not a whole store")
    info = validated(path, StoreInfo, _json(path, file.attrs.get("info", "")))
    images = _mapped(path, datasets["images"], ("uint8", "uint16"))
    masks = _mapped(path, datasets["masks"], ("uint8",)) if "masks" in datasets else None
    columns = _columns(path, datasets, len(images))
    if masks is not None and masks.shape != (len(images), *images.shape[2:]):
        raise BadInput(f"{path}: masks of shape {masks.shape} do not fit images of shape {images.shape}")
    check_rules(path, columns, tuple(images.shape[2:]), info)
    return Store(path, info, columns=columns, images=images, masks=masks, hash=str(file.attrs.get("hash", "")))


def _json(path: Path, text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{path}: its attribute `info` is not JSON") from error


def _trusted(path: Path, file: Any, name: str) -> Any:
    """Return a dataset that lies in this file and is no larger than it; refuse everything else."""
    import h5py

    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise BadInput(f"{path}: {name} is a link to elsewhere; a store must be self-contained")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        raise BadInput(f"{path}: {name} is not a plain dataset in this file; external and virtual data are refused")
    if dataset.nbytes > path.stat().st_size and dataset.dtype.kind != "O":
        raise BadInput(f"{path}: {name} claims {dataset.nbytes} bytes, the file has {path.stat().st_size}")
    if dataset.size > path.stat().st_size:
        raise BadInput(f"{path}: {name} claims {dataset.size} entries, the file has {path.stat().st_size} bytes")
    return dataset


def _mapped(path: Path, dataset: Any, kinds: tuple[str, ...]) -> np.ndarray:
    if str(dataset.dtype) not in kinds or dataset.ndim < 3:
        raise BadInput(
            f"{path}: {dataset.name} is {dataset.dtype} of shape {dataset.shape}; expected {' or '.join(kinds)}"
        )
    offset = dataset.id.get_offset()
    if offset is None or dataset.size == 0:
        if dataset.size == 0:
            return np.empty(dataset.shape, dataset.dtype)
        raise BadInput(f"{path}: {dataset.name} is chunked or compressed; stores hold plain contiguous pixels")
    if offset + dataset.nbytes > path.stat().st_size:
        raise BadInput(f"{path} is truncated: {dataset.name} ends beyond the file")
    return np.memmap(path, dataset.dtype, "r", offset, dataset.shape)


def _columns(path: Path, datasets: dict[str, Any], n: int) -> Columns:
    values: dict[str, Any] = {}
    for name in TEXT_COLUMNS:
        if datasets[name].shape != (n,):
            raise BadInput(f"{path}: {name} has {datasets[name].shape} entries for {n} images")
        values[name] = list(datasets[name].asstr()[()]) if n else []
    for name, kind in NUMBER_COLUMNS.items():
        if str(datasets[name].dtype) != kind:
            raise BadInput(f"{path}: {name} is {datasets[name].dtype}; expected {kind}")
        values[name] = datasets[name][()]
    for name, (kind, _) in OPTIONAL_COLUMNS.items():
        if name in datasets:
            if str(datasets[name].dtype) != kind:
                raise BadInput(f"{path}: {name} is {datasets[name].dtype}, expected {kind}")
            values[name] = datasets[name][()]
    return Columns(**values)


def is_real(store: Store) -> np.ndarray:
    """Return which images are scans, of the data set itself or external, and not drawn, (n,) bool."""
    return np.array([source_kind(source) != "synthetic" for source in store.sources.tolist()], bool)


def is_external(store: Store) -> np.ndarray:
    """Return which images come from elsewhere, and are for training alone, (n,) bool."""
    return np.array([source_kind(source) == "external" for source in store.sources.tolist()], bool)
