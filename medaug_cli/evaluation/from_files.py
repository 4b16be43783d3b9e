"""Evaluate anyone's detections from COCO JSON files: no store, no torch."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from medaug_cli.errors import BadInput
from medaug_cli.evaluation.arguments import seed_names, seeds_of
from medaug_cli.evaluation.folder import Evidence, Request, publish_evaluation
from medaug_cli.files import sha256_file
from medaug_cli.metrics.coco import twelve_numbers
from medaug_cli.metrics.coco_files import CocoAnnotated, read_detections, read_truth
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
        raise BadInput(f"{images} is no folder of images")
    paths = seeds_of(detections)
    read = {name: read_detections(path, data) for name, path in paths.items()}
    evidence = Evidence(
        data=data,
        found={name: found for name, (found, _) in read.items()},
        image_ids=data.image_ids,
        category_ids={name: ids for name, (_, ids) in read.items()},
        picture=_reader(data, images),
        sources={truth.name: sha256_file(truth)},
        weights={name: sha256_file(path) for name, path in paths.items()},
        systems=seed_names(detections),
        size=_size_of(data),
        resampled="patients" if data.names_patients else "images",
    )
    return publish_evaluation(request, evidence)


def twelve_of_files(truth: Path, detections: Mapping[str, Sequence[Path]]) -> dict[str, list[float]]:
    """Return COCO's twelve numbers of each detections file, and write nothing."""
    data = read_truth(truth)
    return {name: twelve_numbers(data, read_detections(path, data)[0]) for name, path in seeds_of(detections).items()}


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
