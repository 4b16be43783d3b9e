"""What a store holds, in numbers and in words."""

from collections import Counter
from typing import Any

import numpy as np

from medaug_cli.boxes import SPLITS
from medaug_cli.store import Store
from medaug_cli.store.model import EXTERNAL, source_kind
from medaug_cli.words import counted


def summary(store: Store) -> dict[str, Any]:
    """Return what a store holds and what made it, as plain values for JSON."""
    counts = np.array([len(boxes) for boxes in store.boxes], np.int64)
    labels = Counter(store.spec.label_names[label] for label in store.columns.box_labels)
    return {
        "store": str(store.path),
        "images": len(store),
        "channels": store.spec.channels,
        "spatial": list(store.spec.spatial),
        "bits": store.images.dtype.itemsize * 8,
        "masks": store.masks is not None,
        "mask_names": list(store.spec.mask_names),
        "boxes": int(counts.sum()),
        "images_without_boxes": int(((counts == 0) & store.annotated).sum()),
        "unannotated": int((~store.annotated).sum()),
        "images_by_class": _by_class(store),
        "spacing": _spacing(store),
        "boxes_by_label": {name: labels[name] for name in store.spec.label_names},
        "splits": {split: _part(store, split) for split in SPLITS if len(store.indices(split, unannotated=True))},
        "sources": dict(sorted(Counter(store.sources.tolist()).items())),
        "external": {
            source.removeprefix(EXTERNAL): count
            for source, count in sorted(Counter(store.sources.tolist()).items())
            if source_kind(source) == "external"
        },
        "hash": store.hash,
        "info": store.info.model_dump(mode="json"),
    }


def _by_class(store: Store) -> dict[str, int]:
    counts = Counter(store.classes.tolist())
    return {name: counts[number] for number, name in enumerate(store.class_names)}


def _spacing(store: Store) -> list[list[float]]:
    """Return the least and the most mm between pixels along each numpy axis; nothing where no image says."""
    known = store.spacing[~np.isnan(store.spacing).any(1)]
    return [known.min(0).tolist(), known.max(0).tolist()] if len(known) else []


def _part(store: Store, split: str) -> dict[str, int]:
    chosen = store.indices(split, unannotated=True)
    patients = {store.patients[i] for i in chosen}
    return {"images": len(chosen), "patients": len(patients), "boxes": sum(len(store.boxes[i]) for i in chosen)}


def sentences(found: dict[str, Any]) -> str:
    """Say a summary in lines for a person."""
    info = found["info"]
    labels = ", ".join(f"{count} {name}" for name, count in found["boxes_by_label"].items())
    lines = [
        f"{found['store']}: {counted(found['images'], 'image')} of {'x'.join(map(str, found['spatial']))} pixels, "
        f"{counted(found['channels'], 'channel')}, {found['bits']} bits"
        + (", with masks" if found["masks"] else "")
        + (f" of {', '.join(found['mask_names'])}" if found["mask_names"] else ""),
        f"boxes: {found['boxes']} ({labels}); {_normals(found['images_without_boxes'])}",
    ]
    if found["images_by_class"]:
        unknown = found["images"] - sum(found["images_by_class"].values())
        classes = [f"{count} {name}" for name, count in found["images_by_class"].items()]
        lines.append("classes: " + ", ".join([*classes, *([f"{unknown} without a class"] if unknown else [])]))
    if found["unannotated"]:
        lines.append(
            f"unannotated: {counted(found['unannotated'], 'image')}, in which lesions were not looked for; generators "
            "may learn from those of the training split"
        )
    if found["external"]:
        of = ", ".join(found["external"])
        count = sum(found["external"].values())
        lines.append(f"external: {counted(count, 'image')} of {of}; for training only")
    lines += [
        f"{split}: {counted(part['images'], 'image')} of {counted(part['patients'], 'patient')}, "
        f"{counted(part['boxes'], 'box')}"
        for split, part in found["splits"].items()
    ]
    lines.append("sources: " + ", ".join(f"{count} {name}" for name, count in found["sources"].items()))
    lines.append(f"made by medaug {info['tool_version']} {info['command']}, seed {info['seed']}")
    lines += [f"setting {key}: {_shown(value)}" for key, value in info["settings"].items() if _is_given(value)]
    lines += [f"input {name}: SHA-256 {digest}" for name, digest in info["inputs"].items()]
    lines += [
        f"generator {one['name']} {one['version']}, fitted on {counted(len(one['training_patients']), 'patient')}"
        for one in info["generators"]
    ]
    return "\n".join([*lines, f"SHA-256 of the content: {found['hash']}"])


def _is_given(value: Any) -> bool:
    return value is not None and value not in ("", [], {})


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _normals(count: int) -> str:
    if not count:
        return "no normal images"
    return f"{counted(count, 'normal image')} without a box"
