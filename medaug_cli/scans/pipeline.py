"""`medaug preprocess`: from a folder of scans and their boxes to a store, its boxes.json and a report."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medaug_cli import __version__
from medaug_cli.boxes import BoxesFile, ImageBoxes, LabelledBox, write_boxes
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import publish_text, read_json, refuse_existing, sha256_file, write_json
from medaug_cli.scans.annotations import Annotation, read_annotations, read_masks
from medaug_cli.scans.brain import check_stripper_choice
from medaug_cli.scans.brain_files import masks_folder
from medaug_cli.scans.frames import Outcome, Recipe, process, source_slice
from medaug_cli.scans.geometry import Placement
from medaug_cli.scans.masks import is_mask_name
from medaug_cli.scans.reading import Scan, check_volume_kind, find_scans, read_pixels
from medaug_cli.scans.report import PreprocessReport, SliceReport, page, picture
from medaug_cli.scans.splits import name_patients, split_scans
from medaug_cli.store import Record, Store, StoreInfo, StoreWriter, already_made


@dataclass(frozen=True)
class PreprocessOptions:
    """What `medaug preprocess` takes."""

    scans: Path
    out: Path
    boxes: Path | None = None
    masks: Path | None = None
    split: str | None = None  # shares, or a CSV file; the annotation's own where it has one
    recipe: Recipe = field(default_factory=Recipe)
    unreadable: Literal["stop", "skip"] = "stop"
    seed: int = 0
    workers: int = 0
    resume: bool = False
    overwrite: bool = False
    dry_run: bool = False
    report: Callable[[int], None] = lambda scans: None
    announce: Callable[[str], None] = lambda sentence: None


@dataclass(frozen=True)
class _Plan:
    scans: list[Scan]
    annotations: dict[str, Annotation]
    patients: dict[str, str]  # scan id -> patient
    splits: dict[str, str]  # patient -> split
    by_patient: bool
    recipe: Recipe
    info: StoreInfo


def preprocess(options: PreprocessOptions) -> Store | None:
    """Make a store of the annotated scans and publish it with boxes.json and the report; None after a dry run.

    Nothing is dropped silently: preprocess.json has a line a slice.
    """
    plan = _plan(options)
    _announce(options, plan)
    if options.dry_run:
        return None
    store = already_made(options.out, plan.info, options.resume, options.overwrite)
    if store is None:
        _check_outputs(options)
        store = _make(options, plan)
    _publish_pages(options, plan, store)
    return store


def beside(out: Path, name: str) -> Path:
    """Return where boxes.json, preprocess.json or preprocess.html goes."""
    return out.with_name(name)


def _check_outputs(options: PreprocessOptions) -> None:
    refuse_existing(options.out, options.overwrite)
    boxes = beside(options.out, "boxes.json")
    if options.boxes is not None and boxes.exists() and boxes.resolve() == options.boxes.resolve():
        raise UsageError(f"{boxes} would be replaced by the boxes of the processed images; choose another --out folder")
    refuse_existing(boxes, options.overwrite or options.resume)


def _plan(options: PreprocessOptions) -> _Plan:
    if options.recipe.size < 16 or options.recipe.size & (options.recipe.size - 1):
        raise UsageError(f"--size {options.recipe.size}: a power of two from 16 on is wanted, such as 64, 128 or 256")
    if options.boxes is None and options.masks is None:
        raise UsageError("give the annotations by --boxes, --masks or both")
    if masks_folder(options.recipe.strip) is None:
        check_stripper_choice(options.recipe.strip, options.recipe.strip_settings)
    scans = find_scans(options.scans, options.announce)
    if options.masks is not None:
        scans = [scan for scan in scans if not is_mask_name(scan.path)] or scans
    check_volume_kind(scans)
    annotations = _annotations(options, scans)
    annotated = [scan for scan in scans if scan.id in annotations]
    if not annotated:
        raise BadInput(f"none of the {len(scans)} scans in {options.scans} is annotated")
    recipe = _completed(options, annotated[0], annotations)
    patients, known = name_patients(scans, annotations)
    splits = split_scans(annotated, annotations, patients, options.split, options.boxes, options.seed)
    names = {recipe.label} if recipe.label else {n for a in annotations.values() for n in a.labels} or {"lesion"}
    if options.masks is not None and not recipe.label:
        names |= {"lesion"}
    return _Plan(scans, annotations, patients, splits, known, recipe, _info(options, recipe, sorted(map(str, names))))


def _annotations(options: PreprocessOptions, scans: Sequence[Scan]) -> dict[str, Annotation]:
    found = {} if options.boxes is None else read_annotations(options.boxes, scans)
    if options.masks is None:
        return found
    if not options.masks.exists():
        raise BadInput(f"{options.masks} does not exist")
    for name, annotation in read_masks(options.masks, scans).items():
        if options.boxes is None:
            found[name] = annotation
        elif name in found:
            found[name].mask = annotation.mask
    return found


def _completed(options: PreprocessOptions, first: Scan, annotations: dict[str, Annotation]) -> Recipe:
    """Settle what the first scan decides: channels, and whether the store holds masks."""
    channels = len(_readable(options, first, annotations).image)
    masks = any(annotation.mask is not None for annotation in annotations.values())
    return replace(options.recipe, channels=3 if channels == 3 else 1, with_masks=masks)


def _readable(options: PreprocessOptions, first: Scan, annotations: dict[str, Annotation]) -> Any:
    try:
        return read_pixels(first)
    except BadInput:
        if options.unreadable == "stop":
            raise
    for scan in find_scans(options.scans):
        if scan.id in annotations:
            try:
                return read_pixels(scan)
            except BadInput:
                continue
    raise BadInput(f"none of the annotated scans in {options.scans} can be read")


def _info(options: PreprocessOptions, recipe: Recipe, names: list[str]) -> StoreInfo:
    settings = {name: value for name, value in asdict(recipe).items() if name != "keep_masks"}
    settings["percentiles"] = list(recipe.percentiles)
    inputs = {}
    for path in (options.boxes, options.masks, None if options.split is None else Path(options.split)):
        if path is not None and path.is_file():
            inputs[path.name] = sha256_file(path)
    return StoreInfo(
        tool_version=__version__, command="preprocess", seed=options.seed, label_names=names, inputs=inputs,
        settings=settings | {"split": options.split, "unreadable": options.unreadable},
    )  # fmt: skip


def _announce(options: PreprocessOptions, plan: _Plan) -> None:
    annotated = sum(scan.id in plan.annotations for scan in plan.scans)
    people = len({plan.patients[scan.id] for scan in plan.scans if scan.id in plan.annotations})
    options.announce(
        f"{annotated} of {len(plan.scans)} scans are annotated, {people} patients; each becomes "
        f"{plan.recipe.size}x{plan.recipe.size}, strip {plan.recipe.strip}, fit {plan.recipe.fit}: {options.out}"
    )


def _make(options: PreprocessOptions, plan: _Plan) -> Store:
    files = {scan.relative: sum(path.stat().st_size for path in scan.all_files) for scan in plan.scans}
    whole = {"info": plan.info.model_dump(mode="json"), "scans": files, "source": str(options.scans.resolve())}
    writer = StoreWriter(options.out, plan.info, whole, options.overwrite, options.resume)
    waiting = [i for i, scan in enumerate(plan.scans) if not writer.has(i)]
    options.report(len(plan.scans) - len(waiting))
    for unit, outcome in zip(waiting, _outcomes(options, plan, waiting), strict=True):
        records = [_settled(record, plan.scans[unit], plan) for record in outcome.records]
        for each in outcome.reports:
            each.patient = plan.patients[plan.scans[unit].id]
            each.split = plan.splits.get(each.patient) if each.state == "kept" else None
        writer.add(unit, records, {"slices": [each.model_dump(mode="json") for each in outcome.reports]})
        options.report(1)
    slices = [SliceReport(**each) for note in writer.notes().values() for each in note["slices"]]
    report = PreprocessReport(
        tool_version=__version__, settings=plan.info.settings, split_by="patient" if plan.by_patient else "image",
        slices=slices,
    )  # fmt: skip
    write_json(beside(options.out, "preprocess.json"), report)  # first: the store says that all is done
    for name in ("boxes.json", "preprocess.html"):  # of a store that is replaced
        beside(options.out, name).unlink(missing_ok=True)
    return writer.publish()


def _settled(record: Record, scan: Scan, plan: _Plan) -> Record:
    patient = plan.patients[scan.id]
    return replace(record, patient=patient, split=plan.splits[patient])


def _outcomes(options: PreprocessOptions, plan: _Plan, units: Sequence[int]) -> Iterator[Outcome]:
    jobs = [(plan.scans[i], plan.annotations.get(plan.scans[i].id), plan.recipe, options.unreadable) for i in units]
    if options.workers < 2:
        yield from map(_outcome, jobs)
        return
    with ProcessPoolExecutor(options.workers) as pool:
        yield from pool.map(_outcome, jobs, chunksize=4)


def _outcome(job: tuple[Scan, Annotation | None, Recipe, str]) -> Outcome:
    scan, annotation, recipe, unreadable = job
    if annotation is None:
        return Outcome(reports=[SliceReport(id=scan.id, file=scan.relative, state="no annotation")])
    try:
        return process(scan, annotation, recipe)
    except BadInput as error:
        if unreadable == "stop" or all(path.name not in str(error) for path in scan.all_files):
            raise
        return Outcome(reports=[SliceReport(id=scan.id, file=scan.relative, state="skipped", reason=str(error))])


def _publish_pages(options: PreprocessOptions, plan: _Plan, store: Store) -> None:
    """Write boxes.json and the page; a resumed run finds both done or writes the same again."""
    boxes = training_boxes(store)
    target = beside(options.out, "boxes.json")
    if not (options.resume and target.exists()):
        write_boxes(target, boxes)
    html = beside(options.out, "preprocess.html")
    if not (options.resume and html.exists()):
        report = read_json(beside(options.out, "preprocess.json"), PreprocessReport)
        publish_text(html, page(report, _Painter(plan, store)))


def training_boxes(store: Store) -> BoxesFile:
    """Return the boxes of the training split in the coordinates of the processed images."""
    height, width = store.spec.spatial
    images = []
    for i in store.indices("train"):
        names = [store.spec.label_names[k] for k in store.labels[i]]
        boxes = [LabelledBox(box=b.tolist(), label=n) for b, n in zip(store.boxes[i], names, strict=True)]
        images.append(ImageBoxes(
            id=store.ids[i], width=width, height=height, patient=store.patients[i], split="train", boxes=boxes
        ))  # fmt: skip
    return BoxesFile(version=1, images=images)


class _Painter:
    """Draws a slice before and after; reads the file again."""

    def __init__(self, plan: _Plan, store: Store):
        self._store, self._channels = store, store.spec.channels
        self._scans = {scan.relative: scan for scan in plan.scans}
        self._index = {name: i for i, name in enumerate(store.ids)}

    def __call__(self, each: SliceReport) -> str | None:
        index = self._index.get(each.id)
        for before in source_slice(self._scans[each.file], each.slice, self._channels):
            if index is None:
                return None
            boxes = self._store.boxes[index]
            placement = Placement.from_details(self._store.details[index]["placement"])
            after = self._store.read([index])[0]
            return picture(before, placement.inverse_boxes(boxes), after, np.asarray(boxes))
        return None
