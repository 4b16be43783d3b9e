"""COCO's twelve numbers of anyone's detections, and nothing else: no folder, no picture, for small sets no numba."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from medaug_cli.evaluation.arguments import seeds_of
from medaug_cli.evaluation.found_files import read_found, unknown_categories
from medaug_cli.metrics import arrays
from medaug_cli.metrics.coco import twelve_numbers
from medaug_cli.metrics.coco_files import read_truth


def twelve_of_files(
    truth: Path, detections: Mapping[str, Sequence[Path]], say: Callable[[str], None] = lambda sentence: None
) -> dict[str, list[float]]:
    """Return COCO's twelve numbers of each detections file, and write nothing."""
    data, numbers = read_truth(truth), {}
    for name, path in seeds_of(detections).items():
        found, ids = read_found(path, data)
        if said := unknown_categories(truth, data, path, found, ids):
            say(said)
        numbers[name] = twelve_numbers(data, found, arrays if arrays.suit(data, found) else None)
    return numbers
