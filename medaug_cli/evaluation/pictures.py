"""Choose the images worth looking at, and draw what each detector made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medaug_cli.figures.overlays import View, draw_overlay
from medaug_cli.metrics.annotations import Annotated, FoundBoxes, without_crowds
from medaug_cli.metrics.operating import OPERATING_FPS, Matched, Sightings

if TYPE_CHECKING:
    from medaug_cli.evaluation.folder import Evidence
    from medaug_cli.metrics.analysis import Findings

OVERLAY_NOTE = (
    "Not a random choice: first the images on which the detectors disagree most, then those with most misses and "
    "false positives, patients in turn. Each detector is drawn at its own score threshold for one false positive a "
    "slice; a hit: {hit}. Found lesions are solid green, missed ones dashed red with a cross beside them, false "
    "positives thin blue; each with its score. An arrow points at a lesion that this detector found and another one "
    "missed. Grey levels are shown up to their 99.5th percentile."
)


def overlay_pictures(
    evidence: Evidence, findings: Findings, count: int | None, say: Callable[[str], None]
) -> Iterator[tuple[int, Any]]:
    """Yield (image index, PIL picture) of the chosen images that can be seen."""
    iou = float(next(iter(findings.metrics.rows[0].iou)))
    count = len(evidence.data) if count is None else count
    some = False
    for each in overlays({name: each[0] for name, each in findings.systems.items()}, iou, evidence.picture, count):
        some = True
        yield each
    if not some and count:
        say("no overlay is drawn: no image can be seen")


def overlays(
    matched: Mapping[str, Matched], iou: float, picture: Callable[[int], np.ndarray | None], count: int
) -> Iterator[tuple[int, Any]]:
    """Yield (image index, PIL picture) of `count` images, each detector at its score for 1 false positive per slice."""
    data = next(iter(matched.values())).data
    thresholds = [each.froc(iou).threshold_at(OPERATING_FPS) for each in matched.values()]
    found = {name: each.found for name, each in matched.items()}
    seen = [each.at(iou, each.score_at(iou)) for each in matched.values()]
    truth = without_crowds(data.truth)
    drawn = 0
    for index in choose_images(data, list(found.values()), seen):
        if drawn == count:
            return
        image = picture(index)
        if image is None:
            continue
        drawn += 1
        own = truth.images == index
        views = [
            _view(
                name, thresholds[i], found=boxes, seen=seen, which=i, index=index, own=own, label_names=data.label_names
            )
            for i, (name, boxes) in enumerate(found.items())
        ]
        captions = [data.label_names[label] for label in truth.labels[own]] if len(data.label_names) > 1 else []
        yield index, draw_overlay(image, truth.boxes[own], views, f"{data.image_names[index]}: annotated", captions)


def choose_images(data: Annotated, found: Sequence[FoundBoxes], seen: Sequence[Sightings]) -> list[int]:
    """Return image indices, most worth a look first: disagreement, misses, false positives; patients in turn."""
    truth, count = without_crowds(data.truth), len(data)
    hits = np.array([each.found for each in seen])  # (detectors, m)
    disagreed = np.bincount(truth.images[hits.any(0) & ~hits.all(0)], minlength=count)
    missed = np.bincount(truth.images[~hits.all(0)], minlength=count)
    false = np.zeros(count, np.int64)
    for boxes, each in zip(found, seen, strict=True):
        false += np.bincount(boxes.images[each.false], minlength=count)
    ranked: np.ndarray = np.lexsort((-false, -missed, -disagreed))
    turn: dict[str, int] = {}
    turns: list[int] = []
    for index in ranked:
        turns.append(turn.get(data.patients[index], 0))
        turn[data.patients[index]] = turns[-1] + 1
    return ranked[np.lexsort((np.arange(count), np.array(turns), -disagreed[ranked]))].tolist()


def _view(
    name: str,
    threshold: float | None,
    found: FoundBoxes,
    seen: Sequence[Sightings],
    which: int,
    index: int,
    own: np.ndarray,
    label_names: Sequence[str],
) -> View:
    here = found.images == index
    hit = here & seen[which].hit
    false = here & seen[which].false
    others = np.array([each.found[own] for i, each in enumerate(seen) if i != which], bool)
    others = others.reshape(len(seen) - 1, int(own.sum()))
    mine = seen[which].found[own]
    at = "no detection" if threshold is None else f"score ≥ {threshold:.3g}"
    only_here = mine & ~others.all(0) if len(others) else np.zeros_like(mine)
    return View(
        f"{name} ({at})",
        found.boxes[hit],
        hit_captions=_captions(found, hit, label_names),
        false=found.boxes[false],
        false_captions=_captions(found, false, label_names),
        found=mine,
        only_here=only_here,
    )


def _captions(found: FoundBoxes, rows: np.ndarray, label_names: Sequence[str]) -> list[str]:
    """Return the score of some detections, after their class where there are several."""
    several = len(label_names) > 1
    return [
        f"{label_names[label] if label < len(label_names) else 'other'} {score:.2f}" if several else f"{score:.2f}"
        for label, score in zip(found.labels[rows].tolist(), found.scores[rows].tolist(), strict=True)
    ]
