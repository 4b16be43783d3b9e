"""`medaug preprocess`: from a folder of scans and their boxes to a store, its boxes.json and a report."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from medaug_cli import __version__
from medaug_cli.brain.extraction import check_stripper_choice
from medaug_cli.brain.files import masks_folder
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import canonical, sha256_file
from medaug_cli.forms.annotations import Annotation, read_annotations, read_masks, with_masks
from medaug_cli.preprocess.frames import Outcome, Recipe, process
from medaug_cli.preprocess.histograms import Histogram
from medaug_cli.preprocess.pool import chosen_workers, in_order
from medaug_cli.preprocess.pseudonyms import read_key, renamed_patients, renamed_scans
from medaug_cli.preprocess.recipe import check_recipe
from medaug_cli.preprocess.report import EXAMPLES, SHOWN, LeftOutFile, PreprocessReport, SliceReport
from medaug_cli.preprocess.results import check_outputs, publish_pages, publish_report
from medaug_cli.preprocess.splits import name_patients, split_scans
from medaug_cli.scans.masks import is_mask_name
from medaug_cli.scans.reading import Pixels, Scan, check_volume_kind, read_pixels
from medaug_cli.scans.survey import LeftOut, survey
from medaug_cli.store import Record, Store, StoreInfo, StoreWriter, already_made

FLUSH_SECONDS = 60.0  # of work that a kill may cost


@dataclass(frozen=True)
class PreprocessOptions:
    """What `medaug preprocess` takes."""

    scans: Path
    out: Path
    boxes: Path | None = None
    masks: Path | None = None
    split: str | None = None  # shares, or a CSV file; the annotation's own where it has one
    recipe: Recipe = field(default_factory=Recipe)
    reader: str | None = None
    modality: str | None = None
    keep_going: bool = False
    box_mode: str | None = None  # of a data list
    key: Path | None = None  # for pseudonyms
    num_parts: int = 1
    part_id: int = 0
    seed: int = 0
    workers: int = 0
    resume: bool = False
    overwrite: bool = False
    dry_run: bool = False
    report: Callable[[float, str], None] = lambda share, note: None
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
    units: range  # the scans of this part
    left_out: list[LeftOut]


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
        check_outputs(options.out, options.boxes, options.overwrite, options.resume)
        store = _make(options, plan)
    publish_pages(options.out, store, options.resume)
    return store


def _plan(options: PreprocessOptions) -> _Plan:
    check_recipe(options.recipe)
    if options.boxes is None and options.masks is None:
        raise UsageError("give the annotations by --boxes, --masks or both")
    if masks_folder(options.recipe.strip) is None:
        check_stripper_choice(options.recipe.strip, options.recipe.strip_settings)
    found = survey(options.scans, options.announce, options.reader, options.modality, options.keep_going)
    scans = found.scans
    if options.masks is not None:
        scans = [scan for scan in scans if not is_mask_name(scan.path)] or scans
    if not check_volume_kind(scans) and options.recipe.region_mm:
        raise UsageError(f"--regions takes volumes; {scans[0].relative} is a picture")
    annotations = _annotations(options, scans)
    annotated = [scan for scan in scans if scan.id in annotations]
    if not annotated:
        raise BadInput(f"none of the {len(scans)} scans in {options.scans} is annotated")
    recipe = _completed(options, annotated, annotations)
    patients, known = name_patients(scans, annotations)
    splits = split_scans(annotated, annotations, patients, options.split, options.boxes, options.seed)
    names = {recipe.label} if recipe.label else _label_names(annotations)
    info = _info(options, recipe, sorted(map(str, names)))
    units = _part(options, [i for i, scan in enumerate(scans) if scan.id in annotations], len(scans))
    return _renamed(options, _Plan(scans, annotations, patients, splits, known, recipe, info, units, found.left_out))


def _part(options: PreprocessOptions, annotated: Sequence[int], total: int) -> range:
    """Return the scans of this part: as many annotated ones as another part has, in order."""
    parts, part = options.num_parts, options.part_id
    if not 0 <= part < parts:
        raise UsageError(f"--part-id {part}: with --num-parts {parts} it is 0 to {parts - 1}")
    if parts > len(annotated):
        raise UsageError(f"--num-parts {parts}: there are only {len(annotated)} annotated scans to share out")
    ends = [0, *(annotated[len(annotated) * k // parts] for k in range(1, parts)), total]
    return range(ends[part], ends[part + 1])


def _renamed(options: PreprocessOptions, plan: _Plan) -> _Plan:
    """Give scans and patients the names that outputs may know."""
    key = None if options.key is None else read_key(options.key)
    patients = renamed_patients(plan.scans, plan.patients, key)
    scans = renamed_scans(plan.scans, key)
    new = {old.id: scan.id for old, scan in zip(plan.scans, scans, strict=True)}
    people = {plan.patients[name]: patients[name] for name in plan.patients}
    left_out = plan.left_out if key is None else [replace(one, shown="a file", reason="") for one in plan.left_out]
    return replace(
        plan, scans=scans, annotations={new[name]: one for name, one in plan.annotations.items()},
        patients={new[name]: patient for name, patient in patients.items()},
        splits={people[name]: split for name, split in plan.splits.items()}, left_out=left_out,
    )  # fmt: skip


def _annotations(options: PreprocessOptions, scans: Sequence[Scan]) -> dict[str, Annotation]:
    found = {} if options.boxes is None else read_annotations(options.boxes, scans, options.box_mode)
    if options.masks is None:
        return found
    if not options.masks.exists():
        raise BadInput(f"{options.masks} does not exist")
    if options.boxes is None:
        return read_masks(options.masks, scans)
    return with_masks(found, options.masks, scans)


def _completed(
    options: PreprocessOptions, annotated: Sequence[Scan], annotations: dict[str, Annotation]
) -> Recipe:
    """Settle what the first scan decides: channels, and whether the store holds masks."""
    channels = len(_readable(options, annotated).image)
    masks = any(annotation.mask is not None for annotation in annotations.values())
    return replace(options.recipe, channels=3 if channels == 3 else 1, with_masks=masks)


def _readable(options: PreprocessOptions, annotated: Sequence[Scan]) -> Pixels:
    """Return the pixels of the first annotated scan; of the first that can be read, with `keep_going`."""
    for scan in annotated:
        try:
            return read_pixels(scan)
        except BadInput:
            if not options.keep_going:
                raise
    raise BadInput(f"none of the annotated scans in {options.scans} can be read")


def _label_names(annotations: dict[str, Annotation]) -> set[str]:
    """Return every label that boxes or the values of masks may have."""
    named = {name for one in annotations.values() for name in (*one.labels, *(one.mask_labels or {}).values())}
    plain = any(one.mask is not None and one.mask_labels is None for one in annotations.values())
    return named | {"lesion"} if plain or not named else named


def _info(options: PreprocessOptions, recipe: Recipe, names: list[str]) -> StoreInfo:
    left_out = {"keep_masks"} if recipe.region_mm else {"keep_masks", "region_mm"}
    settings = {name: value for name, value in asdict(recipe).items() if name not in left_out}
    settings["percentiles"] = list(recipe.percentiles)
    inputs = {}
    for path in (options.boxes, options.masks, None if options.split is None else Path(options.split)):
        if path is not None and path.is_file():
            inputs[path.name] = sha256_file(path)
    own: dict[str, Any] = {"split": options.split}
    chosen = {"modality": options.modality, "reader": options.reader, "box_mode": options.box_mode}
    own |= {name: value for name, value in chosen.items() if value is not None}
    own |= {"pseudonyms": True} if options.key is not None else {}
    own |= {"part": [options.part_id, options.num_parts]} if options.num_parts > 1 else {}
    return StoreInfo(
        tool_version=__version__, command="preprocess", seed=options.seed, label_names=names, inputs=inputs,
        settings=settings | own,
    )  # fmt: skip


def _announce(options: PreprocessOptions, plan: _Plan) -> None:
    annotated = sum(scan.id in plan.annotations for scan in plan.scans)
    people = len({plan.patients[scan.id] for scan in plan.scans if scan.id in plan.annotations})
    size, strip = plan.recipe.size, plan.recipe.strip
    form = f"each becomes {size}x{size}, strip {strip}, fit {plan.recipe.fit}"
    if plan.recipe.region_mm:
        form = f"each lesion becomes {size}x{size}x{size} voxels, {plan.recipe.region_mm:g} mm wide, strip {strip}"
    options.announce(
        f"{annotated} of {len(plan.scans)} scans are annotated, {people} patients; {form}: {options.out}"
    )


def _make(options: PreprocessOptions, plan: _Plan) -> Store:
    files = [[scan.relative, sum(path.stat().st_size for path in scan.all_files)] for scan in plan.scans]
    whole = {"info": plan.info.model_dump(mode="json"), "scans": hashlib.sha256(canonical(files).encode()).hexdigest()}
    writer = StoreWriter(options.out, plan.info, whole, options.overwrite, options.resume)
    finished = writer.notes()
    waiting = [i for i in plan.units if i not in finished]
    done, total = len(plan.units) - len(waiting), len(plan.units)
    pictures = sum(bool(one["picture"]) and _doubtful(one) for note in finished.values() for one in note["slices"])
    options.report(done / total, f"{done} of {total} scans")
    flushed = time.monotonic()
    for unit, outcome in zip(waiting, _outcomes(options, plan, waiting), strict=True):
        records = [_settled(record, plan.scans[unit], plan) for record in outcome.records]
        for each in outcome.reports:
            each.patient = plan.patients[plan.scans[unit].id]
            each.split = plan.splits.get(each.patient) if each.state == "kept" else None
            if each.picture and each.flagged:
                pictures += 1
                each.picture = each.picture if pictures <= SHOWN else None
        histograms = {name: one.model_dump(mode="json") for name, one in outcome.histograms.items()}
        slices = [each.model_dump(mode="json") for each in outcome.reports]
        writer.add(unit, records, {"slices": slices, "histograms": histograms})
        if time.monotonic() - flushed > FLUSH_SECONDS:
            writer.flush()
            flushed = time.monotonic()
        done += 1
        options.report(done / total, f"{done} of {total} scans")
    publish_report(options.out, _report(plan, list(writer.notes().values())))
    return writer.publish()


def _doubtful(one: dict[str, Any]) -> bool:
    return SliceReport(**one).flagged


def _report(plan: _Plan, notes: Sequence[dict[str, Any]]) -> PreprocessReport:
    """Return what happened to every slice, from the notes of all scans."""
    histograms = Histogram.each_together([
        {name: Histogram(**one) for name, one in note["histograms"].items()} for note in notes
    ])  # fmt: skip
    return PreprocessReport(
        tool_version=__version__, settings=plan.info.settings, split_by="patient" if plan.by_patient else "image",
        slices=[SliceReport(**each) for note in notes for each in note["slices"]], histograms=histograms,
        left_out=[LeftOutFile(file=one.shown, reason=one.reason) for one in plan.left_out if plan.units.start == 0],
    )  # fmt: skip


def _settled(record: Record, scan: Scan, plan: _Plan) -> Record:
    patient = plan.patients[scan.id]
    return replace(record, patient=patient, split=plan.splits[patient])


def _outcomes(options: PreprocessOptions, plan: _Plan, units: Sequence[int]) -> Iterator[Outcome]:
    step = max(1, len(plan.annotations) // EXAMPLES)
    jobs = [
        _Job(plan.scans[i], plan.annotations.get(plan.scans[i].id), plan.recipe, options.keep_going, i % step == 0)
        for i in units
    ]
    return in_order(_outcome, jobs, chosen_workers(options.workers, len(jobs)))


@dataclass(frozen=True)
class _Job:
    scan: Scan
    annotation: Annotation | None
    recipe: Recipe
    keep_going: bool
    example: bool


def _outcome(job: _Job) -> Outcome:
    scan = job.scan
    if job.annotation is None:
        return Outcome(reports=[SliceReport(id=scan.id, file=scan.shown, state="no annotation")])
    try:
        return process(scan, job.annotation, job.recipe, job.example)
    except BadInput as error:
        if not job.keep_going:
            raise
        reason = _without_paths(str(error), scan, job.annotation)
        return Outcome(reports=[SliceReport(id=scan.id, file=scan.shown, state="skipped", reason=reason)])


def _without_paths(sentence: str, scan: Scan, annotation: Annotation) -> str:
    """Return a sentence that calls files what outputs call them."""
    for path in scan.all_files:
        sentence = sentence.replace(str(path), scan.shown if len(scan.all_files) == 1 else f"a slice of {scan.shown}")
    return sentence.replace(str(annotation.mask), "its mask").replace(scan.relative, scan.shown)
