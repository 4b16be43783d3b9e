"""CPU time of intervals and paired tests: two detectors of about 10,000 detections on 947 images of 100 patients.

    python benchmarks/resampling.py [--resamples 2000]

Seven numbers at IoU 0.5 (sensitivity and false positives per slice at a threshold, sensitivity at 0.5, 1, 2, 4 and 8
false positives, which also give the CPM), and mAP besides. Compiled code is loaded before the clock starts.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

from medaug_cli.metrics import Annotated, cohort_of, found_boxes, match_detections, true_boxes
from medaug_cli.metrics.detection import DetectionAnswers, mean_average_precision, on_the_curve
from medaug_cli.metrics.operating import Cohort, Scored
from medaug_cli.metrics.resampling import bootstrap_weights, permuted, swaps

IMAGES, DETECTIONS, PATIENTS, CLASSES = 947, 10, 100, 10


def scenes() -> tuple[Cohort, list[Scored]]:
    """Return seeded random images and two detectors, one a little better, matched and sorted."""
    rng = np.random.default_rng(0)
    boxes = [_boxes(rng, int(rng.integers(0, 15))) for _ in range(IMAGES)]
    labels = [rng.integers(0, CLASSES, len(each)) for each in boxes]
    names = tuple(map(str, range(IMAGES)))
    patients = tuple(str(i % PATIENTS) for i in range(IMAGES))
    data = Annotated(names, patients, tuple(map(str, range(CLASSES))), true_boxes(boxes, labels))
    cohort = cohort_of(data)
    return cohort, [
        match_detections(data, cohort, _found(rng, boxes, labels, noise), (0.5,)).scored for noise in (0.1, 0.15)
    ]


def _boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    low = rng.uniform(0, 600, (count, 2))
    return np.hstack([low, low + np.exp(rng.normal(3.8, 0.9, (count, 2)))])


def _found(rng: np.random.Generator, boxes: list[np.ndarray], labels: list[np.ndarray], noise: float):
    answers = []
    for own, kinds in zip(boxes, labels, strict=True):
        near = rng.integers(0, len(own), DETECTIONS // 2) if len(own) else np.empty(0, np.int64)
        moved = own[near] + rng.normal(0, noise, (len(near), 4)) * np.tile(own[near, 2:] - own[near, :2], 2)
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2])
        away = _boxes(rng, DETECTIONS - len(near))
        kinds = np.concatenate([kinds[near], rng.integers(0, CLASSES, len(away))])
        scores = np.concatenate([rng.beta(3, 2, len(near)), rng.beta(1, 4, len(away))])
        answers.append((np.vstack([moved, away]), scores, kinds))
    return found_boxes(answers)


def seconds(work: Callable[[], object]) -> float:
    """Return the CPU seconds of some work, the least of three."""
    taken = []
    for _ in range(3):
        before = time.process_time()
        work()
        taken.append(time.process_time() - before)
    return min(taken)


def main() -> None:
    """Print what a paired bootstrap and a permutation test cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resamples", type=int, default=2000)
    resamples = parser.parse_args().resamples
    cohort, (first, second) = scenes()
    weights, swap = bootstrap_weights(PATIENTS, resamples, 0), swaps(PATIENTS, resamples, 0)
    functions = {"seven numbers": on_the_curve, "mAP": mean_average_precision}
    print(f"{len(first.scores)} and {len(second.scores)} detections, {PATIENTS} patients, {resamples} resamples")
    for name, function in functions.items():
        pair = [DetectionAnswers(each, cohort, 0.5, 0.001, (function,)) for each in (first, second)]
        both = seconds(lambda pair=pair: [each.measure(weights) for each in pair])
        test = seconds(lambda pair=pair: permuted(*pair, swap))
        print(f"{name:14} paired bootstrap {both:.2f} CPU s, permutation test {test:.2f} CPU s")


if __name__ == "__main__":
    main()
