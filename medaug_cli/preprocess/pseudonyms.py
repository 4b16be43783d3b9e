"""Names in outputs that tell nobody who the patient is: numbers, or hashes with a user's key."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medaug_cli.errors import BadInput
from medaug_cli.scans.reading import Scan

LEAST_KEY = 16  # bytes
DIGITS = 16  # hexadecimal, of a pseudonym


def read_key(path: Path) -> bytes:
    """Read the user's key; raise BadInput where it is none or can be guessed."""
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise BadInput(f"{path}, the key for pseudonyms, cannot be read ({error.strerror})") from error
    if len(key) < LEAST_KEY:
        raise BadInput(f"{path} holds {len(key)} bytes; a key has {LEAST_KEY} or more, as `openssl rand -hex 32` makes")
    return key


def pseudonym(key: bytes, kind: str, text: str) -> str:
    """Return a name that is always the same for the same key, kind and text (HMAC-SHA-256)."""
    digest = hmac.new(key, f"{kind}\0{text}".encode(), hashlib.sha256).hexdigest()
    return f"{kind[0]}{digest[:DIGITS]}"


def renamed_scans(scans: Sequence[Scan], key: bytes | None) -> list[Scan]:
    """Return scans with ids and names for outputs: by the key, else by number where a name tells who the patient is."""
    named, taken = [], {scan.id for scan in scans if not scan.private}
    for number, scan in enumerate(scans, 1):
        if key is not None:
            name = pseudonym(key, "scan", scan.relative)
        elif scan.private:
            name = f"scan{number:04d}"
            name += "-private" * (name in taken)  # somebody has called another scan so
        else:
            named.append(scan)
            continue
        named.append(replace(scan, id=name, shown=name))
    return named


def renamed_patients(scans: Sequence[Scan], patients: Mapping[str, str], key: bytes | None) -> dict[str, str]:
    """Return scan id -> patient for outputs: with a key a hash of what identifies the patient, else as it is."""
    if key is None:
        return dict(patients)
    found = {}
    for scan in scans:
        own = patients[scan.id]
        found[scan.id] = pseudonym(key, "patient", scan.identity if scan.identity and own == scan.patient else own)
    return found
