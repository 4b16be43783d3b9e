"""`medaug tsne`: real against synthetic images, as a picture and as numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from medaug_cli import __version__
from medaug_cli.boxes import Strict
from medaug_cli.embedding.comparison import (
    ImageSet,
    MapOptions,
    RealReference,
    SetNumbers,
    Sets,
    Step,
    described,
    numbers_of,
    other_features,
    step_of,
)
from medaug_cli.embedding.features import is_classifier, reduced
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import name_of, new_files, read_json, write_json
from medaug_cli.locks import alone
from medaug_cli.results import check_file, file_claimed, is_picture, refuse_page
from medaug_cli.store import Store
from medaug_cli.words import counted

SHOWN_PAIRS = 6
ITERATIONS = 1000  # of t-SNE


class Point(Strict):
    """One image on the map."""

    set: str
    id: str
    at: list[float]


class Panel(Strict):
    """The map of one classifier: of the real images alone, or with the synthetic ones (Han et al., 2.5)."""

    features: str
    synthetic: bool
    trustworthiness: float
    points: list[Point]


class MapReport(Strict):
    """tsne.json."""

    version: Literal[1] = 1
    tool_version: str
    features: str
    region: str
    fold: str | None = None  # "2/5" where that of the real store counts, and not its own split
    perplexity: float
    trustworthiness: float  # of the picture, 1 if near neighbours stay near (Venna and Kaski 2001)
    real: dict[str, str]  # file name -> hash
    reference: RealReference | None  # None without real images of held-out patients
    sets: list[SetNumbers]
    points: list[Point]
    panels: list[Panel] = []  # where the features are a classifier's: without and with synthetic images, side by side
    picture: str | None = None  # name of the file that these numbers are of


def draw_map(options: MapOptions) -> MapReport:
    """Publish the picture and its JSON; raise UsageError or BadInput where sets cannot be compared."""
    odd = next((name for name in (options.features, *options.more_features) if not is_classifier(name)), None)
    if options.more_features and odd is not None:
        raise UsageError(
            f"--features {odd}: several maps can be drawn for trained classifiers only, one for each folder"
        )
    networks = [Path(name) for name in (options.features, *options.more_features) if is_classifier(name)]
    networks += [each for each in (options.detector, options.segmenter) if each is not None]
    reads = [options.real, *options.synthetic, *networks]
    with file_claimed(options.out, options.overwrite, reads), alone(report_path(options.out)):
        _check_outputs(options, reads)
        return _drawn(options)


def shown_features(options: MapOptions) -> str:
    """Return what features are called: a classifier's by the name of its folder."""
    return f"classifier {name_of(Path(options.features))}" if is_classifier(options.features) else options.features


def report_path(out: Path) -> Path:
    """Return where the numbers of a picture go: beside it."""
    return out.with_suffix(".json")


def _check_outputs(options: MapOptions, reads: Sequence[Path]) -> None:
    """Raise UsageError where the picture or its numbers would replace anything but those of an older map."""
    picture, numbers = options.out, report_path(options.out)
    if picture.suffix.lower() == ".json":
        raise UsageError(
            f"--out {picture}: the numbers are written there; choose another name for the picture, such as map.png"
        )
    if picture.suffix.lower() == ".html":
        raise UsageError(
            f"--out {picture}: the page is written there; choose another name for the picture, such as map.png"
        )
    check_file(numbers, True, reads)
    if picture.exists() and not is_picture(picture):
        raise UsageError(f"{picture} exists and is not a picture drawn by medaug tsne; choose another --out")
    refuse_page(picture.with_suffix(".html"), numbers)
    if not numbers.exists():
        return
    try:
        report = read_json(numbers, MapReport)
    except BadInput as error:
        raise UsageError(f"{numbers} exists and is not a map by medaug tsne; choose another --out") from error
    own = report.picture in (None, name_of(picture))
    other = not own and picture.with_name(str(report.picture)).exists()
    if other or (report.picture is None and not options.overwrite):
        of = report.picture or "another map"
        raise UsageError(f"{numbers} holds the numbers of {of}; choose another --out")


def _drawn(options: MapOptions) -> MapReport:
    others = ", ".join(map(str, options.synthetic))
    options.announce(f"features {shown_features(options)} of {options.real} and {others}")
    step = step_of(options, more=2 + (2 * len(options.more_features) + 1) * is_classifier(options.features))
    sets = described(options, step)
    points = reduced(np.concatenate([each.features for each in sets.shown]), options.seed)
    step(f"t-SNE of {counted(len(points), 'image')}")
    places, perplexity, trust = layout(points, options.dims, options.perplexity, options.seed)
    report = _report(options, sets, places=places, perplexity=perplexity, trust=trust, step=step)
    report.panels = _panels(options, sets, report, step)
    step("pictures")
    from medaug_cli.embedding.tables import numbers_table
    from medaug_cli.figures.scatter import save_scatter

    with new_files(options.out) as folder:
        picture = folder / options.out.name
        groups = groupings(sets.shown)
        save_scatter(
            picture,
            report,
            numbers=numbers_table(report),
            examples=_examples(sets.shown, places),
            pairs=_pairs(sets, report),
            groups=None if options.colour == "set" else groups[options.colour],
        )
        write_json(report_path(picture), report.model_dump(mode="json"))  # nulls too: the schema names them
        page = _page(options, sets.shown, report, places, groups)
        picture.with_suffix(".html").write_text(page, encoding="utf-8")
    return report


def groupings(shown: Sequence[ImageSet]) -> dict[str, list[str]]:
    """Return the group of every image by each way to colour the map: set, class, patient, source."""
    found: dict[str, list[str]] = {"set": [], "class": [], "patient": [], "source": []}
    for each in shown:
        store = each.store
        for i in each.indices:
            found["set"].append(each.name)
            found["class"].append(_class_of(store, int(i)))
            found["patient"].append(str(store.patients[i]))
            found["source"].append(str(store.sources[i]))
    return found


def _class_of(store: Store, index: int) -> str:
    """Return the class of an image, else the label of its largest box."""
    if store.classes[index] >= 0:
        return store.class_names[int(store.classes[index])]
    boxes, d = store.boxes[index], store.spec.dims
    if not len(boxes):
        return "no box"
    return store.spec.label_names[int(store.labels[index][int((boxes[:, d:] - boxes[:, :d]).prod(1).argmax())])]


def _page(
    options: MapOptions, shown: Sequence[ImageSet], report: MapReport, places: np.ndarray, groups: dict[str, list[str]]
) -> str:
    from medaug_cli.embedding.tables import every_table
    from medaug_cli.figures.map_page import map_html

    return map_html(
        f"t-SNE of {shown_features(options)}",
        f"{len(places):,} images, perplexity {report.perplexity:g}, trustworthiness {report.trustworthiness:.2f}. "
        "Nearby dots look alike; distances between groups mean little.",
        places=places,
        ids=[point.id for point in report.points],
        groups=groups,
        by=options.colour,
        images=(each.store.images[i] for each in shown for i in each.indices),
        tables=every_table(report),
    )


def layout(features: np.ndarray, dims: int, perplexity: float, seed: int) -> tuple[np.ndarray, float, float]:
    """Return places (n, dims) by t-SNE (van der Maaten and Hinton 2008), the perplexity used, and trustworthiness."""
    from sklearn.manifold import TSNE, trustworthiness

    used = float(min(perplexity, max(2.0, (len(features) - 1) / 4)))
    init = "pca" if features.shape[1] >= dims else "random"
    method = TSNE(dims, perplexity=used, init=init, random_state=seed, max_iter=ITERATIONS)
    places = method.fit_transform(features.astype(np.float32))
    return places, used, float(trustworthiness(features, places, n_neighbors=min(5, len(features) // 2 - 1)))


def _panels(options: MapOptions, sets: Sets, report: MapReport, step: Step) -> list[Panel]:
    """Return two maps of each classifier, of the real images and of all; of the first, the latter is the map itself."""
    panels: list[Panel] = []
    if not is_classifier(options.features):
        return panels
    real = len(sets.real.indices)
    for name in (options.features, *options.more_features):
        whole = None if name == options.features else other_features(sets.shown, name, options)
        own = sets.real.features if whole is None else whole[:real]
        for synthetic, features in ((False, own), (True, whole)):
            called = name_of(Path(name))
            if features is None:
                panels.append(
                    Panel(features=called, synthetic=True, trustworthiness=report.trustworthiness, points=report.points)
                )
                continue
            step(f"t-SNE of {counted(len(features), 'image')} in the features of {called}")
            places, _, trust = layout(reduced(features, options.seed), options.dims, options.perplexity, options.seed)
            points = [
                Point(set=point.set, id=point.id, at=[round(float(v), 3) for v in at])
                for point, at in zip(report.points, places, strict=False)
            ]
            panels.append(Panel(features=called, synthetic=synthetic, trustworthiness=trust, points=points))
    return panels


def _report(
    options: MapOptions, sets: Sets, *, places: np.ndarray, perplexity: float, trust: float, step: Step
) -> MapReport:
    reference, numbers = numbers_of(sets, options, step)
    names = [(each.name, each.store.ids[i]) for each in sets.shown for i in each.indices]
    points = [
        Point(set=name, id=id, at=[round(float(v), 3) for v in at])
        for (name, id), at in zip(names, places, strict=True)
    ]
    return MapReport(
        tool_version=__version__, features=shown_features(options), region=options.region, perplexity=perplexity,
        fold=None if options.fold is None else options.fold.name,
        trustworthiness=trust, real={name_of(options.real): sets.real.store.hash}, reference=reference, sets=numbers,
        points=points, picture=name_of(options.out),
    )  # fmt: skip


def _examples(shown: Sequence[ImageSet], places: np.ndarray) -> list[tuple[str, np.ndarray, np.ndarray]]:
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


def _pairs(sets: Sets, report: MapReport) -> dict[str, list[tuple[np.ndarray, np.ndarray, float]]]:
    """Return (synthetic image, nearest training image, distance) of the nearest pairs of each set."""
    real = {id: i for i, id in enumerate(sets.real.store.ids)}
    found = {}
    for each, numbers in zip(sets.synthetic, report.sets, strict=True):
        own = {id: i for i, id in enumerate(each.store.ids)}
        found[each.name] = [
            (np.asarray(each.store.images[own[pair.synthetic]]), np.asarray(sets.real.store.images[real[pair.real]]),
             pair.distance)
            for pair in numbers.nearest[:SHOWN_PAIRS]
        ]  # fmt: skip
    return found
