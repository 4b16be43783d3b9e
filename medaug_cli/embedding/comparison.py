"""Real against synthetic images in numbers: each set beside held-out real images, the best to be hoped for."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medaug_cli.boxes import Strict, patients_seen
from medaug_cli.embedding.features import BUILT_IN, describe, extractor, scaled
from medaug_cli.embedding.fidelity import Fidelity, Judge, calibrated
from medaug_cli.embedding.lesions import LesionNumbers, lesion_numbers, lesions_of
from medaug_cli.embedding.obedience import Obedience, Outliner
from medaug_cli.embedding.probe import told_apart
from medaug_cli.embedding.statistics import (
    Memorisation,
    kernel_distance,
    manifolds,
    memorisation,
    one_nn_accuracy,
    pixel_spread,
)
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.store import Store, open_store
from medaug_cli.store.folds import Fold
from medaug_cli.store.reading import is_real
from medaug_cli.words import counted

LEAST = 20  # images of a set
MOST_POINTS = 10_000
Step = Callable[[str], None]  # hears what is at work
PAIRS = 12  # nearest pairs that are named
HELD_OUT = "real, held out"
PROBED = ("pixels", "texture")  # beside the chosen features: one alone misses what another sees


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
    auc: float | None = None  # of a classifier that tells the two apart
    lesions: LesionNumbers | None = None  # None where there is no box
    fidelity: Fidelity | None = None  # of the held-out images, where a detector is given
    obedience: Obedience | None = None  # of the held-out images, where a segmenter is given


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
    memorisation_ratio: float | None  # in the features that see most copies
    suspicious: float | None  # share nearer to a training image than 99 % of held-out images, there
    suspicious_by: dict[str, float] = {}  # features -> share
    nearest: list[NearestPair]  # there
    auc: float | None = None  # of a classifier of real held-out against these images
    lesions: LesionNumbers | None = None  # None where there is no box
    fidelity: Fidelity | None = None  # where a detector is given
    obedience: Obedience | None = None  # where a segmenter is given


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
    detector: Path | None = None  # trained on real images: judges whether lesions are where they were asked for
    segmenter: Path | None = None  # trained on real images: judges whether what is asked for is where its mask is
    device: str = "auto"
    overwrite: bool = False
    announce: Callable[[str], None] = lambda sentence: None
    report: Callable[[int, int, str], None] = lambda done, of, words: None  # hears of each step
    colour: Literal["set", "class", "patient", "source"] = "set"
    more_features: Sequence[str] = ()  # further classifiers, each with a map of its own beside the first
    fold: Fold | None = None  # of the real store, where the generators were fitted in one

    def real_store(self) -> Store:
        """Return the real store with the splits that count."""
        store = open_store(self.real)
        return store if self.fold is None else self.fold.of(store)


@dataclass(frozen=True)
class ImageSet:
    """Some images of a store, and what they look like in numbers."""

    name: str
    store: Store
    indices: np.ndarray
    features: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    spaces: dict[str, np.ndarray] = field(default_factory=dict)  # features by which copies are sought, by name
    mirrored: dict[str, np.ndarray] = field(default_factory=dict)  # those of the mirrored images, of `real` alone


@dataclass(frozen=True)
class Sets:
    """The real training images, those of held-out patients if there are enough, and the synthetic sets."""

    real: ImageSet
    held_out: ImageSet | None
    synthetic: list[ImageSet]

    @property
    def shown(self) -> list[ImageSet]:
        """Return the sets that the map shows, the real one first."""
        return [self.real, *self.synthetic]


def compare_sets(options: MapOptions) -> tuple[RealReference | None, list[SetNumbers]]:
    """Return the numbers of each synthetic store, and of held-out real images, without a picture."""
    return numbers_of(described(options), options)


def numbers_of(
    sets: Sets, options: MapOptions, step: Step = lambda words: None
) -> tuple[RealReference | None, list[SetNumbers]]:
    """Return the numbers of described sets."""
    judges = _Judges(
        None if options.detector is None else _judge(sets, options),
        None if options.segmenter is None else _outliner(sets, options),
        lesions_of(_images(sets.real), _boxes(sets.real)),
        options.seed,
    )
    reference, numbers = None, []
    if sets.held_out is not None:
        step(f"numbers of {HELD_OUT}")
        reference = _reference(sets.real, sets.held_out, judges)
    for each in sets.synthetic:
        step(f"numbers of {each.name}")
        numbers.append(_numbers(each, sets, judges))
    return reference, numbers


def described(options: MapOptions, step: Step = lambda words: None) -> Sets:
    """Read the stores and describe their images; raise UsageError or BadInput where they cannot be compared."""
    real, held_out, synthetic = _chosen(options)
    _refuse_judges(Sets(real, held_out, synthetic), options)
    every = [real, *([] if held_out is None else [held_out]), *synthetic]
    found = {}
    for name in spaces(options, real.store.spec.dims):
        step(f"features {name}")
        found[name] = _features(every, name, options)
    done = [
        ImageSet(
            each.name,
            each.store,
            indices=each.indices,
            features=found[options.features][i],
            spaces={n: f[i] for n, f in found.items()},
            mirrored={n: f[-1] for n, f in found.items()} if each is real else {},
        )
        for i, each in enumerate(every)
    ]
    return Sets(done[0], None if held_out is None else done[1], done[len(done) - len(synthetic) :])


def spaces(options: MapOptions, dims: int) -> list[str]:
    """Return the features by which images are described: those asked for, and those by which copies are sought."""
    return list(dict.fromkeys([options.features, *(BUILT_IN if dims == 2 else ("pixels", "texture"))]))


def step_of(options: MapOptions, more: int) -> Step:
    """Return what tells `options.report` of the next step: of describing and comparing, and of so many `more`."""
    real = options.real_store()
    held_out = len(_unseen(real, options)) >= LEAST
    total = len(spaces(options, real.spec.dims)) + held_out + len(options.synthetic) + more
    done = itertools.count()
    return lambda words: options.report(next(done), total, words)


def other_features(sets: Sequence[ImageSet], name: str, options: MapOptions) -> np.ndarray:
    """Return the features (n, k) of all images of some sets by another extractor."""
    return np.concatenate(_features(sets, name, options)[:-1])


def _features(sets: Sequence[ImageSet], name: str, options: MapOptions) -> list[np.ndarray]:
    """Return the features of every set, and those of the first one's images mirrored."""
    extract, first = extractor(name), sets[0]
    raw = [describe(each.store, each.indices, extract, options.region) for each in sets]
    raw.append(describe(first.store, first.indices, extract, options.region, mirrored=True))
    stops = np.cumsum([len(part) for part in raw])[:-1]
    return np.split(scaled(np.concatenate(raw), raw[0]), stops)


def _chosen(options: MapOptions) -> tuple[ImageSet, ImageSet | None, list[ImageSet]]:
    real = options.real_store()
    train = _comparable(real, real.indices("train", "real", unannotated=True), options)
    unseen, boxed = _unseen(real, options), " with a box" if options.region == "box" else ""
    if len(train) < LEAST:
        raise UsageError(
            f"{options.real} has {len(train)} real training images{boxed}, but {LEAST} are needed for a comparison"
        )
    first = ImageSet("real", real, _some(train, options))
    held_out = ImageSet(HELD_OUT, real, _some(unseen, options)) if len(unseen) >= LEAST else None
    for name in ("detector", "segmenter"):
        if getattr(options, name) is not None and held_out is None:
            raise UsageError(
                f"--{name} needs {LEAST} real images{boxed} of held-out patients, {real.path} has {len(unseen)}"
            )
    synthetic: list[ImageSet] = []
    for path in options.synthetic:
        synthetic.append(_synthetic(path, real, options, {"real", *(each.name for each in synthetic)}))
        if held_out is not None:
            _refuse_seen(synthetic[-1].store, real, unseen)
    if sum(len(each.indices) for each in (first, *synthetic)) + len(held_out.indices if held_out else ()) > MOST_POINTS:
        raise UsageError(f"more than {MOST_POINTS} images in all; give fewer with --max")
    return first, held_out, synthetic


def _unseen(real: Store, options: MapOptions) -> np.ndarray:
    held_out = [real.indices(split, "real", unannotated=True) for split in ("val", "test")]
    return _comparable(real, np.concatenate(held_out), options)


def _refuse_seen(drawn: Store, real: Store, unseen: np.ndarray) -> None:
    """Raise BadInput where a generator was fitted on patients whose images are to stand for what it has not seen."""
    patients = {real.patients[i] for i in unseen}
    for origin in drawn.info.generators:
        if seen := patients_seen(patients, origin.training_patients):
            raise BadInput(
                f"{drawn.path}: its generator {origin.name} was fitted on {counted(len(seen), 'patient')} that "
                f"{real.path} holds out; give the --fold that it was fitted in, or a store that holds out others"
            )


def _comparable(store: Store, indices: np.ndarray, options: MapOptions) -> np.ndarray:
    """Return the images that show what is compared: where that is lesions, those with a box."""
    if options.region == "image":
        return indices
    return np.array([i for i in indices if len(store.boxes[i])], np.int64)


def _synthetic(path: Path, real: Store, options: MapOptions, taken: set[str]) -> ImageSet:
    store = open_store(path)
    if store.spec.spatial != real.spec.spatial or store.spec.channels != real.spec.channels:
        forms = [f"{'x'.join(map(str, s.spec.spatial))} pixels and {s.spec.channels} channels" for s in (store, real)]
        raise BadInput(f"{path} has images of {forms[0]}, {options.real} of {forms[1]}")
    indices = store.indices("train", unannotated=True) if is_real(store).any() else np.arange(len(store))
    indices = _comparable(store, indices, options)
    if len(indices) < LEAST:
        boxed = " with a box" if options.region == "box" else ""
        raise UsageError(f"{path} has {len(indices)} images{boxed}, but {LEAST} are needed for a comparison")
    name = path.stem
    while name in taken:
        name += "'"
    return ImageSet(name, store, _some(indices, options))


def _some(indices: np.ndarray, options: MapOptions) -> np.ndarray:
    rng = np.random.default_rng(options.seed)
    return np.sort(rng.permutation(indices)[: options.most])


def _refuse_judges(sets: Sets, options: MapOptions) -> None:
    """Raise BadInput, before any long work, where a detector or segmenter cannot judge."""
    if options.detector is not None:
        _detector(sets, options)
    if options.segmenter is not None:
        _outliner(sets, options)


def _detector(sets: Sets, options: MapOptions) -> Any:
    from medaug_cli.devices import resolve_device
    from medaug_cli.runs import check_detector, load_detector

    real, held_out, folder = sets.real.store, sets.held_out, options.detector
    assert folder is not None and held_out is not None  # noqa: PT018 (as `_chosen` has made sure)
    detector, metadata = load_detector(folder, resolve_device(options.device))
    check_detector(folder.name, metadata, real, held_out.indices, "validation or test")
    for store in (each.store for each in sets.synthetic):
        names = [each.spec.label_names for each in (store, real)]
        if names[0] != names[1] and max(map(len, names)) > 1:  # one kind of lesion: names need not agree
            own, known = (", ".join(each) or "none" for each in names)
            raise BadInput(
                f"{store.path} has the labels {own}, --detector {folder} knows {known}: they must be the same, in the "
                "same order"
            )
    if metadata.synthetic:
        raise BadInput(
            f"--detector {folder} was also trained on synthetic images; use one that was trained on real images only"
        )
    return detector


def _judge(sets: Sets, options: MapOptions) -> Judge:
    real, held_out, detector = sets.real.store, sets.held_out, _detector(sets, options)
    assert held_out is not None  # as `_chosen` has made sure
    if not any(map(len, _boxes(held_out))):
        options.announce(f"{real.path}: the held-out images have no boxes, so the share found in them is not available")
    return calibrated(detector, _images(held_out), _boxes(held_out), _labels(held_out), real.spec.label_names)


def _images(each: ImageSet) -> Iterator[np.ndarray]:
    return (each.store.read([i])[0] for i in each.indices)


def _boxes(each: ImageSet) -> list[np.ndarray]:
    return [each.store.boxes[i] for i in each.indices]


def _labels(each: ImageSet) -> list[np.ndarray]:
    return [each.store.labels[i] for i in each.indices]


def _outliner(sets: Sets, options: MapOptions) -> Outliner:
    from medaug_cli.devices import resolve_device
    from medaug_cli.runs import check_network, load_network

    real, held_out, folder = sets.real.store, sets.held_out, options.segmenter
    assert folder is not None and held_out is not None  # noqa: PT018 (as `_chosen` has made sure)
    segmenter, metadata = load_network(folder, "segmenter", resolve_device(options.device))
    check_network(f"segmenter {folder.name}", metadata, real, held_out.indices, "validation or test")
    if metadata.synthetic:
        raise BadInput(
            f"--segmenter {folder} was also trained on synthetic images; use one that was trained on real images only"
        )
    for store in (real, *(each.store for each in sets.synthetic)):
        if store.masks is None:
            raise BadInput(f"{store.path} holds no masks for --segmenter to compare with")
        if list(store.info.mask_names) != list(metadata.form.mask_names):
            words = [", ".join(names) or "one thing" for names in (metadata.form.mask_names, store.info.mask_names)]
            raise BadInput(f"--segmenter {folder} marks {words[0]}, the masks of {store.path} {words[1]}")
    return Outliner(segmenter, max(1, len(metadata.form.mask_names)))


@dataclass(frozen=True)
class _Judges:
    """What was trained on real images to judge whether a set shows what was asked for, and how real lesions look."""

    detector: Judge | None
    segmenter: Outliner | None
    lesions: np.ndarray  # of the real training images
    seed: int

    def of(self, each: ImageSet) -> dict[str, Any]:
        """Return the lesions of a set beside the real ones, and fidelity and obedience where somebody judges them."""
        fidelity = obedience = None
        lesions = lesion_numbers(lesions_of(_images(each), _boxes(each)), self.lesions)
        if self.detector is not None:
            fidelity = self.detector.fidelity(_images(each), _boxes(each), _labels(each), self.seed)
        if self.segmenter is not None:
            masks = [] if each.store.masks is None else [np.asarray(each.store.masks[i]) for i in each.indices]
            obedience = self.segmenter.obedience(_images(each), masks, self.seed)
        return {"lesions": lesions, "fidelity": fidelity, "obedience": obedience}


def _reference(real: ImageSet, held_out: ImageSet, judges: _Judges) -> RealReference:
    seed = judges.seed
    kid, error = kernel_distance(real.features, held_out.features, seed)
    near = manifolds(real.features, held_out.features)
    return RealReference(
        one_nn_accuracy=one_nn_accuracy(real.features, held_out.features, seed), kid=kid, kid_error=error,
        precision=near.precision, recall=near.recall, density=near.density, coverage=near.coverage,
        spread=pixel_spread(_images(held_out)), images=len(real.indices),
        held_out=len(held_out.indices), auc=_told_apart(real, held_out, real.store), **judges.of(held_out),
    )  # fmt: skip


def _numbers(each: ImageSet, sets: Sets, judges: _Judges) -> SetNumbers:
    real, held_out, seed = sets.real, sets.held_out, judges.seed
    kid, error = kernel_distance(real.features, each.features, seed)
    near = manifolds(real.features, each.features)
    copied = {name: _copied(own, name, real, held_out or real) for name, own in each.spaces.items()}
    worst = max(copied.values(), key=lambda found: found.suspicious)
    return SetNumbers(
        name=each.name, hash=each.store.hash, images=len(each.indices),
        one_nn_accuracy=one_nn_accuracy(real.features, each.features, seed), kid=kid, kid_error=error,
        precision=near.precision, recall=near.recall, density=near.density, coverage=near.coverage,
        spread=pixel_spread(_images(each)),
        memorisation_ratio=None if held_out is None else worst.ratio,
        suspicious=None if held_out is None else worst.suspicious,
        suspicious_by={} if held_out is None else {name: found.suspicious for name, found in copied.items()},
        nearest=_pairs(each, real, worst), auc=_told_apart(held_out or real, each, real.store), **judges.of(each),
    )  # fmt: skip


def _told_apart(real: ImageSet, drawn: ImageSet, store: Store) -> float | None:
    """Return how well a classifier tells two sets apart in the chosen features, pixels and texture together."""
    home = dict(zip(store.ids, store.patients, strict=True))
    return told_apart(_probed(real), _probed(drawn), _patients(real, home), _patients(drawn, home))


def _probed(each: ImageSet) -> np.ndarray:
    others = [each.spaces[name] for name in PROBED if each.spaces[name] is not each.features]
    return np.concatenate([each.features, *others], 1)


def _patients(each: ImageSet, home: Mapping[str, str]) -> list[str]:
    """Return whom each image shows: its patient, the one into whose image lesions were pasted, or nobody else.

    `home` is the patient of each image of the real store, by its id.
    """
    store, real = each.store, is_real(each.store)
    hosts = [store.ids[i] if real[i] else str(store.details[i].get("host", store.ids[i])) for i in each.indices]
    return [
        str(store.patients[i]) if real[i] else home.get(host, host) for i, host in zip(each.indices, hosts, strict=True)
    ]


def _copied(drawn: np.ndarray, name: str, real: ImageSet, held_out: ImageSet) -> Memorisation:
    """Seek copies of training images, mirrored ones too, in one feature space."""
    return memorisation(np.concatenate([real.spaces[name], real.mirrored[name]]), held_out.spaces[name], drawn)


def _pairs(each: ImageSet, real: ImageSet, found: Memorisation) -> list[NearestPair]:
    closest = np.argsort(found.distance, kind="stable")[:PAIRS]
    originals = real.indices[found.nearest[closest] % len(real.indices)]
    return [
        NearestPair(
            synthetic=each.store.ids[each.indices[i]], real=real.store.ids[k], distance=float(found.distance[i])
        )
        for i, k in zip(closest, originals, strict=True)
    ]
