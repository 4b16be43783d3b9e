"""Anyone's detections on annotated images, in any form that medaug writes, and what is odd about them."""

from collections.abc import Sequence
from pathlib import Path

from medaug_cli.metrics.annotations import FoundBoxes
from medaug_cli.metrics.coco_files import CocoAnnotated, read_detections

MOST_NAMED = 6  # categories in a sentence


def read_found(path: Path, data: CocoAnnotated) -> tuple[FoundBoxes, list[int]]:
    """Read detections on the images of `data`; return them and the category id of each label.

    A folder is YOLO's, a file that ends in .csv has a row a detection, and all else is COCO's JSON. Raises BadInput
    at an image or, but in COCO's JSON, a class that `data` lacks.
    """
    if not path.is_dir() and path.suffix.lower() != ".csv":
        return read_detections(path, data)
    from medaug_cli.evaluation.found_rows import read_csv, read_yolo

    found = read_yolo(path, data) if path.is_dir() else read_csv(path, data)
    return found, list(data.category_ids)


def unknown_categories(
    truth: Path, data: CocoAnnotated, path: Path, found: FoundBoxes, ids: Sequence[int]
) -> str | None:
    """Say how many detections are of categories that the truth does not have; None where there are none."""
    unknown = found.labels >= len(data.label_names)
    if not unknown.any():
        return None
    numbers = [str(number) for number in ids[len(data.label_names) :]]
    which = f"categor{'y' if len(numbers) == 1 else 'ies'} {', '.join(numbers[:MOST_NAMED])}"
    more = f" and {len(numbers) - MOST_NAMED} more" if len(numbers) > MOST_NAMED else ""
    known = [f"{number} {name}" for number, name in zip(data.category_ids, data.label_names, strict=True)]
    have = ", ".join(known[:MOST_NAMED]) + (", ..." if len(known) > MOST_NAMED else "") or "none"
    return (
        f"{path.name}: {int(unknown.sum())} of {len(unknown)} detections are of {which}{more}, which {truth.name} "
        f"lacks (it has {have}): they are false positives, and COCO's twelve numbers leave them out"
    )
