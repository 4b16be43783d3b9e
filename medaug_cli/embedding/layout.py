"""`medaug tsne`: real against synthetic images, as a picture and as numbers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from medaug_cli import __version__
from medaug_cli.boxes import Strict
from medaug_cli.embedding.features import compact, describe, extractor
from medaug_cli.embedding.statistics import kernel_distance, manifolds, memorisation, one_nn_accuracy, spread
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import read_json, refuse_existing, write_json
from medaug_cli.store import Store, open_store

LEAST = 20  # images of a set
MOST_POINTS = 10_000
PAIRS = 12  # nearest pairs that are named


class RealReference(Strict):
    """What two sets of real images of other patients give: the best that can be hoped for."""

    one_nn_accuracy: float
    kid: float
    kid_error: float
    precision: float
    recall: float
    density: float
    coverage: float
    spread: float
    images: int
    held_out: int


class NearestPair(Strict):
    """A synthetic image and the training image that it is most like."""

    synthetic: str
    real: str
    distance: float


class SetNumbers(Strict):
    """One synthetic store against the real training images."""

    name: str
    hash: str
    images: int
    one_nn_accuracy: float
    kid: float
    kid_error: float
    precision: float
    recall: float
    density: float
    coverage: float
    spread: float
    memorisation_ratio: float | None
    suspicious: float | None
    nearest: list[NearestPair]


class Point(Strict):
    """One image on the map."""

    set: str
    id: str
    at: list[float]


class MapReport(Strict):
    """tsne.json."""

    version: Literal[1] = 1
    tool_version: str
    features: str
    region: str
    perplexity: float
    trustworthiness: float  # of the picture, 1 if near neighbours stay near (Venna and Kaski 2001)
    real: dict[str, str]  # file name -> hash
    reference: RealReference | None  # None without real images of held-out patients
    sets: list[SetNumbers]
    points: list[Point]


@dataclass(frozen=True)
class MapOptions:
    """What `medaug tsne` takes."""

    real: Path
    synthetic: Sequence[Path]
    out: Path
    dims: Literal[2, 3] = 2
    perplexity: float = 30.0
    features: str = "pixels"
    region: Literal["image", "box"] = "image"
    most: int = 1500  # images of each set
    seed: int = 0
    overwrite: bool = False
    announce: Callable[[str], None] = lambda sentence: None


@dataclass(frozen=True)
class _Set:
    name: str
    store: Store
    indices: np.ndarray
    features: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))


def draw_map(options: MapOptions) -> MapReport:
    """Publish the picture and its JSON; raise UsageError or BadInput where sets cannot be compared."""
    report_path = options.out.with_suffix(".json")
    refuse_existing(options.out, options.overwrite)
    if report_path.exists() and not options.overwrite:
        read_json(report_path, MapReport)  # what a killed run left may be replaced, nothing else
    sets = _sets(options)
    options.announce(f"features {options.features} of {sum(len(each.indices) for each in sets)} images")
    sets = _described(sets, options)
    shown = [each for each in sets if each.name != "real, held out"]
    points = np.concatenate([each.features for each in shown])
    options.announce(f"t-SNE of {len(points)} images to {options.dims} dimensions")
    places, perplexity, trust = layout(points, options.dims, options.perplexity, options.seed)
    report = _report(options, sets, shown, places, perplexity, trust)
    from medaug_cli.figures.scatter import save_scatter

    write_json(report_path, report)
    save_scatter(options.out, report, _examples(shown, places))
    return report


def compare_sets(options: MapOptions) -> tuple[RealReference | None, list[SetNumbers]]:
    """Return the numbers of each synthetic store, and of held-out real images, without a picture."""
    sets = _described(_sets(options), options)
    real, held_out = sets[0], next((each for each in sets if each.name == "real, held out"), None)
    reference = None if held_out is None else _reference(real, held_out, options.seed)
    others = [each for each in sets[1:] if each is not held_out]
    return reference, [_numbers(each, real, held_out, options.seed) for each in others]


def _sets(options: MapOptions) -> list[_Set]:
    real = open_store(options.real)
    train = real.indices("train", "real")
    held_out = np.concatenate([real.indices("val", "real"), real.indices("test", "real")])
    if len(train) < LEAST:
        raise UsageError(f"{options.real} has {len(train)} real training images, {LEAST} are needed for a comparison")
    sets = [_Set("real", real, _some(train, options))]
    if len(held_out) >= LEAST:
        sets.append(_Set("real, held out", real, _some(held_out, options)))
    taken: set[str] = set()
    for path in options.synthetic:
        store = open_store(path)
        if store.spec.spatial != real.spec.spatial or store.spec.channels != real.spec.channels:
            forms = [
                f"{'x'.join(map(str, s.spec.spatial))} pixels and {s.spec.channels} channels" for s in (store, real)
            ]
            raise BadInput(f"{path} has images of {forms[0]}, {options.real} of {forms[1]}")
        indices = np.arange(len(store)) if len(store.indices(source="real")) == 0 else store.indices("train")
        if len(indices) < LEAST:
            raise UsageError(f"{path} has {len(indices)} images, {LEAST} are needed for a comparison")
        name = path.stem
        while name in taken or name == "real":
            name += "'"
        taken.add(name)
        sets.append(_Set(name, store, _some(indices, options)))
    if sum(len(each.indices) for each in sets) > MOST_POINTS:
        raise UsageError(f"more than {MOST_POINTS} images in all; give fewer with --max")
    return sets


def _some(indices: np.ndarray, options: MapOptions) -> np.ndarray:
    rng = np.random.default_rng(options.seed)
    return np.sort(rng.permutation(indices)[: options.most])


def _described(sets: Sequence[_Set], options: MapOptions) -> list[_Set]:
    extract = extractor(options.features)
    raw = [describe(each.store, each.indices, extract, options.region) for each in sets]
    features = compact(np.concatenate(raw), raw[0], options.seed)
    stops = np.cumsum([len(part) for part in raw])[:-1]
    return [
        _Set(each.name, each.store, each.indices, part)
        for each, part in zip(sets, np.split(features, stops), strict=True)
    ]


def layout(features: np.ndarray, dims: int, perplexity: float, seed: int) -> tuple[np.ndarray, float, float]:
    """Return places (n, dims) by t-SNE (van der Maaten and Hinton 2008), the perplexity used, and trustworthiness."""
    from sklearn.manifold import TSNE, trustworthiness

    used = float(min(perplexity, max(2.0, (len(features) - 1) / 4)))
    method = TSNE(dims, perplexity=used, init="pca", random_state=seed, max_iter=1000)
    places = method.fit_transform(features.astype(np.float32))
    return places, used, float(trustworthiness(features, places, n_neighbors=min(5, len(features) // 2 - 1)))


def _report(
    options: MapOptions, sets: Sequence[_Set], shown: Sequence[_Set], places: np.ndarray, perplexity: float,
    trust: float,
) -> MapReport:  # fmt: skip
    real = sets[0]
    held_out = next((each for each in sets if each.name == "real, held out"), None)
    names = [(each.name, each.store.ids[i]) for each in shown for i in each.indices]
    points = [
        Point(set=name, id=id, at=[round(float(v), 3) for v in at])
        for (name, id), at in zip(names, places, strict=True)
    ]
    return MapReport(
        tool_version=__version__, features=options.features, region=options.region, perplexity=perplexity,
        trustworthiness=trust, real={options.real.name: real.store.hash},
        reference=None if held_out is None else _reference(real, held_out, options.seed),
        sets=[_numbers(each, real, held_out, options.seed) for each in shown[1:]], points=points,
    )  # fmt: skip


def _reference(real: _Set, held_out: _Set, seed: int) -> RealReference:
    kid, error = kernel_distance(real.features, held_out.features, seed)
    near = manifolds(real.features, held_out.features)
    return RealReference(
        one_nn_accuracy=one_nn_accuracy(real.features, held_out.features, seed), kid=kid, kid_error=error,
        precision=near.precision, recall=near.recall, density=near.density, coverage=near.coverage,
        spread=spread(real.store.read(real.indices)), images=len(real.indices), held_out=len(held_out.indices),
    )  # fmt: skip


def _numbers(each: _Set, real: _Set, held_out: _Set | None, seed: int) -> SetNumbers:
    kid, error = kernel_distance(real.features, each.features, seed)
    near = manifolds(real.features, each.features)
    copied = memorisation(real.features, (held_out or real).features, each.features)
    first = np.argsort(copied.distance, kind="stable")[:PAIRS]
    return SetNumbers(
        name=each.name, hash=each.store.hash, images=len(each.indices),
        one_nn_accuracy=one_nn_accuracy(real.features, each.features, seed), kid=kid, kid_error=error,
        precision=near.precision, recall=near.recall, density=near.density, coverage=near.coverage,
        spread=spread(each.store.read(each.indices)),
        memorisation_ratio=None if held_out is None else copied.ratio,
        suspicious=None if held_out is None else copied.suspicious,
        nearest=[
            NearestPair(
                synthetic=each.store.ids[each.indices[i]], real=real.store.ids[real.indices[copied.nearest[i]]],
                distance=float(copied.distance[i]),
            )
            for i in first
        ],
    )  # fmt: skip


def _examples(shown: Sequence[_Set], places: np.ndarray) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return (set, place, image) of a few images of each set, spread over the map."""
    found, start = [], 0
    for each in shown:
        own = places[start : start + len(each.indices)]
        start += len(each.indices)
        for i in _spread_out(own, 8):
            found.append((each.name, own[i], np.asarray(each.store.images[each.indices[i]])))
    return found


def _spread_out(places: np.ndarray, count: int) -> list[int]:
    """Return the indices of points that lie far apart (farthest point sampling)."""
    chosen = [int(((places - places.mean(0)) ** 2).sum(1).argmin())]
    while len(chosen) < min(count, len(places)):
        apart = np.min([((places - places[i]) ** 2).sum(1) for i in chosen], axis=0)
        chosen.append(int(apart.argmax()))
    return chosen
