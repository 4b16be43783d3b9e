"""When each level of detail is trained: the schedule of progressive growing (Karras et al. 2018, 2 and A.1).

The level of detail (lod) counts halvings from the full image: 0 is full size, 2.3 lies between a
quarter and an eighth, where three tenths of the output still come from the coarser of the two.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from medaug_cli.plugin import UsageError


class Stage(NamedTuple):
    """One moment of the schedule."""

    lod: float
    resolution: int  # of the shorter side
    batch: int


@dataclass(frozen=True)
class Schedule:
    """Grow from 4 to `resolution`: at every level train stable, then fade to the next one."""

    resolution: int
    batches: dict[int, int]
    fade_kimg: float = 600.0
    stable_kimg: float = 600.0

    @property
    def levels(self) -> int:
        """Return how often the image doubles, from 4 pixels on."""
        return round(math.log2(self.resolution)) - 2

    @property
    def growing_kimg(self) -> float:
        """Return the thousands of images after which the full size is reached."""
        return self.levels * (self.fade_kimg + self.stable_kimg)

    def lod(self, kimg: float) -> float:
        """Return the level of detail after `kimg` thousand real images."""
        level, kimg_in_level = divmod(kimg, self.fade_kimg + self.stable_kimg)
        faded = max(kimg_in_level - self.stable_kimg, 0.0) / self.fade_kimg
        return max(self.levels - level - faded, 0.0)

    def at_lod(self, lod: float) -> Stage:
        """Return the resolution and the batch size of a level of detail."""
        resolution = self.resolution >> math.floor(lod)
        return Stage(lod, resolution, self.batch(resolution))

    def batch(self, resolution: int) -> int:
        """Return the batch size of the largest listed resolution that is not above this one."""
        below = [size for size in self.batches if size <= resolution]
        return self.batches[max(below) if below else min(self.batches)]


def phase(lod: float) -> tuple[int, int]:
    """Return what stays the same within one fade or one stable phase; Adam is reset when it changes."""
    return math.floor(lod), math.ceil(lod)


def read_batches(text: str) -> dict[int, int]:
    """Read `4:128,32:64` as resolution -> batch size; raise UsageError for anything else."""
    try:
        table = {int(size): int(batch) for size, batch in (pair.split(":") for pair in text.split(","))}
    except ValueError:
        table = {}
    if not table or min(*table.keys(), *table.values()) < 1:
        raise UsageError(f"batches must read like '4:128,32:64' (resolution:images), not {text!r}")
    return table
