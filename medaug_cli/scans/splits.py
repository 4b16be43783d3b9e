"""Splits by patient: never two slices of one patient in two subsets."""

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from medaug_cli.boxes import SPLITS
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import read_text

DEFAULT = (0.7, 0.1, 0.2)


def parse_shares(text: str) -> tuple[float, float, float] | None:
    """Turn "0.7,0.1,0.2" into the shares of training, validation and test; None if it is no list of numbers."""
    try:
        shares = tuple(float(part) for part in text.split(","))
    except ValueError:
        return None
    if len(shares) != 3 or min(shares) < 0 or not abs(sum(shares) - 1) < 1e-6 or shares[0] == 0:
        raise UsageError(
            f"--split {text}: three shares of train, val and test that sum to 1 are wanted, as in 0.7,0.1,0.2"
        )
    return shares[0], shares[1], shares[2]


def share_out(has_boxes: Mapping[str, bool], shares: Sequence[float], seed: int) -> dict[str, str]:
    """Return the split of each patient; those with and those without boxes are shared out alike.

    The order is by hash of seed and patient, so a patient keeps its place whatever the others are called.
    """
    split: dict[str, str] = {}
    for group in (True, False):
        patients = [name for name, some in has_boxes.items() if some == group]
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


def read_split_file(path: Path) -> dict[str, str]:
    """Read a CSV with the columns patient (or image) and split; return name -> split."""
    rows = list(csv.DictReader(io.StringIO(read_text(path))))
    column = next((name for name in ("patient", "image") if rows and name in rows[0]), None)
    if column is None or "split" not in rows[0]:
        raise BadInput(f"{path} needs the columns patient (or image) and split")
    found: dict[str, str] = {}
    for line, row in enumerate(rows, start=2):
        name, split = (row[column] or "").strip(), (row["split"] or "").strip()
        if split not in SPLITS:
            raise BadInput(f"{path}, line {line}: the split {split!r} is none of {', '.join(SPLITS)}")
        if found.setdefault(name, split) != split:
            raise BadInput(f"{path}, line {line}: {column} {name} stands in the splits {found[name]} and {split}")
    return found
