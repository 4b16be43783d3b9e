"""Collect the misses and false alarms of each detector, and where they lie, for errors.html."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from medaug_cli.figures.errors_page import Mistake, Outline, Scene, as_jpeg, blank, errors_html
from medaug_cli.figures.grid import flat_boxes
from medaug_cli.figures.overlays import crosses
from medaug_cli.metrics.annotations import Annotated, FoundBoxes, without_crowds
from medaug_cli.metrics.breakdown import KINDS, NEAR, error_kinds, lesion_sizes
from medaug_cli.metrics.matching import BY_DISTANCE
from medaug_cli.metrics.operating import Matched, Sightings
from medaug_cli.metrics.report import hit_words

if TYPE_CHECKING:
    from medaug_cli.evaluation.folder import Evidence
    from medaug_cli.metrics.analysis import Findings

MOST = 200  # misses, and as many false alarms, on the page


@dataclass
class Gallery:
    """The pictures, scenes and cards of a page."""

    evidence: Evidence
    pictures: list[tuple[str, int, int]] = field(default_factory=list)
    scenes: list[Scene] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)
    scales: dict[int, np.ndarray] = field(default_factory=dict)  # image -> what makes corners (4,) percent of it
    _places: dict[tuple[int, int], int | None] = field(default_factory=dict)

    def picture(self, image: int, depth: int) -> int | None:
        """Return the number of a slice's picture, None where it can be neither seen nor measured."""
        if (image, depth) not in self._places:
            made = self._made(image, depth)
            self._places[image, depth] = None if made is None else len(self.pictures)
            self.pictures += [] if made is None else [made]
        return self._places[image, depth]

    def _made(self, image: int, depth: int) -> tuple[str, int, int] | None:
        pixels = self.evidence.picture(image)
        size = self.evidence.size(image) if pixels is None else (pixels.shape[-1], pixels.shape[-2])
        if size is None:
            return None
        self.scales[image] = np.array([100 / size[0], 100 / size[1]] * 2)
        if pixels is None:
            return blank(*size)
        return as_jpeg(pixels[:, np.clip(depth, 0, pixels.shape[1] - 1)] if pixels.ndim == 4 else pixels)


def gallery_html(evidence: Evidence, findings: Findings) -> str:
    """Return the page of the misses and false alarms at one false positive per slice."""
    metrics = findings.metrics
    first = next(iter(metrics.rows[0].iou))
    gallery, left_out = Gallery(evidence), 0
    for name, seeds in findings.systems.items():
        left_out += _collect(gallery, name, seeds[0], float(first))
    words = hit_words(metrics.rule, first)
    notes = [
        f"Each detector at its own score for one false positive per slice; a hit: {words} (rule {metrics.rule}). Size "
        "is the side of a square (cube) as large as the box or lesion. The score of a miss is the best that touches it "
        f"(IoU {NEAR:g}), whatever the threshold. For research only.",
    ]
    if left_out:
        notes.append(f"{left_out} more are not shown: of each detector the {MOST} largest misses and the {MOST} false "
                     "alarms of highest score are.")  # fmt: skip
    return errors_html(gallery.pictures, gallery.scenes, gallery.mistakes, notes, lesion_sizes(evidence.data)[1])


def _collect(gallery: Gallery, detector: str, matched: Matched, iou: float) -> int:
    """Add one detector's cards; return how many were left out."""
    data, found, truth = matched.data, matched.found, without_crowds(matched.data.truth)
    seen = matched.at(iou, matched.score_at(iou))
    sizes, _ = lesion_sizes(data)
    if matched.rule in BY_DISTANCE:
        errors: list[str] = [""] * len(found.scores)
    else:
        errors = [KINDS[kind] if kind >= 0 else "" for kind in error_kinds(data, found, seen, iou)[0].tolist()]
    touching = _best_touching(data, found)
    touched = touching >= found.scores[seen.kept].min(initial=np.inf)
    missed = np.flatnonzero(~seen.found)
    missed = missed[np.argsort(-sizes[missed], kind="stable")]
    false = np.flatnonzero(seen.false)
    false = false[np.argsort(-found.scores[false], kind="stable")]
    shown = 0
    for i in missed[:MOST].tolist():
        score = float(touching[i]) if np.isfinite(touching[i]) else None
        label = data.label_names[truth.labels[i]]
        near = "" if score is None else "found too loosely" if touched[i] else "seen below the score"
        card = ("missed", near, label, score, float(sizes[i]))
        shown += _add(
            gallery,
            detector,
            image=int(truth.images[i]),
            box=truth.boxes[i],
            which=("truth", i),
            card=card,
            found=found,
            seen=seen,
        )
    for i in false[:MOST].tolist():
        label = data.label_names[found.labels[i]] if found.labels[i] < len(data.label_names) else "other"
        card = ("false alarm", errors[i], label, float(found.scores[i]), float(_side(data, found, i)))
        shown += _add(
            gallery,
            detector,
            image=int(found.images[i]),
            box=found.boxes[i],
            which=("found", i),
            card=card,
            found=found,
            seen=seen,
        )
    return len(missed) + len(false) - shown


def _side(data: Annotated, found: FoundBoxes, i: int) -> float:
    scale = 1.0 if data.spacing is None else float(np.prod(data.spacing[found.images[i]]))
    return float((found.volumes[i] * scale) ** (1 / data.dims))


def _best_touching(data: Annotated, found: FoundBoxes) -> np.ndarray:
    """Return the best score of any detection of its class that touches each lesion (m,), -inf where none does."""
    from medaug_cli.metrics.matching import iou

    truth = without_crowds(data.truth)
    best = np.full(len(truth.images), -np.inf)
    order = np.argsort(found.images, kind="stable")
    begins = np.searchsorted(found.images[order], np.arange(len(data) + 1))
    for i, image in enumerate(truth.images.tolist()):
        rows = order[begins[image] : begins[image + 1]]
        rows = rows[found.labels[rows] == truth.labels[i]]
        if len(rows):
            near = iou(truth.boxes[i : i + 1], found.boxes[rows])[0] >= NEAR
            best[i] = found.scores[rows[near]].max(initial=-np.inf)
    return best


def _add(
    gallery: Gallery, detector: str, image: int, box: np.ndarray, which: tuple[str, int],
    card: tuple[str, str, str, float | None, float], found: FoundBoxes, seen: Sightings,
) -> bool:  # fmt: skip
    data = gallery.evidence.data
    depth = int((box[2] + box[5]) / 2) if data.dims == 3 else 0
    picture = gallery.picture(image, depth)
    if picture is None:
        return False
    boxes, focus = _outlines(gallery, image, depth=depth, which=which, found=found, seen=seen)
    gallery.scenes.append(Scene(picture, boxes))
    kind, error, label, score, size = card
    gallery.mistakes.append(
        Mistake(
            kind,
            error,
            detector=detector,
            image=data.image_names[image],
            patient=data.patients[image],
            label=label,
            score=score,
            size=size,
            scene=len(gallery.scenes) - 1,
            focus=focus,
        )
    )
    return True


def _outlines(
    gallery: Gallery, image: int, depth: int, which: tuple[str, int], found: FoundBoxes, seen: Sightings
) -> tuple[list[Outline], int]:
    """Return the boxes on a slice, in percent, and which of them the card is about."""
    data, truth = gallery.evidence.data, without_crowds(gallery.evidence.data.truth)
    truths, kept = np.flatnonzero(truth.images == image), np.flatnonzero((found.images == image) & seen.kept)
    rows = [("truth", int(i), truth.boxes[i], "annotated" if seen.found[i] else "missed", "missed") for i in truths]
    rows += [
        ("found", int(i), found.boxes[i], "found" if seen.hit[i] else "false", f"{found.scores[i]:.2f}") for i in kept
    ]
    if data.dims == 3:
        rows = [row for row in rows if row[:2] == which or crosses(row[2][None], depth)[0]]
    outlines = [_outline(row[2], gallery.scales[image], row[3], row[4]) for row in rows]
    return outlines, next(i for i, row in enumerate(rows) if row[:2] == which)


def _outline(box: np.ndarray, scale: np.ndarray, kind: str, words: str) -> Outline:
    x0, y0, x1, y1 = (round(float(v), 2) for v in flat_boxes(box[None])[0] * scale)
    return Outline(x0, y0, width=round(x1 - x0, 2), height=round(y1 - y0, 2), kind=kind, words=words)
