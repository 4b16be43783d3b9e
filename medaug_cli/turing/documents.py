"""The files of a reader study: the owner's key, and what a reader's page exports."""

import hashlib
import json
from typing import Literal

from pydantic import Field

from medaug_cli.boxes import Strict
from medaug_cli.files import canonical

Kind = Literal["real", "synthetic"]


class KeyImage(Strict):
    """One image of the study: what it is, and where it comes from."""

    kind: Kind
    store: int  # index into the key's stores
    id: str
    image_class: str
    evidence: float | None = None  # of the lesion filter, where the store says


class KeyTrial(Strict):
    """One question of one reader; of a pair the first image is shown on the left."""

    images: list[int] = Field(min_length=1, max_length=2)  # indices into the key's images
    practice: bool = False
    repeat: bool = False  # shown before to the same reader


class KeyReader(Strict):
    """What a page asks, by the random name of each question."""

    name: str
    trials: dict[str, KeyTrial]  # in the order in which they are asked


class KeyStore(Strict):
    """A store that images come from."""

    path: str
    hash: str


class Key(Strict):
    """key.json: it stays with the owner of the study; a page holds its SHA-256 alone."""

    version: Literal[1] = 1
    tool_version: str
    study: str  # random
    salt: str  # random, so that nobody finds the key by its hash
    title: str
    seed: int
    by: str
    pairs: bool
    classes: list[str]
    asks_class: bool
    asks_lesion: bool
    stores: list[KeyStore]
    images: list[KeyImage]
    readers: list[KeyReader]


def seal_of(key: Key) -> str:
    """Return the SHA-256 of a key, which its pages carry and every answer repeats."""
    return hashlib.sha256(canonical(json.loads(key.model_dump_json())).encode()).hexdigest()


class Answer(Strict):
    """What a reader said to one question."""

    trial: str
    says: Literal["real", "synthetic", "left", "right"]  # of a pair: which of the two is synthetic
    confidence: int = Field(ge=1, le=5)
    image_class: str | None = None
    lesion: Literal["yes", "no"] | None = None  # is it where the box is?
    seconds: float = Field(ge=0)  # while the image was on the screen, pauses left out


class AnswerFile(Strict):
    """What a reader's page exports."""

    version: Literal[1] = 1
    study: str
    seal: str
    reader: str
    finished: bool
    saved: str  # date and time
    answers: list[Answer]
