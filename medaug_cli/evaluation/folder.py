"""The folder of an evaluation: metrics.json, table.md, table.csv, froc.svg, froc.csv, pages, detections, overlays."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli import __version__
from medaug_cli.boxes import safe_id
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.evaluation.gallery import gallery_html
from medaug_cli.evaluation.pictures import OVERLAY_NOTE, overlay_pictures
from medaug_cli.figures.evaluation_page import evaluation_html
from medaug_cli.figures.froc import froc_csv, froc_svg
from medaug_cli.files import canonical, parse_json, publish_bytes, publish_text, write_json
from medaug_cli.forms.catalogue import DETECTIONS, form_of, target_of
from medaug_cli.forms.form import Finds
from medaug_cli.metrics.analysis import Context, Findings, analyse
from medaug_cli.metrics.annotations import Annotated, FoundBoxes
from medaug_cli.metrics.coco_files import as_detections
from medaug_cli.metrics.details import details
from medaug_cli.metrics.matching import BY_DISTANCE, RULES
from medaug_cli.metrics.report import ANY_IOU, Analysis, Metrics, hit_words
from medaug_cli.metrics.table import markdown, tables
from medaug_cli.results import Kind, check_folder, folder_claimed, new_folder
from medaug_cli.tables import as_csv

METRICS = "metrics.json"
SHOWN = 48  # overlays on the page; the folder holds all that are asked for
COCO = "coco"  # the form that detections are always written in
Size = Callable[[int], tuple[int, int] | None]  # image index -> width, height


def _is_evaluation(folder: Path) -> bool:
    try:
        metrics = parse_json(folder / METRICS)
    except BadInput:
        return False
    return isinstance(metrics, dict) and {"tool_version", "rows"} <= metrics.keys()


EVALUATION = Kind(
    "evaluate",
    "an evaluation",
    (
        METRICS, "table.md", "froc.csv", "froc.svg", "truth.json", "errors.html", "evaluation.html",
        "detections/*.json", "detections/*.csv", "detections/*/*", "detections/*/*/*", "overlays/*.png",
    ),
    _is_evaluation,
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """What is asked of an evaluation."""

    out: Path
    how: Analysis = field(default_factory=Analysis)
    overlays: int | None = 12  # None: every image
    note: str | None = None
    overwrite: bool = False
    write: tuple[str, ...] = ()  # forms of the detections besides COCO's
    say: Callable[[str], None] = lambda sentence: None

    def check(self, reads: Sequence[Path]) -> None:
        """Raise UsageError before any work if it cannot be done; `reads` may not be replaced."""
        for form in self.write:
            form_of(form, DETECTIONS, "--write")
        if self.how.rule not in RULES:
            raise UsageError(f"--rule {self.how.rule}: {', '.join(RULES)} are the rules")
        if self.how.rule in BY_DISTANCE and self.how.ious != (ANY_IOU,):
            raise UsageError(f"--rule {self.how.rule} uses no IoU; leave --iou out")
        if self.how.sizes is not None and not all(a < b for a, b in pairwise((0.0, *self.how.sizes))):
            raise UsageError("--sizes must be positive and increasing, as in 10,20")
        if self.how.rule not in BY_DISTANCE and not all(0 < iou <= 1 for iou in self.how.ious or (0,)):
            raise UsageError("--iou must be above 0 and at most 1")
        if not np.isfinite(self.how.threshold):
            raise UsageError("--threshold must be a number")
        check_folder(self.out, EVALUATION, self.overwrite, reads)


@dataclass(frozen=True)
class Evidence:
    """Annotated images, what each detector says of them, and how to name and see them."""

    data: Annotated
    found: Mapping[str, FoundBoxes]  # of each detector, or of each seed of a system
    image_ids: Sequence[int]
    category_ids: Mapping[str, Sequence[int]]  # detector -> the category of each label
    picture: Callable[[int], np.ndarray | None]  # image index -> (c, *s), None where there is none to see
    sources: dict[str, str]  # file -> SHA-256
    weights: Mapping[str, str]  # detector -> SHA-256
    split: str | None = None
    resampled: str = "patients"
    truth: dict[str, Any] = field(default_factory=dict)  # COCO JSON to publish as truth.json
    systems: Mapping[str, Sequence[str]] = field(default_factory=dict)  # system -> its seeds; empty: each its own
    size: Size = lambda image: None
    remarks: tuple[str, ...] = ()  # what a reader must know of the files

    @property
    def members(self) -> Mapping[str, Sequence[str]]:
        """Return the detectors of each row."""
        return self.systems or {name: [name] for name in self.found}


def publish_evaluation(request: Request, evidence: Evidence) -> Metrics:
    """Measure, draw and write everything into a new folder, and publish it by rename."""
    findings = measure(request, evidence)
    with (
        folder_claimed(request.out, EVALUATION, request.overwrite) as place,
        new_folder(place, EVALUATION) as work,
    ):
        (work / "detections").mkdir()
        (work / "overlays").mkdir()
        _write_numbers(work, request, evidence, findings)
        _write_pictures(work, request, evidence, findings)
    return findings.metrics


def measure(request: Request, evidence: Evidence) -> Findings:
    """Return what metrics.json says, and the detections that were matched for it."""
    found = {name: [evidence.found[each] for each in members] for name, members in evidence.members.items()}
    hashes = {
        name: [evidence.weights[each] for each in members if each in evidence.weights]
        for name, members in evidence.members.items()
    }
    context = Context(
        split=evidence.split, resampled=evidence.resampled, data=evidence.sources, tool_version=__version__,
        weights={name: ",".join(each) for name, each in hashes.items() if each}, note=request.note,
        remarks=evidence.remarks,
    )  # fmt: skip
    return analyse(evidence.data, found, request.how, context, lambda name: request.say(f"measuring {name}"))


def as_json(metrics: Metrics) -> dict[str, Any]:
    """Return metrics.json as plain data, undefined numbers as null."""
    return metrics.model_dump(mode="json")


def _write_numbers(work: Path, request: Request, evidence: Evidence, findings: Findings) -> None:
    metrics = findings.metrics
    write_json(work / METRICS, as_json(metrics))
    publish_text(work / "table.md", markdown(metrics))
    publish_text(work / "table.csv", as_csv([*tables(metrics), *details(metrics)]))
    publish_text(work / "froc.csv", froc_csv(metrics, findings.curves))
    for name, file in file_names(evidence.found).items():
        rows = as_detections(evidence.found[name], evidence.image_ids, evidence.category_ids[name])
        publish_text(work / "detections" / f"{file}.json", canonical(rows))
        extra = [f"category {number}" for number in evidence.category_ids[name][len(evidence.data.label_names) :]]
        names = (*evidence.data.label_names, *extra)
        _write_forms(request.write, evidence, name, names, work / "detections" / file)
    if evidence.truth:
        publish_text(work / "truth.json", canonical(evidence.truth))


def _write_forms(forms: Sequence[str], evidence: Evidence, name: str, names: Sequence[str], stem: Path) -> None:
    """Write a detector's detections in more forms, beside those of COCO; `names` are those of all labels."""
    data = evidence.data
    finds = Finds(data.image_names, evidence.found[name], names, evidence.size, {"patient": data.patients})
    for one in set(forms) - {COCO}:
        form = DETECTIONS[one]
        assert form.write_detections is not None
        form.write_detections(finds, target_of(form, stem))


def _write_pictures(work: Path, request: Request, evidence: Evidence, findings: Findings) -> None:
    metrics, names = findings.metrics, evidence.data.image_names
    svg = froc_svg(metrics, findings.curves)
    publish_text(work / "froc.svg", svg)
    pictures = []
    for index, picture in overlay_pictures(evidence, findings, request.overlays, request.say):
        target = io.BytesIO()
        picture.save(target, format="PNG", optimize=True)
        whose = f", patient {evidence.data.patients[index]}" if evidence.resampled == "patients" else ""
        pictures.append((names[index] + whose, target.getvalue()))
        publish_bytes(work / "overlays" / f"{index:05d}-{safe_id(Path(names[index]).stem)}.png", target.getvalue())
    shown = pictures[:SHOWN]
    note = OVERLAY_NOTE.format(hit=hit_words(metrics.rule, next(iter(metrics.rows[0].iou))))
    publish_text(work / "errors.html", gallery_html(evidence, findings))
    publish_text(work / "evaluation.html", evaluation_html(metrics, svg, shown, note))


def file_names(names: Mapping[str, Any]) -> dict[str, str]:
    """Return a distinct file stem for each detector's name."""
    stems: dict[str, str] = {}
    for name in names:
        stem, taken = safe_id(name).lstrip("."), set(stems.values())
        stem = stem or "detector"
        stems[name] = next(s for s in (stem, *(f"{stem}-{i}" for i in range(2, len(names) + 2))) if s not in taken)
    return stems
