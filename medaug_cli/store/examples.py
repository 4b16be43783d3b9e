"""What a plugin is fitted on, and the guards that keep a proof honest."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from medaug_cli.boxes import digest_patient
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.plugin import BOXES, Condition, Known
from medaug_cli.store.kinds import of_kind
from medaug_cli.store.reading import Store, is_real


def unannotated_words(store: Store, split: str | None = None) -> list[str]:
    """Say that images which nobody annotated are left out, where there are any in a split or in all."""
    count = len(store.indices(split, unannotated=True)) - len(store.indices(split))
    if not count:
        return []
    where = f" in the {split} split" if split else ""
    return [f"{store.path}: {count} images{where} are not annotated and are left out; no box does not mean no lesion"]


class StoreExamples:
    """Images of one or more stores, drawn with stated weights; `medaug_cli.plugin.Examples` made real."""

    def __init__(self, parts: Sequence[tuple[Store, np.ndarray]], shares: Sequence[float]):
        self.parts = [(store, np.asarray(indices)) for store, indices in parts]
        self.spec = self.parts[0][0].spec
        self.where = [(part, int(i)) for part, (_, indices) in enumerate(self.parts) for i in indices]
        self.boxes = [self.parts[part][0].boxes[i] for part, i in self.where]
        self.labels = [self.parts[part][0].labels[i] for part, i in self.where]
        self.patients = [self.parts[part][0].patients[i] for part, i in self.where]
        self.classes = np.concatenate([_classes_as(self.spec.class_names, s)[ix] for s, ix in self.parts])
        self.synthetic = np.concatenate([~is_real(store)[indices] for store, indices in self.parts])
        weights = [np.full(len(ix), share / len(ix)) for (_, ix), share in zip(self.parts, shares, strict=True)]
        self.weights = np.concatenate(weights) / sum(shares)

    def __len__(self) -> int:
        return len(self.where)

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return images (b, c, *s) as float32 in [0, 1]."""
        if len(self.parts) == 1:
            store, chosen = self.parts[0]
            return store.read(chosen[np.asarray(indices, np.int64)])
        return np.stack([self.parts[part][0].read([i])[0] for part, i in (self.where[int(k)] for k in indices)])

    def condition(self, index: int) -> Condition:
        """Return the boxes, labels, mask and class of one image."""
        part, i = self.where[index]
        return replace(self.parts[part][0].condition(i), image_class=int(self.classes[index]))


def _classes_as(names: Sequence[str], store: Store) -> np.ndarray:
    """Return the classes (n,) of a store's images as indices into `names`, -1 for what is unknown or not there."""
    number = {name: i for i, name in enumerate(names)}
    own = [number.get(name, -1) for name in store.class_names]
    return np.array([*own, -1], np.int64)[store.classes]


def conditions_in(store: Store, known: Collection[Known] = BOXES) -> np.ndarray:
    """Return the real training images that a generator with such knowledge learns from, or draws images like.

    They are annotated ones. Where it is told no lesion, or there is none to be told, images of a class will do.
    """
    train = is_real(store) & (store.splits == "train")
    lesions = any(len(store.boxes[i]) for i in np.flatnonzero(train & store.annotated))
    told = lesions and not {"boxes", "labels"}.isdisjoint(known)
    return np.flatnonzero(train & (store.annotated if told else store.annotated | (store.classes >= 0)))


def generator_examples(
    store: Store, known: Collection[Known] = BOXES, only: str | None = None
) -> StoreExamples:
    """Return the real training images for a generator that knows such things of what it draws.

    With `only` they are those of one kind (`store.kinds`), of which no class needs to be told. Raises BadInput where
    there are none, or synthetic ones among them, and where there is nothing to tell; UsageError for an unknown kind.
    """
    if not is_real(store).all():
        name = store.ids[int(np.argmin(is_real(store)))]
        raise BadInput(f"{store.path} holds synthetic images ({name}): a generator is fitted on real images alone")
    train = conditions_in(store, known)
    if not len(train):
        raise BadInput(f"{store.path} has no annotated image in the training split")
    if only is not None:
        return _of_one_kind(store, of_kind(store, train, only), only)
    of_class = "class" in known and (store.classes[train] >= 0).any()
    lesions = any(len(store.boxes[i]) for i in train)
    if not lesions and not of_class and not {"boxes", "labels"}.isdisjoint(known):
        raise BadInput(f"{store.path} has no box in its training split: there is nothing to condition on")
    return StoreExamples([(store, train)], [1.0])


def _of_one_kind(store: Store, chosen: list[int], name: str) -> StoreExamples:
    """Return images without their classes, which are all the same."""
    if not chosen:
        raise BadInput(f"{store.path} has no training image of the class {name!r}")
    data = StoreExamples([(store, np.array(chosen))], [1.0])
    data.spec = replace(data.spec, class_names=())
    data.classes = np.full(len(chosen), -1, np.int64)
    return data


def detector_examples(
    real: Store, synthetic: Sequence[Store], ratio: float | None = None, synthetic_only: bool = False
) -> StoreExamples:
    """Return what a detector is fitted on; see `training_examples`."""
    for store in synthetic:
        if not any(map(len, store.boxes)):
            raise BadInput(f"{store.path} holds no box: its generator was not told where a lesion should be")
    return training_examples(real, synthetic, real.annotated, ratio, synthetic_only)


def training_examples(
    real: Store,
    synthetic: Sequence[Store],
    usable: np.ndarray,
    ratio: float | None = None,
    synthetic_only: bool = False,
) -> StoreExamples:
    """Return the usable (n,) real training images mixed with synthetic ones, or the synthetic ones alone.

    `ratio` is how many synthetic images are drawn for one real image (default: as many as there are,
    each image of either kind equally often). Raises BadInput where the two do not fit, and where a
    generator has seen a patient of the validation or test split.
    """
    train = np.flatnonzero(usable & (real.splits == "train") & is_real(real))
    if not len(train):
        raise BadInput(f"{real.path} has no annotated real image in the training split")
    if ratio is not None and (not synthetic or ratio <= 0):
        raise UsageError("--ratio is a positive number of synthetic images a real one, and needs --synthetic")
    if synthetic_only and (not synthetic or ratio is not None):
        raise UsageError("--synthetic-only needs --synthetic, and takes no --ratio")
    for store in synthetic:
        _check_synthetic(real, store)
    if synthetic_only:
        return StoreExamples([(s, np.arange(len(s))) for s in synthetic], [float(len(s)) for s in synthetic])
    counts = [len(store) for store in synthetic]
    total = float(ratio) * len(train) if ratio is not None else float(sum(counts))
    shares = [float(len(train)), *(total * count / max(1, sum(counts)) for count in counts)]
    return StoreExamples([(real, train), *((s, np.arange(len(s))) for s in synthetic)], shares)


def _check_synthetic(real: Store, store: Store) -> None:
    if is_real(store).any():
        raise BadInput(f"{store.path} holds real images; --synthetic takes stores of generated ones")
    if store.spec != real.spec:
        raise BadInput(f"{store.path} has {_form(store)}, but {real.path} has {_form(real)}")
    if not store.info.generators:
        raise BadInput(f"{store.path} does not say which generator made it: unknown origin is refused")
    held_out = {digest_patient(real.patients[i]) for i in np.flatnonzero(real.splits != "train")}
    for origin in store.info.generators:
        leaked = held_out & set(origin.training_patients)
        if leaked:
            raise BadInput(
                f"{store.path}: its generator {origin.name} was fitted on {len(leaked)} patients that "
                f"{real.path} holds out for validation or test"
            )


def _form(store: Store) -> str:
    spec = store.spec
    return f"{'x'.join(map(str, spec.spatial))} pixels, {spec.channels} channels, labels {', '.join(spec.label_names)}"
