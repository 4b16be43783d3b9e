"""Images of a store as NIfTI, in the geometry of the scans that they come from, laid out for nnU-Net, MONAI or anyone.

A volume lies where its scan does: spacing, direction and origin are its scan's, whatever was cropped and resampled. A
drawn image has the spacing of the images that it was drawn like.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli.boxes import BoxesFile, ImageBoxes, write_boxes
from medaug_cli.errors import BadInput
from medaug_cli.forms.monai import FORM as MONAI
from medaug_cli.forms.monai import WRITTEN
from medaug_cli.plugin import Grid
from medaug_cli.scans.grids import as_image
from medaug_cli.scans.way_back import placed_grid
from medaug_cli.scans.writing import write_volume
from medaug_cli.store import Store

Report = Callable[[int], None]
Named = Callable[[Store, int, str], ImageBoxes]  # the boxes of an image, and the file that it is in
SUFFIX = ".nii.gz"
FOLDERS = {"train": "Tr", "val": "Tr", "test": "Ts"}


def write_nifti(store: Store, chosen: Sequence[int], out: Path, named: Named, report: Report) -> None:
    """Write images/ID.nii.gz, boxes.json, and the masks where the store has them, see write_masks."""
    images = []
    for i in chosen:
        name = f"{store.ids[i]}{SUFFIX}"
        write_image(out / "images" / name, store, i, np.asarray(store.images[i]))
        images.append(named(store, i, f"images/{name}"))
        report(1)
    if store.masks is not None:
        write_masks(store, chosen, out)
    write_boxes(out / "boxes.json", BoxesFile(version=1, images=images))


def write_nnunet(store: Store, chosen: Sequence[int], out: Path, named: Named, report: Report) -> None:
    """Write a raw data set of nnU-Net: imagesTr/ID_0000.nii.gz, labelsTr/ID.nii.gz, dataset.json, splits_final.json.

    Images of the test split lie in imagesTs and labelsTs; boxes.json says what nnU-Net does not: boxes, patients and
    splits. Raises BadInput where the store has no masks.
    """
    _refuse_without_masks(store, "nnU-Net")
    images = []
    parts: dict[str, list[str]] = {split: [] for split in FOLDERS}
    for i in chosen:
        part, name = FOLDERS[str(store.splits[i])], store.ids[i]
        for channel, pixels in enumerate(np.asarray(store.images[i])):
            write_image(out / f"images{part}" / f"{name}_{channel:04d}{SUFFIX}", store, i, pixels[None])
        write_image(out / f"labels{part}" / f"{name}{SUFFIX}", store, i, _label_map(store, i)[None])
        parts[str(store.splits[i])].append(name)
        images.append(named(store, i, f"images{part}/{name}_0000{SUFFIX}"))
        report(1)
    labels = {"background": 0} | {name: number for number, name in enumerate(_mask_names(store), start=1)}
    described: dict[str, Any] = {
        "channel_names": {str(channel): f"image{channel or ''}" for channel in range(store.spec.channels)},
        "labels": labels,
        "numTraining": len(parts["train"]) + len(parts["val"]),
        "file_ending": SUFFIX,
    }
    _write_json(out / "dataset.json", described)
    write_boxes(out / "boxes.json", BoxesFile(version=1, images=images))
    if parts["val"]:  # nnU-Net looks for it in its folder of preprocessed data
        _write_json(out / "splits_final.json", [{"train": parts["train"], "val": parts["val"]}])


def write_monai(store: Store, chosen: Sequence[int], out: Path, named: Named, report: Report) -> None:
    """Write MONAI's data lists: detection.json of boxes, and dataset.json of masks where the store has them.

    Folders are those of the Medical Segmentation Decathlon.
    """
    images, sections = [], dict[str, list[dict[str, str]]]()
    for i in chosen:
        split, name = str(store.splits[i]), f"{store.ids[i]}{SUFFIX}"
        image, mask = f"images{FOLDERS[split]}/{name}", f"labels{FOLDERS[split]}/{name}"
        write_image(out / image, store, i, np.asarray(store.images[i]))
        images.append(named(store, i, image))
        if store.masks is not None:
            write_image(out / mask, store, i, _label_map(store, i)[None])
            row = {"image": image, "label": mask, "patient": store.patients[i]}
            sections.setdefault(WRITTEN[split], []).append(row)
        report(1)
    assert MONAI.write_boxes is not None
    MONAI.write_boxes(images, store.spec.label_names, out / "detection.json")
    if store.masks is not None:
        names = {str(number): name for number, name in enumerate(["background", *_mask_names(store)])}
        channels = {str(channel): f"image{channel or ''}" for channel in range(store.spec.channels)}
        _write_json(out / "dataset.json", {"modality": channels, "labels": names, **sections})


WRITERS = {"nifti": write_nifti, "nnunet": write_nnunet, "monai": write_monai}


def _mask_names(store: Store) -> Sequence[str]:
    """Return what the values 1, 2, ... of the masks stand for."""
    labels = store.spec.label_names
    return store.spec.mask_names or (labels if len(labels) == 1 else ("lesion",))


def _label_map(store: Store, i: int) -> np.ndarray:
    """Return the mask of an image with no other values than those that have a name."""
    assert store.masks is not None
    mask = np.asarray(store.masks[i])
    return mask if store.spec.mask_names else (mask > 0).astype(np.uint8)


def _refuse_without_masks(store: Store, tool: str) -> None:
    if store.masks is None:
        raise BadInput(f"{store.path} holds no masks, which {tool} learns from; make it with preprocess --masks")


def write_masks(store: Store, chosen: Sequence[int], out: Path) -> None:
    """Write masks as label maps: masks/ID.nii.gz, or labelsTr and a dataset.json that names values."""
    folder = out / ("labelsTr" if store.spec.mask_names else "masks")
    for i in chosen:
        write_image(folder / f"{store.ids[i]}{SUFFIX}", store, i, _label_map(store, i)[None])
    if store.spec.mask_names:
        labels = {"background": 0} | {name: number for number, name in enumerate(store.spec.mask_names, start=1)}
        _write_json(out / "dataset.json", {"labels": labels})


def write_image(path: Path, store: Store, i: int, image: np.ndarray) -> None:
    """Write an image (c, *s) as one file."""
    import SimpleITK as sitk

    path.parent.mkdir(exist_ok=True)
    several, spacing = len(image) > 1, store.spacing_of(i) or [1.0] * store.spec.dims
    plain = np.moveaxis(image, 0, -1) if several else image[0]
    grid = None if store.spec.dims == 2 else placed_grid(store.details[i], spacing) or Grid(_three(spacing))
    if grid is not None and not several:
        write_volume(as_image(plain, grid), path)
        return
    written = sitk.GetImageFromArray(np.ascontiguousarray(plain), isVector=several)
    written.SetSpacing(spacing)
    if grid is not None:
        written.SetOrigin(grid.origin)
        written.SetDirection(grid.direction)
    write_volume(written, path)


def _three(spacing: Sequence[float]) -> tuple[float, float, float]:
    x, y, z = spacing
    return x, y, z


def _write_json(path: Path, content: Any) -> None:
    """Write JSON in ASCII: nnU-Net and MONAI open it in whatever encoding their machine has."""
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="ascii")
