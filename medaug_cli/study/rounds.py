"""What a study trains on and judges by: the store as it is split or, in folds by patient, one fold of one deal."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medaug_cli.errors import UsageError
from medaug_cli.files import write_json
from medaug_cli.store import Store
from medaug_cli.store.folds import Fold, Folds, deal_folds, kept_folds, read_folds
from medaug_cli.study.teaching import split_alike, teaching_store
from medaug_cli.words import counted

if TYPE_CHECKING:
    from medaug_cli.study.trials import StudyOptions


@dataclass(frozen=True)
class Round:
    """A store with the splits that networks are trained and judged by, and the folder of what comes of it."""

    store: Store = field(compare=False, repr=False)
    taught: Store = field(compare=False, repr=False)  # with the annotations that are learnt from, split alike
    deal: int = 0
    fold: int = 0  # from 1; 0 where the store's own split counts

    @property
    def folder(self) -> str:
        """Return what stands before the folder of a share of the patients."""
        deal = f"deal-{self.deal + 1}/" if self.deal else ""
        return f"{deal}fold-{self.fold}/" if self.fold else ""

    @property
    def name(self) -> str:
        """Return what a reader calls it; nothing without folds."""
        deal = f"deal {self.deal + 1}, " if self.deal else ""
        return f"{deal}fold {self.fold}" if self.fold else ""


def rounds_of(options: "StudyOptions", store: Store) -> list[Round]:
    """Return the rounds of a study, deal by deal; without folds the one of the store's own split.

    Raises BadInput where the annotations to learn from are those of other images.
    """
    other = None if options.train_annotations is None else teaching_store(options.train_annotations, store)

    def made(judged: Store, *of: int) -> Round:
        return Round(judged, judged if other is None else split_alike(other, judged), *of)

    return [
        made(Fold(folds, number).of(store), deal, number)
        for deal, folds in enumerate(deals_of(options, store))
        for number in range(1, folds.folds + 1)
    ] or [made(store)]


def of_deals(rounds: Sequence[Round]) -> list[list[Round]]:
    """Return the rounds of each deal."""
    deals = sorted({each.deal for each in rounds})
    return [[each for each in rounds if each.deal == deal] for deal in deals]


def deals_of(options: "StudyOptions", store: Store) -> list[Folds]:
    """Return the folds of each deal: those that are kept in the study's folder, those of a file, or new ones.

    Raises UsageError where the folder holds other folds, or a study of the store's own split.
    """
    kept = folds_file(options, 0)
    if options.folds is None:
        if kept.exists():
            raise UsageError(f"{options.out} holds a study in folds; give --folds, or choose another --out")
        return []
    if any(options.out.glob("patients*/seed*")):
        raise UsageError(f"{options.out} holds a study of the store's own split; choose another --out for --folds")
    first = _first(options, store)
    others = range(1, options.repeat)
    return [first, *(_dealt(folds_file(options, deal), store, first.folds, first.seed + deal) for deal in others)]


def keep_deals(options: "StudyOptions", store: Store) -> None:
    """Write the folds into the study's folder, where they are found again and may be taken for other studies."""
    for deal, folds in enumerate(deals_of(options, store)):
        path = folds_file(options, deal)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, folds.model_dump(mode="json"))


def folds_file(options: "StudyOptions", deal: int) -> Path:
    """Return where the folds of a deal are kept."""
    return options.out / (f"folds-{deal + 1}.json" if deal else "folds.json")


def strata_of(rounds: Sequence[Round], patients: Sequence[str]) -> np.ndarray | None:
    """Return the fold from 0 that each patient is tested in by each deal, (d, u) int64; None without folds."""
    if not rounds[0].fold:
        return None
    tested = [
        {
            patient: each.fold - 1
            for each in deal
            for patient, split in zip(each.store.patients, each.store.splits, strict=True)
            if split == "test"
        }
        for deal in of_deals(rounds)
    ]
    return np.array([[own[patient] for patient in patients] for own in tested], np.int64)


def span(counts: Sequence[int], noun: str) -> str:
    """Write some counts for a reader: 69 patients, or 87 to 88 patients."""
    return counted(counts[0], noun) if len(set(counts)) == 1 else f"{min(counts)} to {counted(max(counts), noun)}"


def _first(options: "StudyOptions", store: Store) -> Folds:
    kept = folds_file(options, 0)
    if isinstance(options.folds, Path):
        asked = read_folds(options.folds, store)
        if kept.exists() and read_folds(kept, store).patients != asked.patients:
            raise UsageError(f"{kept} holds other folds than {options.folds}; choose another --out")
        return asked
    dealt = _dealt(kept, store, int(options.folds or 0), options.seed)
    if dealt.seed != options.seed:
        raise UsageError(
            f"{kept} holds folds that were dealt with --seed {dealt.seed}, not {options.seed}; keep them with --folds "
            f"{kept}, or choose another --out"
        )
    return dealt


def _dealt(path: Path, store: Store, count: int, seed: int) -> Folds:
    return kept_folds(path, store, count) if path.exists() else deal_folds(store, count, seed)
