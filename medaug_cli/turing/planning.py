"""Which images a study shows, to whom, and in which order."""

import secrets
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from medaug_cli.boxes import SPLITS
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.store import Store
from medaug_cli.store.model import source_kind
from medaug_cli.turing.documents import Key, KeyImage, KeyReader, KeyTrial
from medaug_cli.turing.statistics import detectable, power
from medaug_cli.words import counted, percent

By = Literal["auto", "class", "label", "none"]
ONE = "image"  # the class of every image, where none are told apart
ALL = "all"


@dataclass(frozen=True)
class Candidate:
    """An image that may be shown."""

    store: int
    index: int
    kind: Literal["real", "synthetic"]
    group: str
    patient: str
    boxed: bool


def class_of(store: Store, index: int, by: str) -> str | None:
    """Return the class of an image: its own, or the label of its largest box; None where it has none."""
    if by == "none":
        return ONE
    if by == "class":
        number = int(store.classes[index])
        return None if number < 0 else store.class_names[number]
    boxes, d = store.boxes[index], store.spec.dims
    if not len(boxes):
        return "normal"
    sizes = (boxes[:, d:] - boxes[:, :d]).prod(1)
    return store.spec.label_names[int(store.labels[index][int(sizes.argmax())])]


def chosen_by(by: By, stores: Sequence[Store]) -> str:
    """Return what `auto` stands for: classes where all stores name them, else labels where there are several."""
    if by == "class" and not all(store.class_names for store in stores):
        lacking = next(store for store in stores if not store.class_names)
        raise BadInput(f"{lacking.path} names no class of its images; choose --by label or --by none")
    if by != "auto":
        return by
    if all(store.class_names and (store.classes >= 0).any() for store in stores):
        return "class"
    return "label" if len({name for store in stores for name in store.spec.label_names}) > 1 else "none"


def candidates(stores: Sequence[Store], split: str, by: str) -> list[Candidate]:
    """Return the real images of a split and all synthetic ones that have a class, and are annotated."""
    if split not in (*SPLITS, ALL):
        raise UsageError(f"--split {split}: choose one of {', '.join((*SPLITS, ALL))}")
    found = []
    for number, store in enumerate(stores):
        for index in np.arange(len(store)) if by == "class" else np.flatnonzero(store.annotated):
            real = source_kind(str(store.sources[index])) != "synthetic"
            group = class_of(store, int(index), by)
            if group is None or (real and split not in (ALL, store.splits[index])):
                continue
            kind: Literal["real", "synthetic"] = "real" if real else "synthetic"
            found.append(Candidate(number, int(index), kind, group, store.patients[index], len(store.boxes[index]) > 0))
    return found


def blinded(pool: Sequence[Candidate]) -> tuple[list[Candidate], bool]:
    """Return the candidates of which no box tells what they are, and whether boxes can be shown at all.

    Of each class those with boxes stay, or those without, whichever there are more of in both kinds. Where a class has
    boxes in one kind alone all stay, and no box can be shown.
    """
    count = Counter((one.group, one.kind, one.boxed) for one in pool)
    kept: dict[str, bool] = {}
    real, synthetic = ({one.group for one in pool if one.kind == kind} for kind in ("real", "synthetic"))
    for group in real & synthetic:
        least = {boxed: min(count[group, kind, boxed] for kind in ("real", "synthetic")) for boxed in (True, False)}
        if not any(least.values()):
            return list(pool), False
        kept[group] = least[True] >= least[False]
    return [one for one in pool if one.boxed == kept.get(one.group, one.boxed)], True


def balanced(
    pool: Sequence[Candidate], n: int, split: str, rng: np.random.Generator, practice: int
) -> tuple[list[Candidate], list[Candidate]]:
    """Return as many real as synthetic images of each class, n in all, and `practice` others.

    Patients take turns, so that no study is of one patient's slices. Raises BadInput where there are too few.
    """
    cells: dict[tuple[str, str], list[Candidate]] = defaultdict(list)
    for one in pool:
        cells[one.group, one.kind].append(one)
    groups = sorted({group for group, _ in cells})
    both = [group for group in groups if (group, "real") in cells and (group, "synthetic") in cells]
    if not both:
        counts = ", ".join(f"{len(own)} {kind} of {group}" for (group, kind), own in sorted(cells.items())) or "none"
        raise BadInput(f"no class has both real and synthetic images (images: {counts})")
    each = n // (2 * len(both))
    if not each:
        raise UsageError(f"--n {n}: expected at least {2 * len(both)}, two images of each of {len(both)} classes")
    least = min(len(cells[group, kind]) for group in both for kind in ("real", "synthetic"))
    if least < each:
        group, kind = min(((g, k) for g in both for k in ("real", "synthetic")), key=lambda cell: len(cells[cell]))
        where = f" in the {split} split" if kind == "real" and split != ALL else ""
        raise BadInput(
            f"--n {n} takes {each} {kind} images of the class {group!r}, there are {least}{where}; "
            f"at most --n {2 * len(both) * least} can be shown"
        )
    turns: Counter[str] = Counter()
    chosen, rest = {}, {}
    wanted = [(group, kind) for group in both for kind in ("real", "synthetic")]
    for cell in sorted(wanted, key=lambda cell: len({one.patient for one in cells[cell]})):  # least choice first
        order = _by_turns(cells[cell], rng, turns)
        chosen[cell], rest[cell] = order[:each], order[each:]
        turns.update(one.patient for one in chosen[cell])
    left = [one for row in zip_longest_flat([rest[cell] for cell in wanted]) for one in row]
    return [one for cell in wanted for one in chosen[cell]], _evenly(left, practice)


def zip_longest_flat(rows: Sequence[Sequence[Candidate]]) -> list[list[Candidate]]:
    """Return the first of each row, then the second of each, as far as there are any."""
    return [[row[k] for row in rows if k < len(row)] for k in range(max(map(len, rows), default=0))]


def _evenly(left: Sequence[Candidate], count: int) -> list[Candidate]:
    """Return as many real as synthetic images, in turns."""
    kinds = [[one for one in left if one.kind == kind] for kind in ("real", "synthetic")]
    half = min(count // 2, *map(len, kinds))
    return [one for pair in zip(*(own[:half] for own in kinds), strict=True) for one in pair]


def _by_turns(own: Sequence[Candidate], rng: np.random.Generator, turns: Counter[str]) -> list[Candidate]:
    """Return images in random order, those of patients who had fewer `turns` first, one of each before a second."""
    turns, order = turns.copy(), []
    for k in rng.permutation(len(own)):
        order.append((turns[own[k].patient], own[k]))
        turns[own[k].patient] += 1
    return [one for _, one in sorted(order, key=lambda each: each[0])]


def key_image(stores: Sequence[Store], one: Candidate) -> KeyImage:
    """Return what the key says of an image."""
    evidence = stores[one.store].details[one.index].get("evidence")
    known = [float(value) for value in evidence if value is not None] if isinstance(evidence, list) else []
    return KeyImage(
        kind=one.kind,
        store=one.store,
        id=stores[one.store].ids[one.index],
        image_class=one.group,
        evidence=max(known, default=None),  # of its best box, as the filter judges it
    )


def reader(
    name: str, questions: Sequence[list[int]], practice: Sequence[list[int]], repeats: int, rng: np.random.Generator
) -> KeyReader:
    """Return one reader's questions in a random order of its own: practice first, repeats well after the first time.

    A question is of an image, or of a pair, which comes to lie left and right by chance.
    """
    asked = [KeyTrial(images=rng.permutation(questions[k]).tolist()) for k in rng.permutation(len(questions))]
    again = rng.permutation(len(asked) // 2)[:repeats]  # of the first half, so that much has come in between
    later = [KeyTrial(images=asked[k].images, repeat=True) for k in again]
    places = np.sort(rng.integers(3 * len(asked) // 4, len(asked) + 1, len(later)))
    for place, trial in zip(places[::-1], later[::-1], strict=True):
        asked.insert(int(place), trial)
    order = rng.permutation(len(practice))
    tried = [KeyTrial(images=rng.permutation(practice[k]).tolist(), practice=True) for k in order]
    return KeyReader(name=name, trials={_token(): trial for trial in [*tried, *asked]})


def paired(images: Sequence[KeyImage], chosen: Sequence[int], rng: np.random.Generator) -> list[list[int]]:
    """Return pairs of a real and a synthetic image of one class, the same for all readers."""
    cells: dict[tuple[str, str], list[int]] = defaultdict(list)
    for k in chosen:
        cells[images[k].image_class, images[k].kind].append(k)
    pairs = []
    for group in sorted({group for group, _ in cells}):
        real, synthetic = (rng.permutation(cells[group, kind]).tolist() for kind in ("real", "synthetic"))
        pairs += [list(pair) for pair in zip(real, synthetic, strict=False)]
    return pairs


def _token() -> str:
    """Return a name that tells nothing; it is not drawn from the seed, from which the order could be found again."""
    return secrets.token_hex(8)


def plan_words(key: Key) -> list[str]:
    """Say what the study asks, and what it can see."""
    asked = sum(not trial.practice and not trial.repeat for trial in key.readers[0].trials.values())
    practice, repeats = (
        sum(getattr(trial, name) for trial in key.readers[0].trials.values()) for name in ("practice", "repeat")
    )
    what = "pairs of a real and a synthetic image" if key.pairs else "images, half of them synthetic"
    classes = f" of {', '.join(key.classes)}" if key.asks_class else ""
    least = detectable(asked)
    seen = "no accuracy is detected reliably"
    if least:
        seen = f"an accuracy of {percent(least, 1)} is detected with a power of 80 %"
    readers = counted(len(key.readers), "reader")
    return [
        f"{readers}, {asked} {what}{classes}; {practice} to practise on, {repeats} shown twice",
        f"power of one reader's answers: 60 % right is told from guessing in {percent(power(asked, 0.6))} of "
        f"studies, 70 % in {percent(power(asked, 0.7))}; {seen}",
    ]


def check_places(out: Path, stores: Sequence[Path]) -> None:
    """Raise UsageError where the folder of a study would hold one of its stores."""
    inside = [store for store in stores if out.resolve() in store.resolve().parents]
    if inside:
        raise UsageError(f"--out {out} holds the store {inside[0]}; choose a folder of its own")
