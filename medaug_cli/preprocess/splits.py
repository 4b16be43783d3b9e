"""Splits by patient: never two slices of one patient in two subsets."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medaug_cli.boxes import SPLITS, folded
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.forms.annotations import Annotation
from medaug_cli.forms.naming import ScanNames
from medaug_cli.forms.table import SPLITS as WORDS
from medaug_cli.forms.table import read_table
from medaug_cli.scans.reading import Scan

DEFAULT = (0.7, 0.1, 0.2)


def split_scans(
    scans: Sequence[Scan],
    annotations: Mapping[str, Annotation],
    patients: Mapping[str, str],
    *,
    wanted: str | None,
    source: Path | str | None,
    seed: int,
    added: Collection[str] = (),
    unannotated: Collection[str] = (),
) -> dict[str, str]:
    """Return patient -> split: as `wanted` (shares or a CSV file) says, else the annotations, else 70, 10 and 20 %.

    `added` are the ids of scans that no annotation names; those among them that are `unannotated` go where their
    patient is, else into training.
    """
    listed = [scan for scan in scans if scan.id not in added]
    shares = DEFAULT if wanted is None else parse_shares(wanted)
    looked_at = [scan for scan in scans if scan.id not in unannotated]
    if wanted is not None and shares is None:
        splits = _from_file(Path(wanted), looked_at, patients)
    elif wanted is None and any(annotations[scan.id].split for scan in listed):
        splits = _from_annotations(source, listed, annotations, patients)
    else:
        splits = {}
    others = [scan for scan in looked_at if patients[scan.id] not in splits]
    splits |= share_out(_alike(others, annotations, patients), shares or DEFAULT, seed)
    return {patients[scan.id]: "train" for scan in scans} | splits


def _alike(
    scans: Sequence[Scan], annotations: Mapping[str, Annotation], patients: Mapping[str, str]
) -> dict[str, str | bool]:
    """Return patient -> what others share: the rarest class of their scans, else whether any of them has a lesion."""
    has_boxes: dict[str, bool] = {}
    classes: dict[str, set[str]] = defaultdict(set)
    for scan in scans:
        annotation, name = annotations[scan.id], patients[scan.id]
        has_boxes[name] = has_boxes.get(name, False) or bool(annotation.boxes) or annotation.mask is not None
        if annotation.image_class is not None:
            classes[name].add(annotation.image_class)
    counts = Counter(one for some in classes.values() for one in some)
    rarest = {name: min(some, key=lambda one: (counts[one], one)) for name, some in classes.items()}
    return has_boxes | rarest


def _from_file(path: Path, scans: Sequence[Scan], patients: Mapping[str, str]) -> dict[str, str]:
    if not path.exists():
        raise BadInput(f"--split {path}: it is neither three shares, as in 0.7,0.1,0.2, nor an existing CSV file")
    column, given = read_split_file(path)
    named = {folded(name): split for name, split in given.items()}
    by_image = _of_images(path, given, scans) if column == "image" else {}
    splits: dict[str, str] = {}
    for scan in scans:
        patient = patients[scan.id]
        called = (patient, scan.identity, scan.id)  # the second as DICOM has it, which no output shows
        split = next((named[folded(name)] for name in called if folded(name) in named), by_image.get(scan.id))
        if split is None:
            raise BadInput(f"{path} does not mention patient {patient} (scan {scan.relative})")
        _settle(splits, patient, split, str(path))
    return splits


def _of_images(path: Path, given: Mapping[str, str], scans: Sequence[Scan]) -> dict[str, str]:
    """Return scan id -> split by names of files as annotations may have them; those of other scans are passed over."""
    names, found = ScanNames(scans), dict[str, str]()
    for name, split in given.items():
        fit = names.find(name, str(path))
        if fit is not None and found.setdefault(fit[0].id, split) != split:
            raise BadInput(f"{path}: image {name} is in both the {found[fit[0].id]} and {split} splits")
    return found


def _from_annotations(
    source: Path | str | None, scans: Sequence[Scan], annotations: Mapping[str, Annotation], patients: Mapping[str, str]
) -> dict[str, str]:
    splits: dict[str, str] = {}
    for scan in scans:
        split = annotations[scan.id].split
        if split not in SPLITS:
            raise BadInput(
                f"{source}: image {scan.id} has the split {split!r}; the choices are train, val, test "
                "(or give --split 0.7,0.1,0.2)"
            )
        _settle(splits, patients[scan.id], split, str(source))
    return splits


def warnings_of_splits(splits: Mapping[str, str], wanted: str | None, words: str) -> list[str]:
    """Return a sentence where shares ask for splits that stay empty; `words` say how many patients there are."""
    shares = DEFAULT if wanted is None else parse_shares(wanted)
    asked = [name for name, share in zip(SPLITS, shares or (), strict=bool(shares)) if share > 0]
    empty = [name for name in asked if name not in splits.values()]
    if not empty:
        return []
    some = f"the split {empty[0]} stays" if len(empty) == 1 else f"the splits {' and '.join(empty)} stay"
    return [f"{some} empty: {words}"]


def _settle(splits: dict[str, str], patient: str, split: str, place: str) -> None:
    if splits.setdefault(patient, split) != split:
        raise BadInput(
            f"{place}: patient {patient} is in both the {splits[patient]} and {split} splits; split by patient"
        )


def parse_shares(text: str) -> tuple[float, float, float] | None:
    """Turn "0.7,0.1,0.2" into the shares of training, validation and test; None if it is not a list of numbers."""
    try:
        shares = tuple(float(part) for part in text.split(","))
    except ValueError:
        return None
    if len(shares) != 3 or min(shares) < 0 or not abs(sum(shares) - 1) < 1e-6 or shares[0] == 0:
        raise UsageError(
            f"--split {text}: expected three shares of train, val and test that sum to 1, as in 0.7,0.1,0.2"
        )
    return shares[0], shares[1], shares[2]


def share_out(groups: Mapping[str, str | bool], shares: Sequence[float], seed: int) -> dict[str, str]:
    """Return the split of each patient; those of each group are shared out alike.

    The order is by hash of seed and patient, so a patient keeps its place whatever the others are called.
    """
    split: dict[str, str] = {}
    for group in dict.fromkeys(groups.values()):
        patients = [name for name, own in groups.items() if own == group]
        patients.sort(key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
        start = 0
        for name, count in zip(SPLITS, _counts(len(patients), shares), strict=True):
            split |= dict.fromkeys(patients[start : start + count], name)
            start += count
    return split


def _counts(total: int, shares: Sequence[float]) -> list[int]:
    """Return whole numbers in proportion to shares (largest remainder), none 0 where that can be helped."""
    counts = [int(total * share) for share in shares]
    rest = sorted(range(len(shares)), key=lambda i: (counts[i] - total * shares[i], i))
    for i in rest[: total - sum(counts)]:
        counts[i] += 1
    for i, share in enumerate(shares):
        if share > 0 and counts[i] == 0 and max(counts) > 1:
            counts[counts.index(max(counts))] -= 1
            counts[i] += 1
    return counts


def read_split_file(path: Path) -> tuple[str, dict[str, str]]:
    """Read a CSV with the columns patient (or image) and split; return which of the two it has, and name -> split."""
    table = read_table(path, ("patient", "split"))
    column = next((name for name in ("patient", "image") if name in table.columns), None)
    at = table.columns.get("split", table.place_of("set", "partition"))
    if column is None or at is None:
        raise BadInput(f"{path} needs the columns patient (or image) and split; it has {', '.join(table.header)[:200]}")
    table = replace(table, columns={**table.columns, "split": at})
    found: dict[str, str] = {}
    for line, row in table.rows:
        name, said = table.value(row, column, ()), table.value(row, "split", ()) or ""
        split = WORDS.get(said.lower(), said.lower())
        if not name:
            raise BadInput(f"{path}, line {line}: the row names no {column}")
        if split not in SPLITS:
            raise BadInput(f"{path}, line {line}: the split {said!r} is not one of {', '.join(SPLITS)}")
        if found.setdefault(name, split) != split:
            raise BadInput(f"{path}, line {line}: {column} {name} is in both the {found[name]} and {split} splits")
    return column, found
