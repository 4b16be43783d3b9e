"""Greedy matching of detections to boxes, by COCO's rule or another one, over flat arrays."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import numpy as np

from medaug_cli.metrics.annotations import FoundBoxes, TrueBoxes
from medaug_cli.metrics.outcomes import NOT_COUNTED, Outcomes

ALL_AREAS = ((-np.inf, np.inf),)
NO_CAP = np.iinfo(np.int64).max
DETECTIONS_A_THREAD = 100_000  # fewer are matched before a thread has begun
RULES = {  # name -> when a detection finds a box, and what becomes of the others
    "coco": "the free box of largest IoU, if that is large enough; a duplicate is a false positive, nothing is ignored",
    "voc": "the box of largest IoU, if that is large enough and the box is free; a duplicate is a false positive; "
    "difficult (crowd) boxes are ignored",
    "luna": "the nearest free box whose centre is nearer than half its mean side, in mm where the spacing of every "
    "image is known; duplicates are ignored",
    "center": "the nearest free box in which the detection's centre lies; duplicates are ignored",
}
BY_DISTANCE = ("luna", "center")  # rules that ask for no IoU


def crowds_are_ignored(rule: str) -> bool:
    """Tell whether a rule ignores detections on crowd regions; COCO's, without its ignoring, has no such regions."""
    return rule != "coco"


def compiled_loops() -> ModuleType:
    """Load the compiled loops, which takes about half a second of CPU time."""
    from medaug_cli.metrics import kernels

    return kernels


def iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the IoU of every pair of corner boxes (n, 2*d) and (m, 2*d): (n, m), 0 for empty boxes."""
    from medaug_cli.metrics.kernels import iou_matrix

    one, other = np.asarray(boxes, np.float64), np.asarray(others, np.float64)
    d = one.shape[1] // 2
    volumes, other_volumes = (np.prod(b[:, d:] - b[:, :d], axis=1) for b in (one, other))
    return iou_matrix(one, volumes, other, other_volumes, np.zeros(len(other), bool))


def match_boxes(
    truth: TrueBoxes,
    found: FoundBoxes,
    images: int,
    classes: int,
    ious: np.ndarray,
    areas: tuple[tuple[float, float], ...] = ALL_AREAS,
    cap: int = NO_CAP,
    name_partners: bool = False,
    rule: str = "coco",
    spacing: np.ndarray | None = None,
    loops: ModuleType | None = None,
) -> Outcomes:
    """Match all detections of all images at every IoU threshold and area range in one pass.

    Rules other than COCO's know no area ranges and no cap; those by distance give every IoU the same outcome,
    and measure in mm where `spacing` (images, d) says how many a pixel has, x first.
    `loops` does COCO's matching: `kernels`, which is the default, or `arrays`.
    """
    loops = loops or compiled_loops()
    everything = np.arange(len(found.scores), dtype=np.int64)
    by_image, _ = loops.counting_sort(everything, found.images, images)
    by_score = by_image[np.argsort(-found.scores[by_image], kind="stable")]
    order, begins = loops.counting_sort(by_score, found.labels * images + found.images, images * classes)
    true_order, true_begins = loops.counting_sort(
        np.arange(len(truth.images), dtype=np.int64), truth.labels * images + truth.images, images * classes
    )
    low, high = (np.array(side, np.float64) for side in zip(*areas, strict=True))
    if rule == "coco":
        outcome = np.full((len(order), len(low), len(ious)), NOT_COUNTED, np.int8)
        partners = np.full((len(order) if name_partners else 0, len(ious)), -1, np.int64)

        def match_groups(first: int, last: int) -> None:
            loops.match(
                order, begins[first : last + 1], found.boxes, found.volumes,
                true_order, true_begins[first : last + 1], truth.boxes, truth.volumes, truth.areas, truth.crowd,
                np.asarray(ious, np.float64), low, high, min(cap, NO_CAP - len(order)), outcome, partners,
            )  # fmt: skip

        _share_out(match_groups, begins)
    else:
        from medaug_cli.metrics import rule_kernels

        known = np.ones((images, truth.boxes.shape[1] // 2)) if spacing is None else spacing
        steps = np.ascontiguousarray(known[truth.images], np.float64)
        outcome, partners = rule_kernels.match_singly(
            list(RULES).index(rule), order, begins, found.boxes, found.volumes,
            true_order, true_begins, truth.boxes, truth.volumes, steps, truth.crowd,
            np.asarray(ious, np.float64),
        )  # fmt: skip
    row = np.empty_like(order)
    row[order] = everything
    by_class, class_begins = loops.counting_sort(by_score, found.labels, classes)
    ranks = everything - np.repeat(begins[:-1], np.diff(begins))
    return Outcomes(
        order,
        ranks,
        outcome=outcome,
        partners=partners,
        by_score=row[by_score],
        by_class=row[by_class],
        class_begins=class_begins,
    )


def _share_out(work: Callable[[int, int], None], begins: np.ndarray) -> None:
    """Let threads, which numba lets run at once, work on groups `first` to `last` - 1 of about as many detections."""
    threads = int(begins[-1] // DETECTIONS_A_THREAD)
    if threads > 1:
        import numba

        threads = min(threads, numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    if threads < 2:
        work(0, len(begins) - 1)
        return
    cuts = np.searchsorted(begins, np.linspace(0, begins[-1], threads + 1))
    cuts[0], cuts[-1] = 0, len(begins) - 1
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, cuts[:-1].tolist(), cuts[1:].tolist()))
