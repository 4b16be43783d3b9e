"""Write a store in shards that survive a kill, verify it, and publish it by rename."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli.errors import BadInput, MedaugError, UsageError
from medaug_cli.files import (
    canonical,
    finish_publishing,
    new_file,
    new_files,
    parse_json,
    publish_text,
    remove_folder,
    remove_stale,
)
from medaug_cli.locks import alone, remove_dead_lock
from medaug_cli.outlet import Outlet
from medaug_cli.results import Kind, OtherSettings, changes, check_file, check_place, refuse_stranger
from medaug_cli.store.model import LEARNT_FROM, OPTIONAL_COLUMNS, TEXT_COLUMNS, Columns, Record, StoreInfo, check_rules
from medaug_cli.store.reading import NUMBER_COLUMNS, STORE_VERSION, Store, content_hash, open_store
from medaug_cli.store.seal import SIZE, seal

SHARD_BYTES = 16 << 20
PARTS = Kind(
    "", "unfinished work", ("plan.json", "lock", "*[0-9]-[0-9]*.h5", "*[0-9]-[0-9]*.units.json"),
    lambda folder: _has_plan(folder),
)  # fmt: skip


def _has_plan(folder: Path) -> bool:
    try:
        plan = parse_json(folder / "plan.json")
    except BadInput:
        return False
    return isinstance(plan, dict) and {"info", "plan"} <= plan.keys()


def parts_folder(path: Path) -> Path:
    """Return where the unfinished work for `path` is collected."""
    return path.with_name(f"{path.name}.parts")


def already_made(path: Path, info: StoreInfo, resume: bool, overwrite: bool) -> Store | None:
    """Return the store at `path` if a resumed command finds its work done; None if there is work to do.

    Raises UsageError if something else stands there.
    """
    if not path.exists() or not resume or overwrite:
        return None
    store, wanted = open_store(path), _what_matters(info.model_dump(mode="json"))
    made = _what_matters(store.info.model_dump(mode="json"))
    for names in ("label_names", "class_names"):
        if set(made[names]) <= set(wanted[names]):  # without those that no box, and no image, has
            made[names] = wanted[names]
    if LEARNT_FROM not in made["settings"]:  # in older stores
        wanted["settings"].pop(LEARNT_FROM, None)
    if changed := changes(made, wanted):
        raise OtherSettings(f"{path} was made by medaug {store.info.tool_version}", ", ".join(changed))
    plan_file = parts_folder(path) / "plan.json"  # of a run that was killed as soon as it had published
    if plan_file.exists() and _what_matters(parse_json(plan_file)["info"]) == wanted:
        refuse_stranger(parts_folder(path), PARTS)
        remove_folder(parts_folder(path), path)
    remove_stale(path)
    remove_dead_lock(path)
    return store


def _what_matters(info: dict[str, Any]) -> dict[str, Any]:
    """Return what made a store but for versions of programs and names of files: those may change, contents not."""
    plain = {key: value for key, value in _plain(info).items() if key != "tool_version"}
    plain["inputs"] = sorted(info["inputs"].values())
    plain["generators"] = [{k: v for k, v in each.items() if k != "version"} for each in plain["generators"]]
    return plain


def check_store_place(path: Path, command: str, overwrite: bool, reads: Sequence[Path] = ()) -> None:
    """Raise UsageError unless a store of `command` may be written to `path`: in place of another such one at most."""
    check_file(path, overwrite, reads)
    if not path.exists():
        return
    try:
        made_by = open_store(path).info.command
    except BadInput as error:
        raise UsageError(f"{path} exists and is not a store that medaug made; choose another --out") from error
    if made_by != command:
        raise UsageError(f"{path} was made by medaug {made_by}, not by medaug {command}; choose another --out")


@contextmanager
def store_claimed(path: Path, command: str, overwrite: bool, reads: Sequence[Path] = ()) -> Iterator[None]:
    """Keep other processes from writing the store `path` while the block runs.

    Raises UsageError where something exists there that may not be replaced, or that the command `reads`.
    """
    check_place(path)
    with alone(path):
        finish_publishing(path)
        check_store_place(path, command, overwrite or path.exists(), reads)
        yield


def _plain(value: Any) -> Any:
    """Return a value as it comes back from JSON."""
    return json.loads(canonical(value))


class StoreWriter:
    """Collects records unit by unit (a scan, a block of samples) in any order; publishes them in unit order.

    A unit is added whole or not at all. Units that a killed run had finished are kept, and `has`
    tells which they are; `plan` is what must be the same for their results to be the same.
    """

    def __init__(
        self, path: Path, info: StoreInfo, plan: dict[str, Any], overwrite: bool = False, resume: bool = False
    ):
        check_store_place(path, info.command, overwrite)
        self.path, self.info, self.folder = path, info, parts_folder(path)
        self._open_folder(_plain(plan), overwrite, resume)
        self._units: dict[int, Path] = {}
        self._waiting: list[tuple[int, list[Record], dict[str, Any]]] = []
        self._waiting_bytes = 0
        self.refresh()

    def _open_folder(self, plan: dict[str, Any], overwrite: bool, resume: bool) -> None:
        plan_file = self.folder / "plan.json"
        if self.folder.exists():
            refuse_stranger(self.folder, PARTS)
        if plan_file.exists() and resume:
            if changed := changes(parse_json(plan_file)["plan"], plan):
                raise OtherSettings(f"the unfinished work in {self.folder} was begun", ", ".join(changed))
            return
        if plan_file.exists() and not overwrite:
            raise UsageError(
                f"{self.folder} holds unfinished work; continue with --resume, or start over with --overwrite"
            )
        if self.folder.exists() and not resume:
            remove_folder(self.folder, self.path)
        self.folder.mkdir(parents=True, exist_ok=True)
        info = self.info.model_dump(mode="json")
        publish_text(plan_file, json.dumps({"info": info, "plan": plan}, indent=1))

    def refresh(self) -> None:
        """Look again which units are finished, by this process or by others."""
        for shard in sorted(self.folder.glob("*.units.json")):
            for unit in parse_json(shard)["units"]:
                self._units.setdefault(unit["unit"], shard)

    def has(self, unit: int) -> bool:
        """Tell whether a unit is already there."""
        return unit in self._units or any(unit == waiting for waiting, _, _ in self._waiting)

    def add(self, unit: int, records: list[Record], note: dict[str, Any] | None = None) -> None:
        """Add a finished unit: any number of records (none is fine) and a note for the report."""
        self._waiting.append((unit, records, note or {}))
        self._waiting_bytes += sum(record.image.nbytes for record in records) + 1
        if self._waiting_bytes >= SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Put what waits on the disk, safe from a kill."""
        if not self._waiting:
            return
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        listing = {"units": [{"unit": unit, "records": len(records), "note": note} for unit, records, note in waiting]}
        name = f"{waiting[0][0]:08d}-{waiting[-1][0]:08d}"
        records = [record for _, unit_records, _ in waiting for record in unit_records]
        if records:
            with new_file(self.folder / f"{name}.h5") as temporary:
                _write(temporary, self.info, [_Batch.of(records, self.info)])
        publish_text(self.folder / f"{name}.units.json", canonical(listing))  # last: it makes the shard count
        for unit, _, _ in waiting:
            self._units[unit] = self.folder / f"{name}.units.json"

    def notes(self) -> dict[int, dict[str, Any]]:
        """Return the note of each finished unit, in unit order."""
        self.flush()
        notes = {}
        for shard in sorted(set(self._units.values())):
            for unit in parse_json(shard)["units"]:
                notes[unit["unit"]] = unit["note"]
        return dict(sorted(notes.items()))

    def discard(self, keep_finished: bool = False) -> None:
        """Remove the unfinished work, where nothing is to come of it; units on the disk are kept where that is said."""
        if keep_finished and self._units:
            return
        remove_folder(self.folder, self.path)
        self._units.clear()

    def publish(
        self, beside: Callable[[Store, Path], None] = lambda store, folder: None, *, used_labels: bool = False
    ) -> Store:
        """Join all units in order, read the file back, verify it, and rename it to its place.

        What `beside` writes into the folder that it is given with the store is published together with that. With
        `used_labels` the store names the labels of its boxes, and the classes of its images, alone.
        """
        self.flush()
        refuse_stranger(self.folder, PARTS)
        with new_files(self.path) as folder:
            temporary = folder / self.path.name
            _write(temporary, self.info, _InOrder(self._units), used_labels)
            store = open_store(temporary)
            store.verify()
            beside(store, folder)
        remove_folder(self.folder, self.path)
        return open_store(self.path)


class _Batch:
    """Some consecutive images of the store to be: tables and pixels."""

    def __init__(self, columns: Columns, images: np.ndarray, masks: np.ndarray | None):
        self.columns, self.images, self.masks = columns, images, masks

    @classmethod
    def of(cls, records: list[Record], info: StoreInfo) -> "_Batch":
        names = {name: number for number, name in enumerate(info.label_names)}
        unknown = {label for record in records for label in record.labels} - set(names)
        if unknown:
            raise BadInput(f"the label {sorted(unknown)[0]!r} is not among {', '.join(names) or 'none'}")
        d = records[0].image.ndim - 1
        boxes = [np.asarray(record.boxes, np.float32).reshape(-1, 2 * d) for record in records]
        columns = Columns(
            id=[r.id for r in records], patient=[r.patient for r in records], split=[r.split for r in records],
            source=[r.source for r in records], details=[canonical(r.details) for r in records],
            seed=np.array([r.seed for r in records], np.int64), boxes=np.concatenate(boxes),
            box_labels=np.array([names[label] for r in records for label in r.labels], np.int32),
            box_offsets=np.cumsum([0, *map(len, boxes)]).astype(np.int64), **_optional(records, info, d),
        )  # fmt: skip
        _same_form(records)
        masks = None if records[0].mask is None else np.stack([np.asarray(r.mask, np.uint8) for r in records])
        return cls(columns, np.stack([r.image for r in records]), masks)

    def take(self, start: int, stop: int) -> "_Batch":
        c = self.columns
        first, last = c.box_offsets[start], c.box_offsets[stop]
        part: dict[str, Any] = {name: getattr(c, name)[start:stop] for name in (*TEXT_COLUMNS, "seed")}
        part |= {name: None if (own := getattr(c, name)) is None else own[start:stop] for name in OPTIONAL_COLUMNS}
        columns = Columns(
            **part,
            boxes=c.boxes[first:last], box_labels=c.box_labels[first:last],
            box_offsets=c.box_offsets[start : stop + 1] - first,
        )  # fmt: skip
        return _Batch(columns, self.images[start:stop], None if self.masks is None else self.masks[start:stop])


def _optional(records: list[Record], info: StoreInfo, dims: int) -> dict[str, np.ndarray]:
    """Return the optional columns about which these records say something."""
    numbers = {name: number for number, name in enumerate(info.class_names)}
    unknown = {r.image_class for r in records} - {None} - set(numbers)
    if unknown:
        raise BadInput(f"the class {sorted(map(str, unknown))[0]!r} is not among {', '.join(numbers) or 'none'}")
    found: dict[str, np.ndarray] = {}
    if any(r.image_class is not None for r in records):
        found["classes"] = np.array([numbers.get(str(r.image_class), -1) for r in records], np.int32)
    if any(r.spacing is not None for r in records):
        unsaid = (np.nan,) * dims
        found["spacing"] = np.array([unsaid if r.spacing is None else r.spacing for r in records], np.float32)
    if not all(r.annotated for r in records):
        found["annotated"] = np.array([r.annotated for r in records], np.uint8)
    return found


def _same_form(records: list[Record]) -> None:
    form = {(r.image.shape, str(r.image.dtype), r.mask is None) for r in records}
    if len(form) > 1:
        raise BadInput(f"images of one store must be alike in shape, type and masks; {records[0].id} and others differ")


def write_store(path: Path, info: StoreInfo, stores: Sequence[Store], used_labels: bool = False) -> None:
    """Write one store file of the images of several, in order."""
    _write(path, info, [_Batch(store.columns, store.images, store.masks) for store in stores], used_labels)


class _InOrder:
    """The finished units as batches in unit order; reads shard after shard, never all at once."""

    def __init__(self, units: dict[int, Path]):
        self.places: list[tuple[int, Path, int, int]] = []
        for shard in sorted(set(units.values())):
            start = 0
            for unit in parse_json(shard)["units"]:
                if units[unit["unit"]] == shard:
                    self.places.append((unit["unit"], shard, start, start + unit["records"]))
                start += unit["records"]
        self.places.sort(key=lambda place: place[0])

    def __iter__(self) -> Iterator[_Batch]:
        opened: tuple[Path, _Batch] | None = None
        for _, shard, start, stop in self.places:
            if start == stop:
                continue
            if opened is None or opened[0] != shard:
                store = open_store(shard.with_name(shard.name.replace(".units.json", ".h5")))
                opened = shard, _Batch(store.columns, store.images, store.masks)
            yield opened[1].take(start, stop)


def _joined(batches: list[Columns]) -> Columns:
    counts = [0, *np.cumsum([len(c.boxes) for c in batches])]
    offsets = [c.box_offsets[1:] + shift for c, shift in zip(batches, counts, strict=False)]
    known: dict[str, Any] = {name: [text for c in batches for text in getattr(c, name)] for name in TEXT_COLUMNS}
    known |= {name: _joined_optional(name, batches) for name in OPTIONAL_COLUMNS}
    return Columns(
        **known, seed=np.concatenate([c.seed for c in batches]), boxes=np.concatenate([c.boxes for c in batches]),
        box_labels=np.concatenate([c.box_labels for c in batches]),
        box_offsets=np.concatenate([np.zeros(1, np.int64), *offsets]),
    )  # fmt: skip


def _joined_optional(name: str, batches: list[Columns]) -> np.ndarray | None:
    """Return a column that some batches have, filled up where others have none; None where none has it."""
    known = next((own for c in batches if (own := getattr(c, name)) is not None), None)
    if known is None:
        return None
    kind, unsaid = OPTIONAL_COLUMNS[name]
    parts = [
        np.full((len(c.id), *known.shape[1:]), unsaid, kind) if getattr(c, name) is None else getattr(c, name)
        for c in batches
    ]
    return np.concatenate(parts)


def _with_used_names(info: StoreInfo, table: Columns) -> tuple[StoreInfo, Columns]:
    """Return a store's facts and tables without labels that no box has, and classes that no image has.

    Where no box has a label, or no image a class, all names stay.
    """
    used, numbers = np.unique(table.box_labels, return_inverse=True)
    if len(used):
        info = info.model_copy(update={"label_names": [info.label_names[number] for number in used]})
        table = replace(table, box_labels=numbers.astype(np.int32))
    known = np.empty(0, np.int32) if table.classes is None else np.unique(table.classes[table.classes >= 0])
    if len(known):
        assert table.classes is not None
        classes = np.where(table.classes >= 0, np.searchsorted(known, table.classes), -1).astype(np.int32)
        info = info.model_copy(update={"class_names": [info.class_names[number] for number in known]})
        table = replace(table, classes=classes)
    return info, table


def _write(path: Path, info: StoreInfo, batches: Iterable[_Batch], used_labels: bool = False) -> None:
    """Write a whole store file: tables first gathered, pixels copied batch by batch."""
    import h5py

    columns = [batch.columns for batch in batches]
    if not columns:
        raise MedaugError(f"{path.name}: no image is left to store")
    table = _joined(columns)
    if used_labels:
        info, table = _with_used_names(info, table)
    first = next(iter(batches))
    check_rules(path, table, tuple(first.images.shape[2:]), info)
    n, text = len(table.id), h5py.string_dtype("utf-8")
    with Outlet(path) as outlet, h5py.File(outlet, "w", userblock_size=SIZE) as file:
        for name in TEXT_COLUMNS:
            file.create_dataset(name, data=np.array(getattr(table, name), object), dtype=text)
        for name, kind in NUMBER_COLUMNS.items():
            file.create_dataset(name, data=np.asarray(getattr(table, name), kind))
        for name, (kind, _) in OPTIONAL_COLUMNS.items():
            if getattr(table, name) is not None:
                file.create_dataset(name, data=np.asarray(getattr(table, name), kind))
        images = file.create_dataset("images", (n, *first.images.shape[1:]), first.images.dtype)
        masks = None if first.masks is None else file.create_dataset("masks", (n, *first.masks.shape[1:]), "uint8")
        start = 0
        for batch in batches:
            outlet.check()
            stop = start + len(batch.images)
            images[start:stop] = batch.images
            if masks is not None:
                masks[start:stop] = batch.masks
            start = stop
        file.attrs["medaug"], file.attrs["info"] = STORE_VERSION, info.model_dump_json()
    _seal(path)
    written = _reopened(path, images_shape=(n, *first.images.shape[1:]))
    with Outlet(path, "r+b") as outlet, h5py.File(outlet, "r+") as file:
        file.attrs["hash"] = content_hash(info, written.columns, written.images, written.masks)
    _seal(path)


def _seal(path: Path) -> None:
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        pixels = [file[name] for name in ("images", "masks") if name in file]
        places = [(dataset.id.get_offset(), dataset.nbytes) for dataset in pixels]
    seal(path, places)


def _reopened(path: Path, images_shape: tuple[int, ...]) -> Store:
    store = open_store(path)
    if store.images.shape != images_shape:
        raise MedaugError(f"{path}: {store.images.shape} was read back where {images_shape} was written")
    return store
