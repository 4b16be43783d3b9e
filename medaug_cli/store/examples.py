"""What a plugin is fitted on, and the guards that keep a proof honest."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import numpy as np

from medaug_cli.boxes import patients_seen
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.plugin import BOXES, Condition, Known
from medaug_cli.store.external import NOTHING, Beside, check_annotations, form_words
from medaug_cli.store.kinds import of_kind
from medaug_cli.store.reading import Store, is_real


def unannotated_words(store: Store, split: str | None = None) -> list[str]:
    """Say that images which nobody annotated are left out, where there are any in a split or in all."""
    count = len(store.indices(split, unannotated=True)) - len(store.indices(split))
    if not count:
        return []
    where = f" in the {split} split" if split else ""
    return [f"{store.path}: {count} images{where} are not annotated and are left out; no box does not mean no lesion"]


def not_outlined_words(store: Store, split: str) -> list[str]:
    """Say that images with a box in which the mask marks nothing are left out, where a split has any."""
    count = int((store.annotated & ~store.outlined & (store.splits == split)).sum())
    if not count:
        return []
    return [f"{store.path}: {count} images in the {split} split have a box without an outline and are left out"]


MOST_BESIDE = 0.5  # of a batch that images without annotation and external ones get, where no share is asked for


class StoreExamples:
    """Images of one or more stores, drawn with stated weights; `medaug_cli.plugin.Examples` made real.

    Of parts that are not `told` nothing but the images is given on. Labels are those of the first store, and so are
    classes unless others are named.
    """

    def __init__(
        self,
        parts: Sequence[tuple[Store, np.ndarray]],
        shares: Sequence[float],
        told: Sequence[bool] | None = None,
        class_names: tuple[str, ...] | None = None,
    ):
        self.parts = [(store, np.asarray(indices)) for store, indices in parts]
        self.told = [True] * len(parts) if told is None else list(told)
        self.spec = self.parts[0][0].spec
        if class_names is not None:
            self.spec = replace(self.spec, class_names=class_names)
        self.where = [(part, int(i)) for part, (_, indices) in enumerate(self.parts) for i in indices]
        asked = [self._annotations(part, i) for part, i in self.where]
        self.boxes, self.labels = [boxes for boxes, _ in asked], [labels for _, labels in asked]
        self.patients = [self.parts[part][0].patients[i] for part, i in self.where]
        self.classes = np.concatenate([self._classes(part)[ix] for part, (_, ix) in enumerate(self.parts)])
        self.synthetic = np.concatenate([~is_real(store)[indices] for store, indices in self.parts])
        self.annotated = np.repeat(self.told, [len(indices) for _, indices in self.parts])
        self.shares = np.array(shares, np.float64) / sum(shares)
        self.weights = self._weights(self.shares)
        self.anneal = 0.0  # share of a run, at its end, over which only the first part is left

    def at(self, fraction: float) -> None:
        """Let the weights be those of a moment of a run, from 0 to 1: with `anneal` other parts fade out at its end."""
        if self.anneal:
            kept = min(1.0, max(0.0, (1 - fraction) / self.anneal))
            others = self.shares[1:] * kept
            self.weights = self._weights(np.array([1 - others.sum(), *others]))

    def _weights(self, shares: np.ndarray) -> np.ndarray:
        sizes = [len(indices) for _, indices in self.parts]
        return np.repeat(shares / sizes, sizes)

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
        boxes, labels, known = self.boxes[index], self.labels[index], int(self.classes[index])
        mask = self.parts[part][0].condition(i).mask if self.told[part] else None
        return Condition(self.spec.spatial, boxes, labels, mask, known)

    def _annotations(self, part: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        store = self.parts[part][0]
        if not self.told[part]:
            return store.boxes[index][:0], store.labels[index][:0]
        if not part or store.spec.label_names == self.spec.label_names:
            return store.boxes[index], store.labels[index]
        number = [self.spec.label_names.index(store.spec.label_names[label]) for label in store.labels[index]]
        return store.boxes[index], np.array(number, np.int64)

    def _classes(self, part: int) -> np.ndarray:
        store = self.parts[part][0]
        return _classes_as(self.spec.class_names, store) if self.told[part] else np.full(len(store), -1, np.int64)


def _classes_as(names: Sequence[str], store: Store) -> np.ndarray:
    """Return the classes (n,) of a store's images as indices into `names`, -1 for what is unknown or not there."""
    number = {name: i for i, name in enumerate(names)}
    own = [number.get(name, -1) for name in store.class_names]
    return np.array([*own, -1], np.int64)[store.classes]


def conditions_in(store: Store, known: Collection[Known] = BOXES) -> np.ndarray:
    """Return the real training images that a generator with such knowledge learns from, or draws images like.

    They are annotated ones. Where it is told no lesion, or there is none to be told, images of a class will do; any
    will, where it is told nothing.
    """
    train = is_real(store) & (store.splits == "train")
    if not known:
        return np.flatnonzero(train)
    lesions = any(len(store.boxes[i]) for i in np.flatnonzero(train & store.annotated))
    told = lesions and not {"boxes", "labels"}.isdisjoint(known)
    return np.flatnonzero(train & (store.annotated if told else store.annotated | (store.classes >= 0)))


def generator_examples(
    store: Store,
    known: Collection[Known] = BOXES,
    only: str | None = None,
    *,
    unannotated: bool = False,
    beside: Beside = NOTHING,
) -> StoreExamples:
    """Return the real training images for a generator that knows such things of what it draws.

    With `only` they are those of one kind (`store.kinds`), of which no class needs to be told. A generator that learns
    from `unannotated` images gets those of the store too, and external ones are put `beside` them. Raises BadInput
    where there are none, or synthetic ones among them, and where there is nothing to tell; UsageError for an unknown
    kind.
    """
    if not is_real(store).all():
        name = store.ids[int(np.argmin(is_real(store)))]
        raise BadInput(f"{store.path} holds synthetic images ({name}): a generator is fitted on real images only")
    train = conditions_in(store, known)
    if not len(train):
        raise BadInput(f"{store.path} has no annotated image in the training split")
    if only is not None:
        return _of_one_kind(store, of_kind(store, train, only), only)
    of_class = "class" in known and (store.classes[train] >= 0).any()
    lesions = any(len(store.boxes[i]) for i in train)
    if not lesions and not of_class and not {"boxes", "labels"}.isdisjoint(known):
        raise BadInput(f"{store.path} has no box in its training split: there is nothing to condition on")
    others = list(_unannotated_parts(store, train)) if unannotated and beside.share != 0 else []
    for each in beside.external:
        others += _external_parts(store, each, known=known, labelled=beside.labelled, unannotated=unannotated)
    return _put_together(store, train, others, beside)


def _put_together(
    store: Store, train: np.ndarray, others: Sequence[tuple[Store, np.ndarray, bool]], beside: Beside
) -> StoreExamples:
    """Return the annotated training images of a store, with others that have a share of each batch among them."""
    count = sum(len(indices) for _, indices, _ in others)
    share = min(MOST_BESIDE, count / (count + len(train))) if beside.share is None else beside.share
    shares = [1 - share, *(share * len(indices) / count for _, indices, _ in others)] if others else [1.0]
    parts = [(store, train), *((other, indices) for other, indices, _ in others)]
    data = StoreExamples(parts, shares, [True, *(told for _, _, told in others)])
    data.anneal = beside.anneal
    return data


def _unannotated_parts(store: Store, told: np.ndarray) -> Iterator[tuple[Store, np.ndarray, bool]]:
    """Yield the real training images of a store that are not among those of which something is known."""
    train = np.flatnonzero(is_real(store) & (store.splits == "train"))
    if len(rest := np.setdiff1d(train, told)):
        yield store, rest, False


def _external_parts(
    store: Store, external: Store, known: Collection[Known], labelled: bool, unannotated: bool
) -> Iterator[tuple[Store, np.ndarray, bool]]:
    """Yield the training images of an external store: those whose annotations are used, then the others."""
    told = conditions_in(external, known) if labelled else np.zeros(0, np.int64)
    if len(told):
        check_annotations(store, external)
        yield external, told, True
    if unannotated:
        yield from _unannotated_parts(external, told)
    elif not len(told):
        raise BadInput(f"{external.path} has no annotated image in its training split")


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
    external: Sequence[tuple[Store, np.ndarray]] = (),
    external_share: float | None = None,
) -> StoreExamples:
    """Return the usable (n,) real training images mixed with synthetic ones, or the synthetic ones alone.

    `ratio` is how many synthetic images are drawn for one real image (default: as many as there are,
    each image of either kind equally often). `external` are stores and the annotated images of them that
    are trained on as well, `external_share` their share of all scans (default: by their number). Raises
    BadInput where they do not fit, and where a generator has seen a patient of the validation or test split.
    """
    train = np.flatnonzero(usable & (real.splits == "train") & is_real(real))
    if not len(train):
        raise BadInput(f"{real.path} has no annotated real image in the training split")
    if ratio is not None and (not synthetic or not 0 < ratio < math.inf):
        raise UsageError("--ratio needs --synthetic, and a positive number of synthetic images per real image")
    if synthetic_only and (not synthetic or ratio is not None):
        raise UsageError("--synthetic-only needs --synthetic, and takes no --ratio")
    for store in synthetic:
        _check_synthetic(real, store)
    if synthetic_only:
        shares = [float(len(store)) for store in synthetic]
        parts = [(store, np.arange(len(store))) for store in synthetic]
        return StoreExamples(parts, shares, class_names=real.spec.class_names)
    counts = [len(store) for store in synthetic]
    total = float(ratio) * len(train) if ratio is not None else float(sum(counts))
    shares = [float(len(train)), *_external_shares(len(train), external, external_share)]
    shares += [total * count / max(1, sum(counts)) for count in counts]
    return StoreExamples([(real, train), *external, *((s, np.arange(len(s))) for s in synthetic)], shares)


def _external_shares(real: int, external: Sequence[tuple[Store, np.ndarray]], share: float | None) -> list[float]:
    """Return the weight of each external part where that of the real images is their number."""
    counts = [float(len(indices)) for _, indices in external]
    factor = 1.0 if share is None else share / (1 - share) * real / max(1.0, sum(counts))
    return [count * factor for count in counts]


def _check_synthetic(real: Store, store: Store) -> None:
    if is_real(store).any():
        raise BadInput(f"{store.path} holds real images; --synthetic takes stores of generated ones")
    if store.spec != real.spec:
        raise BadInput(f"{store.path} has {form_words(store)}, but {real.path} has {form_words(real)}")
    if not store.info.generators:
        raise BadInput(f"{store.path} does not say which generator made it, so it cannot be used")
    held_out = {real.patients[i] for i in np.flatnonzero(real.splits != "train")}
    for origin in store.info.generators:
        leaked = patients_seen(held_out, origin.training_patients)
        if leaked:
            raise BadInput(
                f"{store.path}: its generator {origin.name} was fitted on {len(leaked)} patients that "
                f"{real.path} holds out for validation or test"
            )
