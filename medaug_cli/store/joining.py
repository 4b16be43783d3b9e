"""Put the stores of several parts together into one."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medaug_cli.boxes import folded
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import names_of, new_files
from medaug_cli.results import check_file
from medaug_cli.store.folds import of_training_alone
from medaug_cli.store.model import StoreInfo, source_kind
from medaug_cli.store.reading import Store, open_store
from medaug_cli.store.writing import store_claimed, write_store

NUMBERED = re.compile(r"patient\d{4,}")  # as preprocess calls the patients of DICOM files
NUMBERS = "each run numbers its own patients: tell those of several apart with preprocess --pseudonymise and one key"
FORM: dict[str, Callable[[Store], str]] = {  # what joined stores have in common, in words
    "the size of their images": lambda store: "x".join(map(str, store.spec.spatial)),
    "the channels of their images": lambda store: str(store.spec.channels),
    "the bits of their images": lambda store: str(8 * store.images.dtype.itemsize),
    "whether they have masks": lambda store: "no masks" if store.masks is None else "masks",
    "the names of labels, which each has to have all of": lambda store: _listed(store.info.label_names),
    "the names of classes, which each has to have all of": lambda store: _listed(store.info.class_names),
    "the names of what masks mark, which each has to have all of": lambda store: _listed(store.info.mask_names),
}
PART = "part"  # the setting that tells which part of how many a store is
DIFFERING = "differing"  # the setting that names those in which joined stores differ


def join_stores(
    paths: Sequence[Path],
    out: Path,
    overwrite: bool = False,
    beside: Callable[[list[Store], Store, Path], None] = lambda parts, store, folder: None,
    report: Callable[[int, int, str], None] = lambda done, of, words: None,
) -> Store:
    """Publish one store of the images of several, parts of one run in their order.

    What `beside` writes into the folder that it is given with the parts and the whole is published together with that.
    `report` hears of each step: how many are done, of how many, and which is at work.
    Raises UsageError where a part is missing or given twice, BadInput where the stores do not go together.
    """
    if len(paths) < 2:
        raise UsageError("give the stores to join, two or more")
    check_file(out, overwrite, paths)
    stores = _ordered([open_store(path) for path in paths])
    for number, store in enumerate(stores):
        report(number, len(stores) + 2, f"reading {store.path}")
        store.verify()
        _check_alike(stores[0], store)
    _refuse_clashes(stores)
    info = _joined_info(stores)
    with store_claimed(out, info.command, overwrite, paths):
        check_file(out, overwrite, paths)
        with new_files(out) as folder:
            report(len(stores), len(stores) + 2, f"writing {out}")
            write_store(folder / out.name, info, stores, used_labels=_part(stores[0]) is not None)
            report(len(stores) + 1, len(stores) + 2, f"reading {out}")
            joined = open_store(folder / out.name)
            joined.verify()
            beside(stores, joined, folder)
        return open_store(out)


def _refuse_clashes(stores: Sequence[Store]) -> None:
    """Raise BadInput where two stores hold an image of one id, or a patient in different splits or spellings."""
    images: dict[str, Path] = {}
    homes: dict[str, tuple[str, str, Path]] = {}
    for store in stores:
        each = store.columns
        for name, patient, split, source in zip(each.id, each.patient, each.split, each.source, strict=True):
            if name in images:
                advice = "preprocess the scans of both in one run, or under other file names"
                if images[name].samefile(store.path):
                    advice = "give each store once"
                elif source_kind(source) == "synthetic":
                    advice = "take both as they are: --synthetic may be repeated"
                raise BadInput(f"image {name} is in both {images[name]} and {store.path}; {advice}")
            images[name] = store.path
            if source_kind(source) == "synthetic":
                continue
            name_there, home, place = homes.setdefault(folded(patient), (patient, split, store.path))
            if patient != name_there:
                raise BadInput(
                    f"patient {name_there!r} of {place} and patient {patient!r} of {store.path} are spelt differently "
                    "and would count as two; preprocess both with one spelling, or with other names if they are two"
                )
            if home != split:
                advice = NUMBERS if NUMBERED.fullmatch(patient) else "split by patient"
                raise BadInput(
                    f"patient {patient} is in the {home} split of {place} and in the {split} split of {store.path}; "
                    f"{advice}"
                )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _part(store: Store) -> list[int] | None:
    part = store.info.settings.get(PART)
    return part if isinstance(part, list) and len(part) == 2 else None


def _ordered(stores: list[Store]) -> list[Store]:
    """Return parts of one run by their number; other stores as they are given."""
    parts = [_part(store) for store in stores]
    if all(part is None for part in parts):
        return stores
    known = [part for part in parts if part is not None]
    of = known[0][1]
    if len(known) < len(stores) or any(part[1] != of for part in known):
        raise UsageError("these stores are parts of different runs; join the parts of one run")
    missing = sorted(set(range(of)) - {part[0] for part in known})
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise UsageError(f"part {missing[0]} of {of} is missing{more}")
    if len(known) > of:
        raise UsageError(f"{len(known)} stores are given for {of} parts; one appears twice")
    return sorted(stores, key=lambda store: (_part(store) or [0])[0])


def _check_alike(first: Store, other: Store) -> None:
    for what, told in FORM.items():
        one, two = told(first), told(other)
        if one != two:
            raise BadInput(f"{first.path} and {other.path} differ in {what}: {one} and {two}")


def _plain(info: StoreInfo) -> dict[str, Any]:
    settings = {name: value for name, value in info.settings.items() if name != PART}
    return info.model_dump() | {"settings": settings}


def _joined_info(stores: Sequence[Store]) -> StoreInfo:
    """Return what made the parts where that is one run; else what was joined."""
    plain = [_plain(store.info) for store in stores]
    if all(one == plain[0] for one in plain):
        return StoreInfo(**plain[0])
    if _part(stores[0]) is not None:
        differing = next(name for one in plain for name in one if one[name] != plain[0][name])
        raise UsageError(f"the parts were made with different {differing}; make them with the same options")
    generators = {origin.hash: origin for store in stores for origin in store.info.generators}
    digests = [store.hash for store in stores]
    return stores[0].info.model_copy(update={
        "command": "store join", "settings": _joined_settings(stores),
        "inputs": dict(zip(names_of([store.path for store in stores]), digests, strict=True)),
        "generators": list(generators.values()),
    })  # fmt: skip


def _joined_settings(stores: Sequence[Store]) -> dict[str, Any]:
    """Return the settings that stores share, and those of one that forbid something to the whole."""
    settings = shared_settings([store.info.settings for store in stores])
    if columns := next(filter(None, map(of_training_alone, stores)), ""):
        settings["box_columns"] = columns
    if any(store.info.settings.get("mirrored") is False for store in stores):
        settings["mirrored"] = False
    return settings


def shared_settings(each: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the settings that several results have alike, and under DIFFERING the names of the others."""
    names = sorted({name for one in each for name in one} - {DIFFERING})
    alike = {name for name in names if all(name in one and one[name] == each[0].get(name) for one in each)}
    differing = sorted({*names} - alike | {name for one in each for name in one.get(DIFFERING, ())})
    return {name: value for name, value in each[0].items() if name in alike} | (
        {DIFFERING: differing} if differing else {}
    )
