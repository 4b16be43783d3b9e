"""`medaug preprocess`: from a folder of scans and their boxes to a store, its boxes.json and a report."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medaug_cli import __version__
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import canonical
from medaug_cli.forms.annotations import Annotation
from medaug_cli.locks import alone
from medaug_cli.preprocess.advice import LINES, of_report
from medaug_cli.preprocess.classes import classes_file
from medaug_cli.preprocess.histograms import Histogram
from medaug_cli.preprocess.plan import Plan, PreprocessOptions, plan_of
from medaug_cli.preprocess.pool import chosen_workers, in_order
from medaug_cli.preprocess.recipe import Recipe
from medaug_cli.preprocess.records import Outcome
from medaug_cli.preprocess.report import (
    ANNOTATIONS,
    EXAMPLES,
    SHOWN,
    LeftOutFile,
    PreprocessReport,
    SliceReport,
    notes_in_short,
    summed,
)
from medaug_cli.preprocess.results import (
    beside,
    check_name,
    check_outputs,
    complete,
    read_report,
    write_beside,
)
from medaug_cli.preprocess.strip import check_kept_masks
from medaug_cli.preprocess.summary import Summary, summary_of
from medaug_cli.preprocess.treatment import treat
from medaug_cli.preprocess.unchanged import annotation_digest
from medaug_cli.results import OtherSettings
from medaug_cli.scans.reading import Scan
from medaug_cli.store import Record, Store, StoreWriter, already_made, store_claimed

UNREADABLE = "its scan or its mask cannot be read"
FLUSH_SECONDS = 60.0  # of work that a kill may cost


def preprocess(options: PreprocessOptions) -> Store | None:
    """Make a store of the scans and publish it with boxes.json and the report; None after a dry run.

    Nothing is dropped silently: preprocess.json has a line per slice. Raises BadInput if no image is left and, with
    `strict`, if an annotated lesion would be dropped or repaired; nothing is published then.
    """
    plan = plan_of(options)
    for sentence in plan.sentences:
        options.announce(sentence)
    if options.dry_run:
        _advise(options, plan.advice)
        return None
    given = (options.boxes, options.masks, options.scans, options.key, classes_file(options.classes))
    reads = [path for path in given if path is not None]
    _check_kept_masks(options, plan, reads)
    check_name(options.out)
    with (
        store_claimed(options.out, plan.info.command, options.overwrite, reads),
        alone(beside(options.out, "boxes.json")),  # of one store in a folder
    ):
        store = already_made(options.out, plan.info, options.resume, options.overwrite)
        if store is None:
            check_outputs(options.out, options.boxes, options.overwrite, options.resume)
            store = _make(options, plan)
        else:
            complete(options.out, store)
            _refuse_other_annotations(options.out, store, plan)
        report = read_report(options.out, store)
        _check_strict(options, summary_of(report))
        _advise(options, [*of_report(report), *plan.advice])
        return store


def _advise(options: PreprocessOptions, facts: Sequence[str]) -> None:
    for fact in facts[:LINES]:
        options.advise(fact)


def _check_kept_masks(options: PreprocessOptions, plan: Plan, reads: Sequence[Path]) -> None:
    if options.recipe.keep_masks is not None:
        check_kept_masks(
            options.recipe.keep_masks,
            scans=[plan.scans[unit] for unit in plan.units],
            reads=[*reads, Path(options.recipe.strip)],
            again=options.resume or options.overwrite,
        )


def summary(out: Path, store: Store) -> Summary:
    """Return what a person must know of a store, from the preprocess.json beside it."""
    return summary_of(read_report(out, store))


def _check_strict(options: PreprocessOptions, found: Summary) -> None:
    if options.strict and (complaint := found.complaint()):
        raise BadInput(f"--strict: {complaint}")


def _refuse_other_annotations(out: Path, store: Store, plan: Plan) -> None:
    """Raise OtherSettings where a finished store was made of scans that were annotated otherwise, if it says how."""
    made = read_report(out, store).settings.get(ANNOTATIONS)
    if made not in (None, summed(annotation_digest(plan, unit) for unit in plan.units)):
        raise OtherSettings(f"{out} was made", "its scans were annotated otherwise")


def _refuse_changed(writer: StoreWriter, plan: Plan) -> None:
    """Raise OtherSettings where a scan that is finished was annotated otherwise."""
    for unit, note in writer.notes().items():
        if note.get("annotation") not in (None, annotation_digest(plan, unit)):
            changed = f"{plan.scans[unit].shown} was annotated otherwise"
            raise OtherSettings(f"the unfinished work in {writer.folder} was begun", changed)


def _make(options: PreprocessOptions, plan: Plan) -> Store:
    files = [[scan.relative, scan.bytes] for scan in plan.scans]
    whole = {"info": plan.info.model_dump(mode="json"), "scans": hashlib.sha256(canonical(files).encode()).hexdigest()}
    writer = StoreWriter(options.out, plan.info, whole, overwrite=options.overwrite, resume=options.resume)
    _refuse_changed(writer, plan)
    try:
        _fill(writer, options, plan)
    except (BadInput, UsageError):
        writer.discard(keep_finished=True)
        raise
    report = _report(plan, list(writer.notes().values()))
    for line in notes_in_short(report.notes()):
        options.announce(line)
    try:
        _check_any(options, report)
        _check_strict(options, summary_of(report))
    except BadInput:
        writer.discard()
        raise
    return writer.publish(
        lambda store, folder: write_beside(store, folder, report),
        used_labels=options.num_parts == 1,  # parts keep all, so that they can be joined
    )


def _fill(writer: StoreWriter, options: PreprocessOptions, plan: Plan) -> None:
    """Give the writer the images of every scan that it does not have."""
    finished = writer.notes()
    waiting = [i for i in plan.units if i not in finished]
    done, total = len(plan.units) - len(waiting), len(plan.units)
    pictures = sum(bool(one["picture"]) and _doubtful(one) for note in finished.values() for one in note["slices"])
    options.report(done / total, f"{done} of {total} scans")
    flushed = time.monotonic()
    for unit, outcome in zip(waiting, _outcomes(options, plan, waiting), strict=True):
        scan = plan.scans[unit]
        records = [_settled(record, scan, plan) for record in outcome.records]
        classes = {record.id: record.image_class for record in records}
        for each in outcome.reports:
            each.patient, each.image_class = plan.patients[scan.id], classes.get(each.id, plan.class_of(scan))
            each.split = plan.splits.get(each.patient) if each.state == "kept" else None
            if each.picture and each.flagged:
                pictures += 1
                each.picture = each.picture if pictures <= SHOWN else None
        histograms = {name: one.model_dump(mode="json") for name, one in outcome.histograms.items()}
        slices = [each.model_dump(mode="json") for each in outcome.reports]
        writer.add(
            unit,
            records,
            {"slices": slices, "histograms": histograms, "annotation": annotation_digest(plan, unit)},
        )
        if time.monotonic() - flushed > FLUSH_SECONDS:
            writer.flush()
            flushed = time.monotonic()
        done += 1
        options.report(done / total, f"{done} of {total} scans")


def _check_any(options: PreprocessOptions, report: PreprocessReport) -> None:
    """Raise BadInput with the reasons where no image is left to store."""
    if any(each.state == "kept" for each in report.slices):
        return
    reasons = "; ".join(f"{count} {reason}" for reason, count in report.reasons()[:3]) or "no scan in this part"
    places = " and ".join(str(path) for path in (options.boxes, options.masks) if path is not None)
    marked = places and not any(each.dropped_boxes for each in report.slices)
    nothing = f"; {places} marks no lesion" if marked else ""
    raise BadInput(f"no image of {options.scans} is left to store ({reasons}){nothing}")


def _doubtful(one: dict[str, Any]) -> bool:
    return SliceReport(**one).flagged


def _report(plan: Plan, notes: Sequence[dict[str, Any]]) -> PreprocessReport:
    """Return what happened to every slice, from the notes of all scans."""
    histograms = Histogram.each_together(
        [{name: Histogram(**one) for name, one in note["histograms"].items()} for note in notes]
    )
    digests = [note["annotation"] for note in notes if "annotation" in note]  # older unfinished work has none
    said = {ANNOTATIONS: summed(digests)} if len(digests) == len(notes) else {}
    return PreprocessReport(
        tool_version=__version__,
        settings=plan.info.settings | said,
        split_by="patient" if plan.by_patient else "image",
        slices=[SliceReport(**each) for note in notes for each in note["slices"]],
        histograms=histograms,
        left_out=[
            LeftOutFile(file=one.shown, reason=one.reason, used=one.used)
            for one in plan.left_out
            if plan.units.start == 0
        ],
    )


def _settled(record: Record, scan: Scan, plan: Plan) -> Record:
    patient = plan.patients[scan.id]
    image_class = plan.class_of(scan, record.image_class)
    return replace(record, patient=patient, split=plan.splits[patient], image_class=image_class, source=plan.source)


def _outcomes(options: PreprocessOptions, plan: Plan, units: Sequence[int]) -> Iterator[Outcome]:
    step = max(1, len(plan.annotations) // EXAMPLES)
    jobs = []
    for i in units:
        scan = plan.scans[i]
        job = _Job(
            scan,
            plan.annotations.get(scan.id),
            plan.recipe,
            annotated=scan.id not in plan.unannotated,
            keep_going=options.keep_going,
            example=i % step == 0,
        )
        jobs.append(job)
    return in_order(_outcome, jobs, chosen_workers(options.workers, len(jobs)))


@dataclass(frozen=True)
class _Job:
    scan: Scan
    annotation: Annotation | None
    recipe: Recipe
    annotated: bool
    keep_going: bool
    example: bool


def _outcome(job: _Job) -> Outcome:
    scan = job.scan
    if job.annotation is None:
        return Outcome(reports=[SliceReport(id=scan.id, file=scan.shown, state="no annotation")])
    try:
        return treat(scan, job.annotation, job.recipe, annotated=job.annotated, example=job.example)
    except BadInput as error:
        if not job.keep_going:
            raise
        reason = _without_paths(str(error), scan, job.annotation)
        lost = [f"{UNREADABLE} (box {list(box)})" for box in job.annotation.boxes]
        lost += [f"{UNREADABLE} (its mask)"] if job.annotation.mask is not None else []
        skipped = SliceReport(id=scan.id, file=scan.shown, state="skipped", reason=reason, dropped_boxes=lost)
        return Outcome(reports=[skipped])


def _without_paths(sentence: str, scan: Scan, annotation: Annotation) -> str:
    """Return a sentence that calls files what outputs call them."""
    for path in scan.all_files:
        sentence = sentence.replace(str(path), scan.shown if len(scan.all_files) == 1 else f"a slice of {scan.shown}")
    for mask in annotation.masks:
        sentence = sentence.replace(f"the mask {mask}", "its mask").replace(str(mask), "its mask")
    if scan.brain_mask is not None:
        sentence = sentence.replace(f"the brain mask {scan.brain_mask}", "its brain mask")
        sentence = sentence.replace(str(scan.brain_mask), "its brain mask")
    return sentence.replace(scan.relative, scan.shown)


__all__ = ["PreprocessOptions", "preprocess", "summary"]
