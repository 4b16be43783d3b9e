"""Ids of scans: plain, unique, and the same whenever a scan has the same name."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

LONGEST = 120  # of the 128 characters of an id; the rest is for the number of a slice
DIGITS = 12  # of the hash that stands for what an id cannot hold


def plain_ids(names: Sequence[str]) -> list[str]:
    """Return an id for each name, which all differ: of letters of ASCII, digits, dots, dashes and underscores.

    Other characters become dashes. A hash of the whole name follows where a letter or digit is lost, where the name is
    too long, or where another scan would have the same id; a name that is an id already keeps it.
    """
    composed = [unicodedata.normalize("NFC", name) for name in names]  # as file systems write one letter in two ways
    ids = [_hashed(name, name) if _loses(name) else _plain(name) for name in composed]
    ids = _apart(ids, composed, composed)
    return _apart(ids, composed, names)


def _apart(ids: Sequence[str], shown: Sequence[str], hashed: Sequence[str]) -> list[str]:
    """Return ids in which those that stand several times have a hash, but for one that is its own name."""
    count = Counter(ids)
    return [
        one if count[one] == 1 or one == name else _hashed(name, whole)
        for one, name, whole in zip(ids, shown, hashed, strict=True)
    ]


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", name) or "-"


def _loses(name: str) -> bool:
    return len(name) > LONGEST or any(letter.isalnum() and not letter.isascii() for letter in name)


def _hashed(name: str, whole: str) -> str:
    digest = hashlib.sha256(whole.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{_plain(name)[: LONGEST - DIGITS - 1]}-{digest[:DIGITS]}"
