"""Histograms of grey values that can be put together, whatever their ranges."""

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np

from medaug_cli.boxes import Strict

BINS = 64
SAMPLES = 200_000  # pixels of a scan that are counted


class Histogram(Strict):
    """How often grey values occur between two ends; background, which is exactly 0, is left out."""

    low: float
    high: float
    counts: list[int]

    @classmethod
    def of(cls, images: Sequence[np.ndarray]) -> Self:
        """Count the values of some images, evenly sampled where there are many; brightest 0.1 % in the last bin."""
        whole = sum(image.size for image in images)
        values = np.concatenate([image.reshape(-1)[:: max(1, whole // SAMPLES)] for image in images])
        values = values[values != 0].astype(np.float64)
        if not len(values):
            return cls(low=0, high=1, counts=[0] * BINS)
        low, high = float(min(0, values.min())), float(np.percentile(values, 99.9))
        high = high if high > low else low + 1
        counts, _ = np.histogram(np.minimum(values, high), BINS, (low, high))
        return cls(low=low, high=high, counts=counts.tolist())

    @classmethod
    def each_together(cls, several: Sequence[Mapping[str, "Histogram"]]) -> dict[str, "Histogram"]:
        """Return one histogram of all that have the same name, by name."""
        named = {name: [each[name] for each in several if name in each] for each in several for name in each}
        return {name: one for name, all_of in named.items() if (one := cls.together(all_of)) is not None}

    @classmethod
    def together(cls, several: Sequence["Histogram"]) -> Self | None:
        """Return one histogram of them all, None of none; a bin's count goes to where its middle lies."""
        if not several:
            return None
        low = min(one.low for one in several)
        high = float(np.percentile([one.high for one in several], 90))
        high = high if high > low else max(one.high for one in several)
        counts = np.zeros(BINS, np.int64)
        for one in several:
            middles = one.low + (np.arange(len(one.counts)) + 0.5) * (one.high - one.low) / len(one.counts)
            places = np.clip(((middles - low) / (high - low) * BINS).astype(int), 0, BINS - 1)
            np.add.at(counts, places, one.counts)
        return cls(low=low, high=high, counts=counts.tolist())
