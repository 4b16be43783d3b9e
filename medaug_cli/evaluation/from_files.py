"""Evaluate anyone's detections from COCO JSON files: no store, no torch."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from medaug_cli.errors import BadInput
from medaug_cli.evaluation.arguments import seed_names, seeds_of
from medaug_cli.evaluation.folder import Evidence, Request, publish_evaluation
from medaug_cli.evaluation.found_files import read_found, unknown_categories
from medaug_cli.files import name_of, sha256_file
from medaug_cli.metrics.coco_files import CocoAnnotated, read_truth
from medaug_cli.metrics.report import Metrics


def evaluate_files(
    truth: Path, detections: Mapping[str, Sequence[Path]], request: Request, images: Path | None = None
) -> Metrics:
    """Measure detections in COCO format, COCO's twelve numbers among the rest, and publish the evaluation folder.

    `images` is a folder that holds the pictures by `file_name`, for the overlays.
    """
    request.check([truth, *(path for paths in detections.values() for path in paths)])
    data = read_truth(truth)
    if not len(data):
        raise BadInput(f"{truth} lists no image")
    if data.truth.crowd.all():
        raise BadInput(f"{truth} annotates no box (crowd regions do not count), so there is nothing to find")
    if images is not None and not images.is_dir():
        raise BadInput(f"{images} is not a folder of images")
    paths = seeds_of(detections)
    read = {name: read_found(path, data) for name, path in paths.items()}
    remarks = [said for name, path in paths.items() if (said := unknown_categories(truth, data, path, *read[name]))]
    lone = sum("patient" not in image for image in data.images)
    if 0 < lone < len(data):
        remarks.append(f"{lone} of {len(data)} images of {truth.name} name no patient: each counts as one of its own")
    for sentence in remarks:
        request.say(sentence)
    evidence = Evidence(
        data=data,
        found={name: found for name, (found, _) in read.items()},
        image_ids=data.image_ids,
        category_ids={name: ids for name, (_, ids) in read.items()},
        picture=_reader(data, images),
        sources={name_of(truth): sha256_file(truth)},
        weights={name: sha256_below(path) for name, path in paths.items()},
        systems=seed_names(detections),
        size=_size_of(data),
        resampled="patients" if data.names_patients else "images",
        remarks=tuple(remarks),
    )
    return publish_evaluation(request, evidence)


def sha256_below(path: Path) -> str:
    """Return the SHA-256 of a file, or of the files of a folder in the order of their names."""
    if path.is_file():
        return sha256_file(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    listed = "".join(f"{sha256_file(file)}  {file.relative_to(path).as_posix()}\n" for file in files)
    return hashlib.sha256(listed.encode()).hexdigest()


def _size_of(data: CocoAnnotated) -> Callable[[int], tuple[int, int] | None]:
    def size(index: int) -> tuple[int, int] | None:
        image = data.images[index]
        return (image["width"], image["height"]) if "width" in image and "height" in image else None

    return size


def _reader(data: CocoAnnotated, folder: Path | None) -> Callable[[int], np.ndarray | None]:
    def read(index: int) -> np.ndarray | None:
        from PIL import Image, UnidentifiedImageError

        name = data.images[index].get("file_name")
        if folder is None or name is None or data.dims != 2:
            return None
        path = (folder / name).resolve()
        if not path.is_file() or not path.is_relative_to(folder.resolve()):
            return None
        try:
            with Image.open(path) as picture:
                return np.moveaxis(np.asarray(picture.convert("RGB")), -1, 0)
        except (OSError, UnidentifiedImageError) as error:
            raise BadInput(f"{path} cannot be read as a picture ({error})") from error

    return read
