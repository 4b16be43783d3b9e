"""Obedience to masks: does a segmenter that was trained on real images find what was asked for, where it was?

Legend of shapes: n images, *s spatial axes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medaug_cli.answers import answered
from medaug_cli.boxes import Strict
from medaug_cli.embedding.statistics import others
from medaug_cli.metrics.segmentation import dice
from medaug_cli.plugin import ImageSpec

SHUFFLES = 5


class Obedience(Strict):
    """How well what a segmenter finds agrees with the asked masks, and how well it would by chance and habit."""

    dice: float  # mean over images whose mask marks something
    shuffled: float  # the same where each image is judged by the mask of another
    images: int


@dataclass(frozen=True)
class Outliner:
    """A segmenter, and how many labels its masks have: 1 where all that is marked is one thing."""

    segmenter: Any
    labels: int

    def obedience(self, images: Iterable[np.ndarray], masks: Sequence[np.ndarray], seed: int = 0) -> Obedience | None:
        """Return how well asked masks, n of (*s) uint8, agree with what is found in images; None where none marks."""
        spec = ImageSpec(1, masks[0].shape, (), mask_names=tuple(map(str, range(self.labels))))
        name = type(self.segmenter).__name__
        answers = answered("segmenter", name, self.segmenter.predict(images), len(masks), spec)
        pairs = [(mask, found) for mask, found in zip(masks, answers, strict=True) if mask.any()]
        if not pairs:
            return None
        asked, found = [mask for mask, _ in pairs], [answer for _, answer in pairs]
        rng = np.random.default_rng(seed)
        shuffled = [self._mean([asked[i] for i in others(len(asked), rng)], found) for _ in range(SHUFFLES)]
        return Obedience(dice=self._mean(asked, found), shuffled=float(np.mean(shuffled)), images=len(pairs))

    def _mean(self, asked: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
        return float(np.mean([self._dice(*pair) for pair in zip(asked, found, strict=True)]))

    def _dice(self, asked: np.ndarray, found: np.ndarray) -> float:
        """Return the mean Dice over the labels that a mask asks for."""
        if self.labels == 1:
            asked, found = (asked > 0).astype(np.uint8), (found > 0).astype(np.uint8)
        each = [_of_label(asked == value, found == value) for value in np.unique(asked[asked > 0])]
        return float(np.mean(each))


def _of_label(asked: np.ndarray, found: np.ndarray) -> float:
    return float(dice(int(asked.sum()), int(found.sum()), int((asked & found).sum())))
