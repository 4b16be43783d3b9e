"""Write the images and boxes of a store as COCO, YOLO, Pascal VOC, CSV, NIfTI, for nnU-Net or MONAI, or by class.

Images keep their bits. COCO's boxes are x, y, width, height in pixels; YOLO's are centre and size
as shares of the image; NIfTI comes with a boxes.json, and is what nnU-Net and MONAI get. Masks and classes go along.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from medaug_cli.boxes import SPLITS, ImageBoxes, LabelledBox
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.export.arrays import NPZ, check_arrays, write_arrays
from medaug_cli.export.segments import segments_of
from medaug_cli.export.volumes import SUFFIX, WRITERS, write_image, write_masks
from medaug_cli.forms.catalogue import LAYOUTS
from medaug_cli.forms.form import Known, Layout
from medaug_cli.results import Kind, folder_claimed, new_folder
from medaug_cli.store import Store
from medaug_cli.store.model import source_kind
from medaug_cli.words import counted

Report = Callable[[int], None]
BY_CLASS = "folders"
EXPORT = Kind("store export", "an export of a store")
PNG_FORMS = {(1, "uint8"), (1, "uint16"), (3, "uint8"), (4, "uint8")}


def export_store(
    store: Store,
    form: str,
    out: Path,
    split: str | None = None,
    overwrite: bool = False,
    report: Report = lambda images: None,
    say: Callable[[str], None] = lambda sentence: None,
) -> int:
    """Publish a folder with the images of a store, or of one split of it; return how many there are.

    `say` hears what anyone who loads it has to know.
    Raises UsageError for an unknown form or split, BadInput where the form cannot hold the images.
    """
    forms = (*LAYOUTS, *WRITERS, BY_CLASS, NPZ)
    if form not in forms:
        raise UsageError(f"--format {form}: the choices are {', '.join(forms)}")
    if split is not None and split not in SPLITS:
        raise UsageError(f"--split {split}: the choices are {', '.join(SPLITS)}")
    chosen = store.indices(split, unannotated=takes_unannotated(form))
    if form in (BY_CLASS, NPZ):
        chosen = chosen[store.classes[chosen] >= 0]
    if not len(chosen):
        raise BadInput(_nothing(store, form, split))
    _check_ids(store)
    if form == NPZ:
        check_arrays(store)
    elif form not in WRITERS and not (store.spec.dims == 3 and form in LAYOUTS and LAYOUTS[form].deep):
        _check_png(store, form)
    with folder_claimed(out, EXPORT, overwrite, [store.path]) as place, new_folder(place, EXPORT) as work:
        if form in WRITERS:
            WRITERS[form](store, chosen.tolist(), work, image_boxes, report)
        elif form == BY_CLASS:
            _by_class(store, chosen.tolist(), work, report, say)
        elif form == NPZ:
            write_arrays(store, chosen.tolist(), work / f"{store.path.stem}.npz", report)
        else:
            _laid_out(LAYOUTS[form], store, chosen.tolist(), work, report)
            _masks(store, chosen.tolist(), work)
        _classes(store, chosen.tolist(), work)
    for sentence in _forgotten(store, chosen, form, split):
        say(sentence)
    return len(chosen)


def _forgotten(store: Store, chosen: np.ndarray, form: str, split: str | None) -> list[str]:
    """Say what a form does not tell of the images, and whoever reads them again has to."""
    said = []
    if form in LAYOUTS and not LAYOUTS[form].patients and not (store.classes[chosen] >= 0).all():
        said.append(
            f"{form} names no patients: preprocess would split these images anew, one by one; coco, csv and nifti keep "
            "patients and splits"
        )
    if form in (BY_CLASS, NPZ):
        unknown = len(store.indices(split, unannotated=True)) - len(chosen)
        said += [f"left out: {counted(unknown, 'image')} of no known class"] if unknown else []
        if any(len(store.boxes[i]) for i in chosen) or store.masks is not None:
            said.append(f"{form} tells the classes alone, and neither boxes nor masks; coco, csv and nifti tell them")
    elif blank := int((~store.outlined[chosen]).sum()) if store.masks is not None else 0:
        said.append(f"in {counted(blank, 'image')} a box has no outline: the mask says nothing there")
    kinds = Counter[str](map(source_kind, store.sources[chosen].tolist()))
    for kind, advice in {"external": "; give --external NAME there", "synthetic": ""}.items():
        if count := kinds[kind]:
            said.append(f"{counted(count, f'{kind} image')}: read again they count as scans of the data set{advice}")
    return said


def _nothing(store: Store, form: str, split: str | None) -> str:
    """Say why there is nothing to write."""
    where = f" in the split {split}" if split else ""
    if form in (BY_CLASS, NPZ):
        return f"{store.path} has no image of a known class{where} (preprocess --classes)"
    if len(store.indices(split, unannotated=True)):
        return f"{store.path} has no image{where} in which lesions were looked for; choose --format {BY_CLASS} or nifti"
    return f"{store.path} has no image{where}"


def takes_unannotated(form: str) -> bool:
    """Tell whether a form keeps images that nobody annotated: where others take no box, or no mask, for no lesion."""
    return form in ("nifti", BY_CLASS, NPZ)


def _check_ids(store: Store) -> None:
    """Refuse an id that would be no plain file name."""
    for name in store.ids:
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,128}", name):
            raise BadInput(f"{store.path}: the image id {name!r} is not a plain name; nothing is exported")


def _check_png(store: Store, form: str) -> None:
    if store.spec.dims != 2:
        choices = ", ".join((*(name for name in LAYOUTS if LAYOUTS[name].deep), *WRITERS, NPZ))
        raise BadInput(f"{store.path} holds {store.spec.dims}D images; {form} takes 2D, choose from {choices}")
    if (store.spec.channels, str(store.images.dtype)) not in PNG_FORMS:
        raise BadInput(
            f"{store.path} holds {store.images.dtype} images of {store.spec.channels} channels, which PNG cannot "
            f"hold; choose --format nifti"
        )


def write_png(path: Path, image: np.ndarray) -> None:
    """Write one image (c, height, width), uint8 or grey uint16."""
    from PIL import Image

    plain = image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)
    Image.fromarray(np.ascontiguousarray(plain)).save(path, optimize=False)


def _laid_out(layout: Layout, store: Store, chosen: Sequence[int], out: Path, report: Report) -> None:
    """Write images as PNG, or volumes as NIfTI, where the tools of a form look for them, and their annotations."""
    images, suffix = [], SUFFIX if store.spec.dims == 3 else ".png"
    for i in chosen:
        image = image_boxes(store, i, "")
        image.file = f"{layout.picture(image)}{suffix}"
        (out / image.file).parent.mkdir(parents=True, exist_ok=True)
        if store.spec.dims == 3:
            write_image(out / image.file, store, i, np.asarray(store.images[i]))
        else:
            write_png(out / image.file, store.images[i])
        images.append(image)
        report(1)
    known = {store.ids[i]: Known(str(store.sources[i]), _segments(store, i)) for i in chosen}
    layout.write(images, store.spec.label_names, out, known)


def _segments(store: Store, i: int) -> Callable[[], Sequence[np.ndarray]] | None:
    """Return what tells the pixels of each box of a picture; None where the store holds no masks."""
    if store.masks is None or store.spec.dims != 2:
        return None
    names = [store.spec.label_names[label] for label in store.labels[i]]
    value = {name: number for number, name in enumerate(store.spec.mask_names, 1)}
    mask = np.asarray(store.masks[i])
    return lambda: segments_of(mask, store.boxes[i], [value.get(name) for name in names])


def _by_class(store: Store, chosen: Sequence[int], out: Path, report: Report, say: Callable[[str], None]) -> None:
    """Write SPLIT/CLASS/ID.png, as most tools for classification read it.

    They number classes by their folders: a class that a split lacks has an empty one there, so that numbers agree.
    """
    folders = [_folder_of_class(name) for name in store.class_names]
    twice = next((name for name in folders if [each.casefold() for each in folders].count(name.casefold()) > 1), None)
    if twice is not None:
        raise BadInput(f"{store.path}: two classes would both lie in the folder {twice!r}; choose another --format")
    for name, folder in zip(store.class_names, folders, strict=True):
        if name != folder:
            say(f"the class {name!r} lies in the folder {folder!r}: a folder cannot be called so everywhere")
    used = [folder for number, folder in enumerate(folders) if (store.classes == number).any()]
    present = {(str(store.splits[i]), folders[store.classes[i]]) for i in chosen}
    for split in (split for split in SPLITS if any(own == split for own, _ in present)):
        for folder in used:
            (out / split / folder).mkdir(parents=True)
        if lacking := [folder for folder in used if (split, folder) not in present]:
            say(
                f"the split {split} has no image of {' or '.join(lacking)}: its folder is empty; torchvision loads it "
                f"with ImageFolder(..., allow_empty=True)"
            )
    for i in chosen:
        path = out / str(store.splits[i]) / folders[store.classes[i]] / f"{store.ids[i]}.png"
        write_png(path, store.images[i])
        report(1)


def _folder_of_class(name: str) -> str:
    """Return a class's name as every system lets a folder be called."""
    return re.sub(r'[\\/:*?"<>|\x00-\x1f]', "-", name).strip(" .") or "-"


def _masks(store: Store, chosen: Sequence[int], out: Path) -> None:
    """Write the masks of pictures: masks/ID.png, white on black, or label maps with a dataset.json that names them.

    Those lie in labelsTr, where `preprocess --masks` reads the names, as nnU-Net does.
    """
    if store.masks is None:
        return
    names = store.spec.mask_names
    if store.spec.dims == 3:
        write_masks(store, chosen, out)
        return
    folder = out / ("labelsTr" if names else "masks")
    folder.mkdir()
    for i in chosen:
        mask = np.asarray(store.masks[i])
        write_png(folder / f"{store.ids[i]}.png", (mask if names else (mask > 0) * np.uint8(255))[None])
    if names:
        labels = {"background": 0} | {name: value for value, name in enumerate(names, 1)}
        text = json.dumps({"labels": labels}, indent=1, ensure_ascii=False)
        (out / "dataset.json").write_text(text + "\n", encoding="utf-8")


def _classes(store: Store, chosen: Sequence[int], out: Path) -> None:
    """Write classes.csv, where the store names classes: one row per image, as `preprocess --classes` reads it."""
    known = [i for i in chosen if store.classes[i] >= 0]
    if not known:
        return
    with (out / "classes.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["image", "class", "patient", "split", "source"])
        for i in known:
            name = store.class_names[store.classes[i]]
            rows.writerow([store.ids[i], name, store.patients[i], store.splits[i], store.sources[i]])


def image_boxes(store: Store, i: int, file: str) -> ImageBoxes:
    """Return the boxes of an image, and the file that it is in."""
    *deep, height, width = store.spec.spatial
    boxes = zip(store.boxes[i].astype(np.float64).tolist(), store.labels[i], strict=True)
    return ImageBoxes(
        id=store.ids[i], width=width, height=height, depth=deep[0] if deep else None, patient=store.patients[i],
        split=str(store.splits[i]), file=file, spacing=store.spacing_of(i),  # type: ignore[arg-type]
        annotated=None if store.annotated[i] else False,
        boxes=[LabelledBox(box=box, label=store.spec.label_names[label]) for box, label in boxes],
    )  # fmt: skip
