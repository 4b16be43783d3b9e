"""What a study of detection shows besides its numbers: FROC curves, finds by size of the lesion, overlays."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medaug_cli.metrics.breakdown import SizeGroup, by_size, lesion_sizes
from medaug_cli.metrics.operating import MATCHED_FPS, Matched
from medaug_cli.metrics.resampling import System, interval, over_seeds
from medaug_cli.study.analysis import FrocPoint
from medaug_cli.tasks.detection import IOUS, FoundAnswers

THIRDS = 3


def curves(system: System) -> dict[str, list[FrocPoint]]:
    """Return the FROC of an arm at each IoU."""
    return {f"{iou:g}": [_point(system, fps, f"_iou{iou:g}") for fps in MATCHED_FPS] for iou in IOUS}


def _point(system: System, fps: float, ending: str) -> FrocPoint:
    number = f"sensitivity_at_{fps:g}"
    limits = interval(over_seeds(system.spreads, f"{number}{ending}", system.seed, number))
    return FrocPoint(fps_per_slice=fps, sensitivity=system.mean(f"{number}{ending}"), interval=limits)


def sizes(answers: Sequence[FoundAnswers]) -> list[SizeGroup]:
    """Return the sensitivity of each third of the lesions by size, at one false positive per slice, mean over seeds."""
    matched = [each.matched for each in answers if each.matched is not None]
    data, iou = matched[0].data, IOUS[0]
    lesions, _ = lesion_sizes(data)
    thirds = [part[0] for part in np.array_split(np.sort(lesions), THIRDS) if len(part)][1:]
    edges = tuple(float(edge) for edge in dict.fromkeys(thirds) if edge > lesions.min())
    return by_size(data, [each.at(iou, each.score_at(iou)) for each in matched], edges)


def matched_of(answers: Mapping[str, Any]) -> dict[str, Matched]:
    """Return the matched detections of each arm; nothing of other tasks."""
    told = {name: each.matched for name, each in answers.items() if isinstance(each, FoundAnswers)}
    return {name: each for name, each in told.items() if each is not None}
