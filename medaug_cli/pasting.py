"""Put drawn lesions into whole images of a store: in the body, on no other lesion, where it looks like around them.

Legend: c channels, *s spatial axes of a whole image in numpy order, *r of a drawn region, d of them. Boxes are
half-open pixel corners (2*d,), x first. Only the window of an image in which a lesion comes to lie becomes floats.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from medaug_cli.blending import MARGIN, blended, ellipsoid, window
from medaug_cli.errors import BadInput
from medaug_cli.scans.placement import Order, Placement
from medaug_cli.scans.room import Body, body, share_in
from medaug_cli.store import Record, Store
from medaug_cli.store.reading import is_real

Blending = Literal["poisson", "soft"]
INSIDE = 0.9  # of a lesion that must lie in the body, as a share of the most that anywhere does
MOST_HOSTS = 64  # images in which room for a lesion is looked for
TRIES = 1000  # places in an image, beside its boxes, that are looked at for one where no mask reaches
PLACES = 128  # in an image that are looked at for one that is like the lesion's surroundings
SURROUNDINGS = 0.6  # of a lesion's sides, around it, that are its surroundings


@dataclass(frozen=True)
class Region:
    """What a generator drew around one lesion, and the lesions within it."""

    image: np.ndarray  # (c, *r) float32 in [0, 1]
    box: np.ndarray
    label: str
    mask: np.ndarray | None = None  # (*r), of the values that the masks of whole images have
    spacing: Sequence[float] | None = None  # mm between pixels in numpy axis order
    within: Sequence[tuple[np.ndarray, str]] = ()  # boxes in the box, and their labels


class NoRoom(BadInput):
    """No image has room for some lesions."""


class Hosts:
    """The real, annotated training images of a store, into which lesions are put."""

    def __init__(self, store: Store, blending: Blending) -> None:
        self.store, self.blending = store, blending
        self.chosen = np.flatnonzero(store.annotated & (store.splits == "train") & is_real(store))
        if not len(self.chosen):
            raise BadInput(f"{store.path} has no annotated real image in the training split to put lesions into")

    @property
    def patients(self) -> set[str]:
        """Return whose images lesions are put into."""
        return {self.store.patients[i] for i in self.chosen}

    def with_lesions(self, regions: Sequence[Region], seed: int, number: int) -> Record:
        """Return an image, of no id or source yet, that shows the lesions of the regions beside its own.

        Image `number` has its turn in a shuffled order; where there is no room, another one is taken. Raises NoRoom
        where none of MOST_HOSTS has room.
        """
        for index in self._in_turn(seed, number):
            record = self._filled(index, regions, np.random.default_rng([seed, number, 3]))
            if record is not None:
                return record
        sides = max((_sides(region, self._factor(self.chosen[0], region)) for region in regions), key=np.prod)
        lesion, size = ("x".join(f"{side:.0f}" for side in each) for each in (sides, self.store.spec.spatial[::-1]))
        count = min(MOST_HOSTS, len(self.chosen))
        raise NoRoom(
            f"none of the {count} training images of {self.store.path}, {size} pixels each, has room for a lesion of "
            f"{lesion} pixels in its body and on no other lesion"
        )

    def _in_turn(self, seed: int, number: int) -> Iterator[int]:
        turn, place = divmod(number, len(self.chosen))
        order = np.roll(np.random.default_rng([seed, turn, 4]).permutation(self.chosen), -place)
        yield int(order[0])
        others = np.random.default_rng([seed, number, 5]).permutation(order[1:])  # not always the same behind it
        yield from (int(i) for i in others[: MOST_HOSTS - 1])

    def _filled(self, index: int, regions: Sequence[Region], rng: np.random.Generator) -> Record | None:
        """Return image `index` with lesions, None where there is no room for them."""
        store, record = self.store, self.store.record(index)
        own, new, labels = list(record.boxes), list[np.ndarray](), list[str]()
        record.image = np.array(record.image)
        record.mask = None if record.mask is None else np.array(record.mask)
        for region in regions:
            box = self._place(index, record, region, [*own, *new], rng)
            if box is None:
                return None
            self._put(record, region, box)
            new += [_moved(each, region.box, box) for each in (region.box, *(inner for inner, _ in region.within))]
            labels += [region.label, *(label for _, label in region.within)]
        record.boxes = np.array([*own, *new], np.float32)
        record.labels = [*record.labels, *labels]
        if not own:
            record.image_class = None  # it was that of an image without a lesion
        lesions = [[round(float(side), 3) for side in box] for box in new]
        record.details = record.details | {"host": store.ids[index], "lesions": lesions, "blending": self.blending}
        return record

    def _place(
        self, index: int, record: Record, region: Region, boxes: Sequence[np.ndarray], rng: np.random.Generator
    ) -> np.ndarray | None:
        """Return the box of a lesion whose surroundings in an image are most like those in its region."""
        rough, factor = self._body(index), self._factor(index, region)
        sides, size = _sides(region, factor), np.array(record.image.shape[:0:-1])
        if (sides > size).any():
            return None
        shares = share_in(rough, sides[::-1])
        centres = rough.centres(shares >= max(INSIDE * float(shares.max()), 1e-6))
        lows = _lows(centres, rough, sides=sides, size=size, rng=rng)
        lows = rng.permutation(lows[_free(lows, sides, boxes)])[:TRIES]
        unlike, found = _Unlikeness(region), list[tuple[float, np.ndarray]]()
        for low in lows:
            box = np.concatenate([low, low + sides])
            around_it = window(box, record.image.shape[1:], MARGIN)
            if record.mask is not None and np.any(record.mask[around_it]):
                continue
            found.append((unlike.at(record.image, box), box))
            if len(found) == PLACES:
                break
        return min(found, key=lambda one: one[0])[1] if found else None

    def _put(self, record: Record, region: Region, box: np.ndarray) -> None:
        """Draw the lesion of a region into a box of an image and of its mask."""
        inner = _near(box, record.image.shape[1:])
        drawn = _carried(region.image, region.box, box, inner, "linear")
        there, most = record.image[:, *inner], np.iinfo(record.image.dtype).max
        lesion = _lesion(region, box, inner)
        known = lesion if region.mask is not None else None
        found = blended(_scaled(there), drawn, _within(box, inner), MARGIN, self.blending == "poisson", known)
        touched = np.zeros(there.shape[1:], bool)
        touched[window(_within(box, inner), touched.shape, max(MARGIN, 1 / float(_extent(box).min())))] = True
        new = np.rint(np.clip(found, 0, 1) * most).astype(record.image.dtype)
        record.image[:, *inner] = np.where(touched, new, there)
        if record.mask is not None:
            part = record.mask[inner]
            part[lesion] = self._values(region, box, inner)[lesion]

    def _values(self, region: Region, box: np.ndarray, inner: tuple[slice, ...]) -> np.ndarray:
        """Return what a window of a mask says of a lesion that covers it: which of the drawn values is the likeliest.

        Without a drawn mask it says the label, and in the ellipsoids of the boxes within it theirs.
        """
        shape = tuple(span.stop - span.start for span in inner)
        if region.mask is not None and region.mask.any():
            drawn = np.unique(region.mask[region.mask > 0])
            shares = [_carried((region.mask == value)[None], region.box, box, inner, "area")[0] for value in drawn]
            return np.asarray(drawn[np.argmax(shares, axis=0)])
        values = np.full(shape, self._value(region.label))
        for each, label in sorted(region.within, key=lambda one: -np.prod(_extent(one[0]))):
            values[ellipsoid(_within(_moved(each, region.box, box), inner), shape)] = self._value(label)
        return values

    def _value(self, label: str) -> int:
        names = self.store.spec.mask_names
        return names.index(label) + 1 if label in names else 1

    def _factor(self, index: int, region: Region) -> np.ndarray:
        """Return how many pixels of an image one of a region is, (d,) x first; 1 where either is of unknown width."""
        own = self.store.spacing[index]
        if region.spacing is None or np.isnan(own).any():
            return np.ones(len(own))
        return (np.array(region.spacing) / own)[::-1]

    @lru_cache(maxsize=256)  # noqa: B019 - the cells are few, and a store has one Hosts
    def _body(self, index: int) -> Body:
        raw = self.store.images[index]
        return body(raw, scale=1 / np.iinfo(raw.dtype).max)


def _moved(box: np.ndarray, within: np.ndarray, to: np.ndarray) -> np.ndarray:
    """Return where a box lies once the one that it lies in has become another."""
    d = len(box) // 2
    factor = _extent(to) / _extent(within)
    return np.concatenate([to[:d] + (each - within[:d]) * factor for each in (box[:d], box[d:])])


def _sides(region: Region, factor: np.ndarray) -> np.ndarray:
    """Return the sides of a region's lesion in pixels of a whole image, (d,) x first."""
    return np.maximum(_extent(region.box) * factor, 1.0)


def _extent(box: np.ndarray) -> np.ndarray:
    d = len(box) // 2
    return np.asarray(box[d:] - box[:d], np.float64)


def _lows(
    centres: np.ndarray, rough: Body, *, sides: np.ndarray, size: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return low corners (n, d), x first and whole pixels, of boxes somewhere in the cells around centres (n, d).

    Their margins lie in the image, where it is large enough for that.
    """
    middles = (centres + rng.uniform(-0.5, 0.5, centres.shape) * rough.step)[:, ::-1]
    more = np.ceil(MARGIN * sides + 1)
    more = np.where(size - sides - 2 * more >= 0, more, 0)
    return np.clip(np.floor(middles - sides / 2), more, np.floor(size - sides - more))


class _Unlikeness:
    """How far from what surrounds a drawn lesion a place of an image is; resampled once for places that are alike."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self.known: dict[tuple[float, ...], _Surroundings] = {}

    def at(self, image: np.ndarray, box: np.ndarray) -> float:
        """Return how far what is around a box of an image, and in it, is from what is around the lesion.

        Around it values are compared pixel by pixel, and as they are distributed: the former alone would favour places
        with nothing in them. In it their mean alone counts.
        """
        inner = _near(box, image.shape[1:], SURROUNDINGS)
        own = _within(box, inner)
        key = (*own.tolist(), *(float(span.stop - span.start) for span in inner))
        if key not in self.known:
            self.known[key] = self._drawn(box, inner)
        drawn, there = self.known[key], _scaled(image[:, *inner])
        found, level = there[:, drawn.ring], drawn.values.mean(1)
        apart = np.abs(found - drawn.values).mean() + np.abs(np.sort(found, 1) - drawn.ordered).mean()
        return float(apart + np.abs(there[:, drawn.inside].mean(1) - level).mean())

    def _drawn(self, box: np.ndarray, inner: tuple[slice, ...]) -> "_Surroundings":
        """Return the region's surroundings as they lie in a window."""
        drawn = _carried(self.region.image, self.region.box, box, inner, "linear")
        shown = _carried(np.ones_like(self.region.image[:1]), self.region.box, box, inner, "area")[0] > 0.99
        own, ring, inside = _within(box, inner), np.zeros(drawn.shape[1:], bool), np.zeros(drawn.shape[1:], bool)
        inside[window(own, inside.shape)] = True
        ring[window(own, ring.shape, SURROUNDINGS)] = True
        ring &= shown & ~inside
        ring = ring if ring.any() else inside
        return _Surroundings(drawn[:, ring], np.sort(drawn[:, ring], 1), ring, inside)


class _Surroundings(NamedTuple):
    """What lies around a lesion, and where."""

    values: np.ndarray  # (c, n)
    ordered: np.ndarray  # (c, n), by value
    ring: np.ndarray  # (*s) bool, where they are in a window
    inside: np.ndarray  # (*s) bool, the box


def _free(lows: np.ndarray, sides: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
    """Return which boxes (n,) of these low corners (n, d) and sides (d,), grown by the margin, meet none of others."""
    d, free, more = len(sides), np.ones(len(lows), bool), MARGIN * sides
    for other in others:
        free &= ((lows + sides + more <= other[:d]) | (lows - more >= other[d:])).any(1)
    return free


def _near(box: np.ndarray, spatial: Sequence[int], grow: float = MARGIN) -> tuple[slice, ...]:
    """Return the pixels of a box, grown by its margin or more, and two more on every side."""
    spans = window(box, spatial, grow)
    return tuple(slice(max(s.start - 2, 0), min(s.stop + 2, n)) for s, n in zip(spans, spatial, strict=True))


def _within(box: np.ndarray, inner: tuple[slice, ...]) -> np.ndarray:
    """Return a box in the pixels of a window."""
    return np.asarray(box - np.tile([span.start for span in inner[::-1]], 2))


def _scaled(raw: np.ndarray) -> np.ndarray:
    return raw.astype(np.float32) / np.float32(np.iinfo(raw.dtype).max)


def _carried(image: np.ndarray, box: np.ndarray, to: np.ndarray, inner: tuple[slice, ...], order: Order) -> np.ndarray:
    """Resample a region (c, *r) so that its box comes to lie on another, in a window; its border is prolonged."""
    d = len(inner)
    step = (_extent(box) / _extent(to))[::-1]  # region pixels a pixel
    start, stop = (np.array([getattr(span, end) for span in inner]) for end in ("start", "stop"))
    low, high = (box[:d][::-1] + (at - to[:d][::-1]) * step for at in (start, stop))
    more = int(np.ceil(max(0.0, float(-low.min()), float((high - image.shape[1:]).max())))) + 1
    padded = np.pad(
        image.astype(np.float32, copy=False),
        [(0, 0)] + [(more, more)] * d,
        mode="edge" if order == "linear" else "constant",
    )
    placement = Placement(
        padded.shape[1:], tuple((low + more).tolist()), tuple((high + more).tolist()), tuple((stop - start).tolist())
    )
    return placement.sample(padded, order)


def _lesion(region: Region, box: np.ndarray, inner: tuple[slice, ...]) -> np.ndarray:
    """Return where in a window a lesion lies (bool): the drawn mask, or else the ellipsoid in its box."""
    own = _within(box, inner)
    inside = np.zeros(tuple(span.stop - span.start for span in inner), bool)
    inside[window(own, inside.shape)] = True
    if region.mask is None or not region.mask.any():
        return ellipsoid(own, inside.shape)
    share = _carried((region.mask > 0)[None], region.box, box, inner, "area")[0] * inside
    return (share >= 0.5) | (share == max(float(share.max()), 1e-6))
