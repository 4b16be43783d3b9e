"""Make a reader study: a page a reader, and the key."""

import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

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
    candidates,
    check_places,
    chosen_by,
    key_image,
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
    pictures = atlas([alike(stores[places[k][0]].images[places[k][1]]) for k in order])
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


def _planned(options: StudyOptions, stores: Sequence[Store]) -> tuple[Key, list[tuple[int, int]]]:
    """Return the key, and (store, index) of each of its images."""
    rng = np.random.default_rng(np.random.SeedSequence(options.seed, spawn_key=(9,)))
    by = chosen_by(options.by, stores)
    pool = candidates(stores, options.split, by)
    for kind, words in (("real", "real images"), ("synthetic", "synthetic images")):
        if not any(one.kind == kind for one in pool):
            where = f" in the {options.split} split" if kind == "real" else ""
            raise BadInput(f"{', '.join(str(store.path) for store in stores)} hold no {words}{where}")
    shown, practice = balanced(pool, options.n, options.split, rng, options.practice)
    chosen = [*shown, *practice]
    images = [key_image(stores, one) for one in chosen]
    classes = sorted({image.image_class for image in images} - {ONE})
    questions = len(shown) // 2 if options.pairs else len(shown)
    repeats = round(options.repeats * questions)
    readers = [
        reader(f"reader-{number}", images, shown=len(shown), repeats=repeats, pairs=options.pairs, rng=rng)
        for number in range(1, options.readers + 1)
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
        asks_lesion=options.asks_lesion and any(len(stores[one.store].boxes[one.index]) for one in shown),
        stores=[KeyStore(path=_seen_from(options.out, store.path), hash=store.hash) for store in stores],
        images=images,
        readers=readers,
    )
    return key, [(one.store, one.index) for one in chosen]


def _page(
    key: Key,
    name: str,
    stores: Sequence[Store],
    places: Sequence[tuple[int, int]],
    pictures: Atlas,
    cells: dict[int, int],
) -> str:
    own = next(one for one in key.readers if one.name == name)
    trials = []
    for token, trial in own.trials.items():
        question: dict = {"id": token, "cells": [], "boxes": []}
        for image in trial.images:
            store, index = places[image]
            question["cells"].append(cells[image])
            # whole pixels, so that decimals do not tell whose boxes these are
            question["boxes"].append(np.rint(stores[store].boxes[index]).astype(int).tolist())
        if trial.practice:
            kinds = [key.images[image].kind for image in trial.images]
            question["truth"] = ("left", "right")[kinds.index("synthetic")] if key.pairs else kinds[0]
        trials.append(question)
    return reader_page(key, seal_of(key), name, trials, pictures)
