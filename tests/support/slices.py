"""A few constructed slices, and a short run that remembers its state."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from medaug_cli.plugin import Condition, ImageSpec, box_map


@dataclass
class Slices:
    """A few constructed slices: a dim round head, somewhere else each time, and a bright rectangle in each box."""

    spatial: tuple[int, ...] = (16, 16)
    count: int = 12
    channels: int = 1
    names: tuple[str, ...] = ("lesion",)
    side: int = 4

    def __post_init__(self) -> None:
        rng = np.random.default_rng(0)
        self.spec = ImageSpec(self.channels, self.spatial, self.names)
        low = rng.integers(0, min(self.spatial) - self.side, (self.count, len(self.spatial)))
        self.boxes = [np.concatenate([corner, corner + self.side])[None].astype(np.float32) for corner in low]
        self.labels = [np.array([i % len(self.names)], np.int64) for i in range(self.count)]
        self.patients = [str(i) for i in range(self.count)]
        self.weights = np.full(self.count, 1 / max(self.count, 1))
        self.annotated = np.ones(self.count, bool)
        self.images = 0.1 + 0.1 * rng.random((self.count, self.channels, *self.spatial), np.float32)
        for i in range(self.count):
            self.images[i] += 0.7 * box_map(self.boxes[i], self.spatial)

    def __len__(self) -> int:
        return self.count

    def read(self, indices: Any) -> np.ndarray:
        return self.images[np.asarray(indices)]

    def condition(self, index: int) -> Condition:
        return Condition(self.spatial, self.boxes[index], self.labels[index])


@dataclass
class ShortRun:
    """A run of `images`; it stops early after `stop` of them and remembers its last state."""

    images: int
    stop: int | None = None
    state: Any = None
    precision: str = "32"
    device: str = "cpu"
    seed: int = 3
    workers: int = 0
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        self.logged: list[dict[str, float]] = []

    def fraction(self, done: int) -> float:
        return 1.0 if self.stop is not None and done >= self.stop else done / self.images

    def autocast(self) -> AbstractContextManager:
        kinds = {"bf16": torch.bfloat16, "16": torch.float16}
        return torch.autocast("cpu", kinds[self.precision]) if self.precision in kinds else nullcontext()

    def average(self, tensors: Any) -> None:
        """Do nothing: one process."""

    def log(self, done: int, **values: float) -> None:
        self.logged.append({"done": done, **values})

    def checkpoint(self, done: int, state: Any, force: bool = False) -> bool:
        if force:
            self.state = state()
        return force

    def validate(self, predict: Any) -> dict[str, float]:
        return {}
