"""Write the images and boxes of a store as COCO, YOLO, Pascal VOC, CSV, NIfTI, or for nnU-Net or MONAI.

Images keep their bits. COCO's boxes are x, y, width, height in pixels; YOLO's are centre and size
as shares of the image; NIfTI comes with a boxes.json, and is what nnU-Net and MONAI get.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from medaug_cli.boxes import SPLITS, ImageBoxes, LabelledBox
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.export.volumes import WRITERS
from medaug_cli.forms.catalogue import LAYOUTS
from medaug_cli.forms.form import Layout
from medaug_cli.results import Kind, folder_claimed, new_folder
from medaug_cli.store import Store

Report = Callable[[int], None]
EXPORT = Kind("store export", "an export of a store")
PNG_FORMS = {(1, "uint8"), (1, "uint16"), (3, "uint8"), (4, "uint8")}


def export_store(
    store: Store,
    form: str,
    out: Path,
    split: str | None = None,
    overwrite: bool = False,
    report: Report = lambda images: None,
) -> int:
    """Publish a folder with the images of a store, or of one split of it; return how many there are.

    Raises UsageError for an unknown form or split, BadInput where the form cannot hold the images.
    """
    if form not in (*LAYOUTS, *WRITERS):
        raise UsageError(f"--format {form}: the choices are {', '.join((*LAYOUTS, *WRITERS))}")
    if split is not None and split not in SPLITS:
        raise UsageError(f"--split {split}: the choices are {', '.join(SPLITS)}")
    chosen = store.indices(split, unannotated=takes_unannotated(form))
    if not len(chosen):
        raise BadInput(f"{store.path} has no image" + (f" in the split {split}" if split else ""))
    _check_ids(store)
    if form in LAYOUTS:
        _check_png(store, form)
    with folder_claimed(out, EXPORT, overwrite, [store.path]) as place, new_folder(place, EXPORT) as work:
        if form in WRITERS:
            WRITERS[form](store, chosen.tolist(), work, image_boxes, report)
        else:
            _pictures(LAYOUTS[form], store, chosen.tolist(), work, report)
    return len(chosen)


def takes_unannotated(form: str) -> bool:
    """Tell whether a form keeps images that nobody annotated: where others take no box, or no mask, for no lesion."""
    return form == "nifti"


def _check_ids(store: Store) -> None:
    """Refuse an id that would be no plain file name."""
    for name in store.ids:
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,128}", name):
            raise BadInput(f"{store.path}: the image id {name!r} is no plain name; nothing is exported")


def _check_png(store: Store, form: str) -> None:
    if store.spec.dims != 2:
        raise BadInput(f"{store.path} holds {store.spec.dims}D images; {form} takes 2D, choose --format nifti")
    if (store.spec.channels, str(store.images.dtype)) not in PNG_FORMS:
        raise BadInput(
            f"{store.path} holds {store.images.dtype} images of {store.spec.channels} channels, which PNG does not "
            "hold; choose --format nifti"
        )


def write_png(path: Path, image: np.ndarray) -> None:
    """Write one image (c, height, width), uint8 or grey uint16."""
    from PIL import Image

    plain = image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)
    Image.fromarray(np.ascontiguousarray(plain)).save(path, optimize=False)


def _pictures(layout: Layout, store: Store, chosen: Sequence[int], out: Path, report: Report) -> None:
    """Write images as PNG where the tools of a form look for them, and their annotations beside them."""
    images = []
    for i in chosen:
        image = image_boxes(store, i, "")
        image.file = f"{layout.picture(image)}.png"
        (out / image.file).parent.mkdir(parents=True, exist_ok=True)
        write_png(out / image.file, store.images[i])
        images.append(image)
        report(1)
    layout.write(images, store.spec.label_names, out, dict(zip(store.ids, map(str, store.sources), strict=True)))


def image_boxes(store: Store, i: int, file: str) -> ImageBoxes:
    """Return the boxes of an image, and the file that it is in."""
    *deep, height, width = store.spec.spatial
    boxes = zip(store.boxes[i].astype(np.float64).tolist(), store.labels[i], strict=True)
    return ImageBoxes(
        id=store.ids[i], width=width, height=height, depth=deep[0] if deep else None, patient=store.patients[i],
        split=str(store.splits[i]), file=file, spacing=store.spacing_of(i),  # type: ignore[arg-type]
        boxes=[LabelledBox(box=box, label=store.spec.label_names[label]) for box, label in boxes],
    )  # fmt: skip
