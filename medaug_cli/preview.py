"""Pictures of a store's images with their boxes, and of what a detector's training makes of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from medaug_cli import registry
from medaug_cli.boxes import SPLITS
from medaug_cli.errors import BadInput, MedaugError, UsageError
from medaug_cli.figures.grid import as_picture, save_grid
from medaug_cli.figures.planes import planes
from medaug_cli.plugin import Previewed, image_seed
from medaug_cli.results import check_file, is_picture
from medaug_cli.runs import check_capable
from medaug_cli.store import Store


class Shown(NamedTuple):
    """What is drawn."""

    images: list[np.ndarray]  # (c, *s)
    boxes: list[np.ndarray]
    masks: Sequence[np.ndarray] = ()  # (*s)
    captions: Sequence[str] = ()


def preview(
    store: Store, out: Path, detector: str | None = None, settings: Mapping[str, Any] | None = None,
    split: str = "train", images: int = 6, variants: int = 5, seed: int = 0, overwrite: bool = False,
) -> int:  # fmt: skip
    """Publish a picture of some images of a split, as PNG; return how many there are.

    With a detector each has a row of its own: as it is stored, then so many `variants` as that detector's training sees
    it. A cube has a row too, of its three planes. Raises UsageError or BadInput where there is nothing to show.
    """
    _check_picture(out, overwrite, [store])
    chosen = _chosen(store, split, images, classes=detector is None)
    if detector is not None:
        check_capable(detector, registry.capabilities("detector", detector), store)
        shown = _augmented(store, chosen, detector=detector, settings=settings or {}, variants=variants, seed=seed)
    elif settings:
        raise UsageError("--set gives settings to the detector of --augment; give --augment as well")
    else:
        shown = _as_stored(store, chosen)
    columns = 3 if store.spec.dims == 3 else 1 + variants if detector else None
    save_grid(
        out, shown.images, shown.boxes, columns=columns, cell=192, masks=shown.masks or None,
        captions=shown.captions or None,
    )  # fmt: skip
    return len(chosen)


def _as_stored(store: Store, chosen: np.ndarray) -> Shown:
    """Return images with their boxes, the outlines of their masks, and their classes; of cubes three planes each."""
    images, boxes = [store.images[i] for i in chosen], [store.boxes[i] for i in chosen]
    masks = [] if store.masks is None else [np.asarray(store.masks[i]) for i in chosen]
    classes = [store.class_names[k] if k >= 0 else "" for k in store.classes[chosen]] if store.class_names else []
    if store.spec.dims == 2:
        return Shown(images, boxes, masks, classes)
    flat = [plane for image, own in zip(images, boxes, strict=True) for plane in planes(image, own)]
    marked = [plane[0] for mask, own in zip(masks, boxes, strict=False) for plane, _ in planes(mask[None], own)]
    captions = [name for name in classes for _ in range(3)]
    return Shown([picture for picture, _ in flat], [own for _, own in flat], marked, captions)


def lesion_rows(
    stores: Sequence[Store], out: Path, side: int, split: str = "train", count: int = 12, overwrite: bool = False
) -> int:
    """Publish a picture of lesions, a row a store, as in Fig. 1 of Han et al.; return how many there are a row.

    A crop is the square around a lesion, a quarter wider than the longer side of its box, at `side` pixels.
    """
    _check_picture(out, overwrite, stores)
    rows = []
    for store in stores:
        places = [(i, k) for i in _chosen(store, split, 10**9) for k in range(len(store.boxes[i]))]
        rows.append([places[k] for k in np.linspace(0, len(places) - 1, min(count, len(places))).round().astype(int)])
    least = min(map(len, rows))
    crops = [
        lesion_crop(np.asarray(store.images[i]), store.boxes[i][k], side)
        for store, own in zip(stores, rows, strict=True)
        for i, k in own[:least]
    ]
    nothing = [np.zeros((0, 4), np.float32)] * len(crops)
    save_grid(out, crops, nothing, columns=least, cell=max(96, side))
    return least


def _check_picture(out: Path, overwrite: bool, stores: Sequence[Store]) -> None:
    check_file(out, overwrite, [store.path for store in stores])
    if out.exists() and not is_picture(out):
        raise UsageError(f"{out} exists and is not a picture drawn by medaug store preview; choose another --out")
    if out.suffix.lower() != ".png":
        raise UsageError(f"--out {out}: the picture is a PNG file; choose a name that ends in .png")


def lesion_crop(image: np.ndarray, box: np.ndarray, side: int) -> np.ndarray:
    """Return the square around a box of an image (c, *s) as (c, side, side); of a volume its middle plane.

    What lies outside the image is black.
    """
    from PIL import Image

    if image.ndim == 4:
        depth = int((box[2] + box[5]) / 2)
        image, box = image[:, min(depth, image.shape[1] - 1)], box[[0, 1, 3, 4]]
    reach = 0.625 * float(max(box[2] - box[0], box[3] - box[1]))
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    corners = (x - reach, y - reach, x + reach, y + reach)
    picture = Image.fromarray(as_picture(image))
    part = picture.transform((side, side), Image.Transform.EXTENT, corners, Image.Resampling.BICUBIC)
    return np.moveaxis(np.asarray(part), -1, 0)


def _chosen(store: Store, split: str, images: int, classes: bool = False) -> np.ndarray:
    """Return the images to show, evenly spread over those of a split that have a box, or one of `classes`."""
    if split not in SPLITS:
        raise UsageError(f"--split {split}: the choices are {', '.join(SPLITS)}")
    every = store.indices(split, unannotated=True)
    found = [i for i in every if (store.annotated[i] and len(store.boxes[i])) or (classes and store.classes[i] >= 0)]
    if not found:
        what = "a box or a class" if classes and store.class_names else "a box"
        raise BadInput(f"{store.path} has no image with {what} in the split {split!r}")
    return np.array(found)[np.linspace(0, len(found) - 1, min(images, len(found))).round().astype(int)]


def _augmented(
    store: Store, chosen: np.ndarray, detector: str, settings: Mapping[str, Any], variants: int, seed: int
) -> Shown:
    plugin = registry.build("detector", detector, settings)
    if not isinstance(plugin, Previewed):
        raise UsageError(f"--augment {detector}: it does not show how it augments its training images")
    pixels, shown = store.read(chosen), Shown([], [])
    known = [store.boxes[i] for i in chosen], [store.labels[i] for i in chosen]
    drawn = [plugin.augmented(pixels.copy(), *known, image_seed(seed, k)) for k in range(variants)]
    for i in range(len(chosen)):
        row = [(pixels[i], known[0][i]), *((images[i], boxes[i]) for images, boxes, _ in drawn)]
        if any(image.shape != pixels[i].shape or len(np.shape(boxes)) != 2 for image, boxes in row):
            raise MedaugError(f"the detector {detector!r} changes images of {pixels[i].shape} to another form")
        for image, boxes in row:
            shown.images.append(image)
            shown.boxes.append(boxes)
    return shown
