"""What would make a study's answer worthless: the same slice on both sides of the split, or in two folds."""

from collections.abc import Iterator, Sequence

import numpy as np

from medaug_cli.errors import BadInput
from medaug_cli.store.likeness import nearly_the_same, thumbnails
from medaug_cli.store.reading import is_real
from medaug_cli.study.rounds import Round, of_deals


def refuse_leaks(rounds: Sequence[Round]) -> None:
    """Raise BadInput where a real slice that is trained on, or chosen by, nearly equals one that is held out.

    Patients, generators and detectors are checked where they are used; this finds one patient under two names.
    """
    store = rounds[0].store
    small = thumbnails(store, np.arange(len(store))) if len(store) else np.zeros((0, 1), np.float32)
    for ours, theirs in _sides(rounds):
        pair = nearly_the_same(small[ours], small[theirs])
        if pair is None:
            continue
        first, second, correlation = int(ours[pair.first]), int(theirs[pair.second]), pair.correlation
        one, other = _words(rounds, first), _words(rounds, second)
        raise BadInput(
            f"{store.path}: {one} and {other} are nearly the same (correlation {correlation:.4f}); give both to one "
            f"patient, and {'deal the folds' if rounds[0].fold else 'split'} again"
        )


def _sides(rounds: Sequence[Round]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield images of which none may be among the other images.

    They are what is trained on and what is held out, and the validation and the test split; in folds what is tested in
    one and in later ones, and what no fold tests, as external images, and all that is tested.
    """
    store = rounds[0].store
    if not rounds[0].fold:
        held_out = [store.indices(split, unannotated=True) for split in ("val", "test")]
        yield np.flatnonzero(is_real(store) & (store.splits == "train")), np.concatenate(held_out)
        yield held_out[0], held_out[1]
        return
    for deal in of_deals(rounds):
        tested = [np.flatnonzero(each.store.splits == "test") for each in deal]
        yield np.setdiff1d(np.arange(len(store)), np.concatenate(tested)), np.concatenate(tested)
        for number, own in enumerate(tested[:-1], 1):
            yield own, np.concatenate(tested[number:])


def _words(rounds: Sequence[Round], index: int) -> str:
    store = rounds[0].store
    fold = next((each.fold for each in rounds if each.fold and each.store.splits[index] == "test"), None)
    split = "training" if store.splits[index] == "train" else store.splits[index]
    where = f"(patient {store.patients[index]}{f', fold {fold}' if fold else ''})"
    return f"the slice {store.ids[index]} {where}" if fold else f"the {split} slice {store.ids[index]} {where}"
