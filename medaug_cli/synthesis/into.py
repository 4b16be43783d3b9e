"""What `synthesize --into` puts lesions into, and what of a drawn region is put there."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medaug_cli.conditions import Template
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.pasting import Blending, Hosts, Region
from medaug_cli.plugin import Drawn, ImageSpec, Known
from medaug_cli.store import Record, Store, open_store

WITHIN = 1.0  # pixels by which a box may lie beyond one that it lies in
COARSE = 1.5  # times as wide as a whole image's pixel, from which a region's is said to be coarse
BYTES = 64 << 20  # of whole images that are finished together


def hosts_in(path: Path, blending: Blending, name: str, spec: ImageSpec, known: Collection[Known]) -> Hosts:
    """Return the images of a store that lesions are put into, drawn by the generator `name` as images of a form.

    Raises UsageError where the generator does not know where its lesions are, BadInput where the two do not fit.
    """
    if "boxes" not in known:
        raise UsageError(f"{name} does not know where its lesions are; --into takes a generator that does, as boxgan")
    store = open_store(path)
    own = store.spec
    if own.dims != spec.dims or own.channels != spec.channels:
        form = "{}D images of {} channels".format
        raise BadInput(f"{path} holds {form(own.dims, own.channels)}, {name} draws {form(spec.dims, spec.channels)}")
    unknown = set(spec.label_names) - set(own.label_names)
    if unknown and not len(spec.label_names) == len(own.label_names) == 1:
        raise BadInput(
            f"{path} knows lesions called {', '.join(own.label_names) or 'nothing'}, but {name} draws {min(unknown)}; "
            "give both stores the same labels, as by preprocess --label"
        )
    unknown = set(spec.mask_names) - set(own.mask_names)
    if store.masks is not None and "mask" in known and own.mask_names and unknown:
        raise BadInput(
            f"the masks of {path} mark {', '.join(own.mask_names)}, but those that {name} draws mark {min(unknown)}; "
            "give both stores masks with the same names"
        )
    return Hosts(store, blending)


def words(hosts: Hosts, known: Collection[Known], templates: Sequence[Template]) -> list[str]:
    """Say what lesions are put into, and what is taken for granted."""
    store, count = hosts.store, len(hosts.chosen)
    said = [f"lesions are put into {count} training images of {store.path}, by {hosts.blending} blending"]
    if np.isnan(store.spacing[hosts.chosen]).any() or any(template.spacing is None for template in templates):
        said.append("not every image says how wide its pixels are: there a region's pixel becomes one pixel")
    elif (times := _coarser(store.spacing[hosts.chosen], templates)) > COARSE:
        said.append(
            f"a region's pixel is up to {times:.1f} times as wide as one of these images: new lesions are as much "
            "blurred; more pixels for --regions, or a smaller --region-mm, would show them sharper"
        )
    if store.masks is not None and "mask" not in known:
        said.append("the generator draws no masks: the mask of a new lesion is the ellipse or ellipsoid in its box")
    return said


def _coarser(spacing: np.ndarray, templates: Sequence[Template]) -> float:
    """Return how many times wider than a pixel of some images, of this spacing (n, d), that of a region is at most."""
    widest = np.max([template.spacing for template in templates if template.spacing is not None], axis=0)
    return float((widest / spacing.min(0)).max())


def block_of(store: Store, most: int) -> int:
    """Return how many images of a store, `most` at most, are finished together."""
    image = store.images[0]
    return int(max(1, min(most, BYTES // max(1, image.nbytes))))


def region_of(drawn: Drawn, template: Template, hosts: Hosts, spec: ImageSpec) -> Region:
    """Return the lesion nearest to the middle of a drawn region, or the one that it is a part of, with all its parts.

    Raises BadInput where the region shows none.
    """
    d, own = spec.dims, hosts.store.spec
    boxes = np.asarray(drawn.boxes, np.float32)
    if not len(boxes):
        raise BadInput(f"the region that was drawn like {template.id} shows no lesion to put into an image")
    away = np.abs((boxes[:, :d] + boxes[:, d:]) / 2 - np.array(spec.spatial[::-1]) / 2).max(1)
    around = np.flatnonzero(_contained(boxes[away.argmin()][None], boxes))
    chosen = int(around[np.prod(boxes[around, d:] - boxes[around, :d], axis=1).argmax()])
    labels = [
        name if name in own.label_names else own.label_names[0]
        for name in map(spec.label_names.__getitem__, drawn.labels)
    ]
    parts = [i for i in np.flatnonzero(_contained(boxes, boxes[chosen][None])) if i != chosen]
    mask = None if drawn.mask is None else _named_as(np.asarray(drawn.mask), spec, own, labels[chosen])
    return Region(
        np.asarray(drawn.image), boxes[chosen], labels[chosen], mask, template.spacing,
        within=[(boxes[i], labels[i]) for i in parts],
    )  # fmt: skip


def _contained(inner: np.ndarray, outer: np.ndarray) -> np.ndarray:
    """Return which boxes (n, 2*d) lie in others (m, 2*d), one of either for all of the other or as many."""
    d = inner.shape[1] // 2
    return np.asarray(((inner[:, :d] >= outer[:, :d] - WITHIN) & (inner[:, d:] <= outer[:, d:] + WITHIN)).all(1))


def _named_as(mask: np.ndarray, spec: ImageSpec, own: ImageSpec, label: str) -> np.ndarray:
    """Return a drawn mask with the values of a store's masks, that of the lesion's label where it names nothing."""
    if not own.mask_names:
        return np.asarray(mask > 0, np.uint8)
    names = spec.mask_names or (label,)
    known = [own.mask_names.index(name) + 1 if name in own.mask_names else 1 for name in names]
    return np.array([0, *known], np.uint8)[np.minimum(mask, len(known))]


def hosted(hosts: Hosts, regions: Sequence[Region], ids: Sequence[str], seed: int, number: int) -> Record:
    """Return image `number`, without id and source yet, with the lesions of regions drawn like images `ids`."""
    record = hosts.with_lesions(regions, seed, number)
    return replace(record, details=record.details | {"condition": ids[0] if len(ids) == 1 else list(ids)})
