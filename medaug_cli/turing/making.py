"""Make a reader study: a page a reader, and the key."""

import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medaug_cli import __version__
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import write_json
from medaug_cli.results import Kind, check_folder, folder_claimed, new_folder
from medaug_cli.store import Store, open_store
from medaug_cli.turing.atlas import Atlas, alike, atlas
from medaug_cli.turing.documents import Key, KeyStore, seal_of
from medaug_cli.turing.page import reader_page
from medaug_cli.turing.planning import (
    ONE,
    By,
    balanced,
    blinded,
    candidates,
    check_places,
    chosen_by,
    key_image,
    paired,
    plan_words,
    reader,
)
from medaug_cli.words import counted

STUDY = Kind("turing", "a reader study")
KEY = "key.json"


@dataclass(frozen=True)
class StudyOptions:
    """What is asked of a study."""

    stores: Sequence[Path]
    out: Path
    n: int = 100
    by: By = "auto"
    split: str = "test"
    readers: int = 1
    pairs: bool = False
    practice: int = 10
    repeats: float = 0.1  # share of the questions that are asked twice
    asks_class: bool | None = None  # None: where there are several
    asks_lesion: bool = True
    title: str = "Real or synthetic?"
    seed: int = 0
    overwrite: bool = False
    dry_run: bool = False
    say: Callable[[str], None] = lambda sentence: None
    report: Callable[[int, int, str], None] = lambda done, of, words: None  # hears of each step


def make_study(options: StudyOptions) -> Key:
    """Publish a folder with a page for each reader and key.json; return the key.

    Raises BadInput where the stores do not go together or hold too few images, UsageError for options that do not.
    """
    if not 0 <= options.repeats <= 1:
        raise UsageError(f"--repeats {options.repeats:g}: expected a share from 0 to 1")
    check_places(options.out, options.stores)
    check_folder(options.out, STUDY, options.overwrite, options.stores)
    stores = [open_store(path) for path in options.stores]
    _check_alike(stores)
    key, places = _planned(options, stores)
    for sentence in plan_words(key):
        options.say(sentence)
    if options.dry_run:
        return key
    order = np.random.default_rng(secrets.randbits(64)).permutation(len(key.images))
    cells = {int(image): place for place, image in enumerate(order)}
    steps = 1 + len(key.readers)
    options.report(0, steps, counted(len(key.images), "picture"))
    pictures = atlas([alike(stores[places[k].store].images[places[k].image]) for k in order])
    with (
        folder_claimed(options.out, STUDY, options.overwrite, options.stores) as place,
        new_folder(place, STUDY) as work,
    ):
        write_json(work / KEY, key)
        for done, one in enumerate(key.readers, 1):
            options.report(done, steps, f"{one.name}.html")
            (work / f"{one.name}.html").write_text(
                _page(key, one.name, stores=stores, places=places, pictures=pictures, cells=cells), "utf-8"
            )
    return key


def _seen_from(out: Path, store: Path) -> str:
    """Return where a store lies as seen from the study's folder, so that both may be moved, or copied, together."""
    return os.fsencode(os.path.relpath(os.path.realpath(store), os.path.realpath(out))).decode("utf-8", "replace")


def _check_alike(stores: Sequence[Store]) -> None:
    first = stores[0]
    for store in stores[1:]:
        if (store.spec.channels, store.spec.spatial) != (first.spec.channels, first.spec.spatial):
            sizes = ["x".join(map(str, each.spec.spatial)) for each in (first, store)]
            raise BadInput(
                f"{first.path} holds images of {sizes[0]}, {store.path} of {sizes[1]}: the size would tell them apart"
            )


class Place(NamedTuple):
    """Where an image of a study comes from, and whether its boxes are shown."""

    store: int
    image: int  # in it
    boxes: bool


def _planned(options: StudyOptions, stores: Sequence[Store]) -> tuple[Key, list[Place]]:
    """Return the key, and the place of each of its images."""
    rng = np.random.default_rng(np.random.SeedSequence(options.seed, spawn_key=(9,)))
    by = chosen_by(options.by, stores)
    pool = candidates(stores, options.split, by)
    for kind, words in (("real", "real images"), ("synthetic", "synthetic images")):
        if not any(one.kind == kind for one in pool):
            where = f" in the {options.split} split" if kind == "real" else ""
            raise BadInput(f"{', '.join(str(store.path) for store in stores)} hold no {words}{where}")
    alike, boxes = blinded(pool)
    _say_of_boxes(options, len(pool) - len(alike), boxes)
    shown, practice = balanced(alike, options.n, options.split, rng, options.practice)
    chosen = [*shown, *practice]
    images = [key_image(stores, one) for one in chosen]
    classes = sorted({image.image_class for image in images} - {ONE})
    parts = range(len(shown)), range(len(shown), len(chosen))
    questions, tried = [paired(images, part, rng) if options.pairs else [[k] for k in part] for part in parts]
    repeats = round(options.repeats * len(questions))
    hidden = np.random.default_rng(secrets.randbits(64))  # the seed, which many leave as it is, leads to no order
    readers = [
        reader(f"reader-{number}", questions, tried, repeats, hidden) for number in range(1, options.readers + 1)
    ]
    key = Key(
        tool_version=__version__,
        study=secrets.token_hex(8),
        salt=secrets.token_hex(32),
        title=options.title,
        seed=options.seed,
        by=by,
        pairs=options.pairs,
        classes=classes,
        asks_class=len(classes) > 1 if options.asks_class is None else options.asks_class,
        asks_lesion=boxes and options.asks_lesion and not options.pairs and any(one.boxed for one in shown),
        stores=[KeyStore(path=_seen_from(options.out, store.path), hash=store.hash) for store in stores],
        images=images,
        readers=readers,
    )
    return key, [Place(one.store, one.index, boxes) for one in chosen]


def _say_of_boxes(options: StudyOptions, left_out: int, boxes: bool) -> None:
    """Say which images, or that all boxes, are not shown, since having boxes would tell the kinds apart."""
    if not boxes:
        options.say("no box is shown: in a class only real or only synthetic images have boxes, which would tell them")
    elif left_out:
        options.say(
            f"{counted(left_out, 'image')} left out: in each class either all images have boxes or none has, since "
            "that would tell real from synthetic ones"
        )


def _page(
    key: Key, name: str, stores: Sequence[Store], places: Sequence[Place], pictures: Atlas, cells: dict[int, int]
) -> str:
    own = next(one for one in key.readers if one.name == name)
    trials = []
    for token, trial in own.trials.items():
        question: dict = {"id": token, "cells": [], "boxes": []}
        for image in trial.images:
            store, index, boxes = places[image]
            question["cells"].append(cells[image])
            question["boxes"].append(_whole(stores[store].boxes[index], pictures.shape) if boxes else [])
        if trial.practice:
            kinds = [key.images[image].kind for image in trial.images]
            question["truth"] = ("left", "right")[kinds.index("synthetic")] if key.pairs else kinds[0]
        trials.append(question)
    return reader_page(key, seal_of(key), name, trials, pictures)


def _whole(boxes: np.ndarray, spatial: Sequence[int]) -> list[list[int]]:
    """Return boxes in whole pixels, at least one a side, so that no decimals tell whose boxes these are."""
    d = len(spatial)
    low = np.minimum(np.rint(boxes[:, :d]), np.array(spatial[::-1]) - 1)
    high = np.maximum(np.rint(boxes[:, d:]), low + 1)
    return np.concatenate([low, high], 1).astype(int).tolist()
