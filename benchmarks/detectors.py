"""Training and inference of yolov3 beside torchvision's RetinaNet on the same backbone, in one run.

Images a CPU second (user and system) of one thread, medians over steps. Both go through the same loop, augmentation and
suppression; RetinaNet has nine anchors a place on strides 8, 16 and 32, as yolov3 has three.

Example: python benchmarks/detectors.py --backbone resnet18 --size 128
"""

import argparse
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from medaug_cli.plugin import ImageSpec
from medaug_cli.testing.examples import constructed
from medaug_cli.testing.trial import TrialRun
from medaug_plugins.torchvision import RetinaNet
from medaug_plugins.yolov3 import YOLOv3

WARM = 2  # steps and batches that are not counted


@dataclass
class Clock(TrialRun):
    """A run that notes the processor time of every step."""

    moments: dict[int, float] = field(default_factory=dict)

    def fraction(self, done: int) -> float:
        self.moments.setdefault(done, time.process_time())
        return super().fraction(done)


def training_rate(detector: Any, data: Any, steps: int) -> float:
    """Return images a CPU second of training."""
    run = Clock(steps + WARM)
    detector.fit(data, run)
    taken = np.diff([run.moments[i] for i in range(WARM, steps + WARM + 1)])
    return detector.batch / float(np.median(taken))


def inference_rate(detector: Any, data: Any, batches: int, batch: int = 16) -> float:
    """Return images a CPU second of prediction, suppression included."""
    images, taken = data.images[:batch], []
    for _ in range(batches + WARM):
        start = time.process_time()
        assert len(list(detector.predict(images))) == batch
        taken.append(time.process_time() - start)
    return batch / float(np.median(taken[WARM:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    data = constructed(ImageSpec(1, (asked.size, asked.size), ("lesion",)), n=16)
    shared: dict[str, Any] = {"backbone": asked.backbone, "batch": asked.batch}
    detectors: dict[str, Any] = {
        "yolov3, head_width=512": YOLOv3(**shared),
        "yolov3, head_width=512, aligned": YOLOv3(**shared, assignment="aligned"),
        "retinanet, pyramid=256": RetinaNet(**shared, pyramid=256),
        "yolov3, head_width=128, aligned": YOLOv3(**shared, head_width=128, assignment="aligned"),
        "retinanet, pyramid=64": RetinaNet(**shared, pyramid=64),
    }
    print(f"backbone {asked.backbone}, {asked.size}x{asked.size}, batches of {asked.batch}; one thread, CPU seconds\n")
    print("| detector | parameters | training, images/s | inference, images/s |\n| --- | ---: | ---: | ---: |")
    for name, detector in detectors.items():
        learnt = training_rate(detector, data, asked.steps)
        found = inference_rate(detector, data, asked.steps)
        parameters = sum(p.numel() for p in detector.build(data.spec).parameters())
        print(f"| {name} | {parameters / 1e6:.1f} M | {learnt:.1f} | {found:.1f} |", flush=True)


if __name__ == "__main__":
    main()
