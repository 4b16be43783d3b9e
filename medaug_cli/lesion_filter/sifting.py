"""`medaug filter`: keep images that show their lesions, give a reason for each, let a person overrule."""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from medaug_cli import __version__
from medaug_cli.boxes import Strict, patients_seen
from medaug_cli.devices import resolve_device
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import name_of, publish_text, read_json, refuse_existing, sha256_file, write_json
from medaug_cli.forms.table import read_table
from medaug_cli.lesion_filter.evidence import (
    Calibration,
    DetectorEvidence,
    Evidence,
    calibrate_detector,
    fit_regions,
    scores_of,
)
from medaug_cli.lesion_filter.realism import realism
from medaug_cli.locks import alone
from medaug_cli.results import refuse_page
from medaug_cli.runs import check_detector, load_detector
from medaug_cli.runs.loading import weights_named
from medaug_cli.store import (
    LEARNT_FROM,
    Record,
    Store,
    StoreInfo,
    StoreWriter,
    already_made,
    open_store,
    store_claimed,
)
from medaug_cli.store.folds import Fold
from medaug_cli.store.reading import is_real
from medaug_cli.tables import printable

REPORT, PAGE = "filter.json", "filter.html"  # beside the store
FEW = 0.8  # of the share of real lesions that look like one: where asked ones do less often, a line says so
DIGITS = 4  # of evidence, as it is written down; images are judged by all of them
BLOCK = 128  # images that are finished together
BY_A_PERSON = "by a person"  # how the reason ends of an image that was decided on
YES, NO = {"yes", "y", "true", "1", "keep", "kept"}, {"no", "n", "false", "0", "drop", "dropped"}

By = Literal["lesion", "realism", "manual", "none"]


@dataclass(frozen=True)
class FilterOptions:
    """What `medaug filter` takes."""

    synthetic: Path
    out: Path
    by: By = "lesion"
    detector: Path | None = None
    real: Path | None = None
    fold: Fold | None = None  # of the real store, where the generator was fitted in one
    decisions: Path | None = None
    real_share: float = 0.05  # of real lesions that may fall below the threshold
    seed: int = 0
    device: str = "auto"
    resume: bool = False
    overwrite: bool = False
    report: Callable[[int], None] = lambda images: None
    announce: Callable[[str], None] = lambda sentence: None


class Verdict(Strict):
    """What was decided of one image, and why."""

    id: str
    keep: bool
    reason: str
    evidence: list[float] = []  # of each box, larger is more like a lesion


class FilterReport(Strict):
    """filter.json."""

    version: Literal[1] = 1
    tool_version: str
    synthetic: dict[str, str]  # file name -> hash
    by: By
    threshold: float | None = None
    calibration: str
    images: list[Verdict]
    out: str | None = None  # name of the store of those that are kept
    kept: str | None = None  # its hash

    def advice(self, real_share: float) -> list[str]:
        """Say where far fewer asked lesions look like one than real ones, all of which do but for `real_share`."""
        evidence = [value for verdict in self.images for value in verdict.evidence]
        if self.threshold is None or not self.threshold or not evidence:
            return []
        line, real = round(self.threshold, DIGITS), 1 - real_share
        shown = sum(value >= line for value in evidence) / len(evidence)
        if shown >= FEW * real:
            return []
        return [
            f"{100 * shown:.0f} % of asked lesions look like one, {100 * real:.0f} % of real ones; train the generator "
            "for longer (train-gan --kimg N --resume)"
        ]


def sift(options: FilterOptions) -> tuple[Store, FilterReport]:
    """Publish the images that are kept, filter.json with a reason for each, and the contact sheet filter.html.

    Raises UsageError for a store of real images, and where nothing would be left.
    """
    synthetic = open_store(options.synthetic)
    _check(options, synthetic)
    decisions = {} if options.decisions is None else read_decisions(options.decisions, synthetic)
    real = _training_store(options, synthetic) if options.by in ("lesion", "realism") else None
    info = _info(options, synthetic, real)
    reads = [path for path in (options.synthetic, options.real, options.detector, options.decisions) if path]
    with store_claimed(options.out, info.command, options.overwrite, reads), alone(report_path(options.out)):
        store = already_made(options.out, info, options.resume, options.overwrite)
        if store is None:
            refuse_existing(options.out, options.overwrite)
            _refuse_other_report(options, synthetic)
            judge = _Judge.of(options, synthetic, decisions, real)
            options.announce(judge.calibration_text)
            store = _make(options, synthetic, info, judge)
            for name in sorted(_classes(synthetic) - _classes(store)):
                options.announce(f"no image of the class {name} is kept")
        report = _own_report(options, synthetic, store)
        if not options.out.with_name(PAGE).exists():
            _publish_page(options, synthetic, report, options.out.parent)
    return store, report


def _classes(store: Store) -> set[str]:
    """Return of which classes a store has images."""
    return {store.class_names[k] for k in np.unique(store.classes) if k >= 0}


def _refuse_other_report(options: FilterOptions, synthetic: Store) -> None:
    """Raise UsageError where filter.json belongs to another store that exists, or may not be replaced."""
    path = report_path(options.out)
    refuse_page(options.out.with_name(PAGE), path)
    if not path.exists():
        return
    try:
        report = read_json(path, FilterReport)
    except BadInput as error:
        raise UsageError(f"{path} is not a report of medaug filter; choose another folder for --out") from error
    own = report.out == name_of(options.out) if report.out else synthetic.hash in report.synthetic.values()
    there = report.out is not None and options.out.with_name(report.out).exists()
    if not own and (there or not options.overwrite):
        of = report.out or ", ".join(report.synthetic)
        raise UsageError(f"{path} is the report of {of}; choose another folder for --out, or move that report")


def _own_report(options: FilterOptions, synthetic: Store, store: Store) -> FilterReport:
    """Read filter.json; raise BadInput where it belongs to another store."""
    path = report_path(options.out)
    report = read_json(path, FilterReport)
    own = [each.id for each in report.images if each.keep] == store.ids if report.kept is None else (
        report.kept == store.hash)  # fmt: skip
    if not own:
        raise BadInput(f"{path} is not the report of {options.out}, but of {report.out or 'another store'}")
    return report


def report_path(out: Path) -> Path:
    """Return where filter.json goes: beside the store."""
    return out.with_name(REPORT)


def _check(options: FilterOptions, synthetic: Store) -> None:
    if is_real(synthetic).any():
        raise UsageError(f"{options.synthetic} holds real images; only synthetic ones are filtered")
    if options.by == "manual" and options.decisions is None:
        raise UsageError("--by manual needs --decisions file.csv, exported from the filter.html of --by lesion or none")
    if options.detector is not None and options.by != "lesion":
        raise UsageError(f"--detector gives evidence for --by lesion, not for --by {options.by}")
    if options.out.name in (REPORT, PAGE):
        raise UsageError(f"--out {options.out}: the report and the page use that name; choose another")
    if not 0 <= options.real_share <= 0.5:
        raise UsageError(f"--real-share {options.real_share}: expected a share from 0 to 0.5")


def read_decisions(path: Path, synthetic: Store) -> dict[str, bool]:
    """Read a person's decisions: a CSV, of commas or semicolons, with the columns image and keep (yes or no)."""
    table = read_table(path, ("image", "keep"))
    image, keep = table.place_of("image"), table.place_of("keep")
    if image is None or keep is None:
        raise BadInput(f"{path} needs the columns image and keep")
    known, found = set(synthetic.ids), dict[str, bool]()
    spelt = {name.strip(): name for name in synthetic.ids}  # blanks around a cell are not always kept
    for line, row in table.rows:
        name, word = (row[at] if at < len(row) else "" for at in (image, keep))
        word = word.strip().lower()
        name = name if name in known else spelt.get(name.strip(), name.strip())
        if name not in known:
            raise BadInput(f"{path}, line {line}: {synthetic.path} holds no image {name!r}")
        if word not in YES | NO:
            raise BadInput(f"{path}, line {line}: keep is {word!r}; expected yes or no")
        if found.setdefault(name, word in YES) != (word in YES):
            raise BadInput(f"{path}, line {line}: image {name!r} is kept in one line and dropped in another")
    return found


def _info(options: FilterOptions, synthetic: Store, real: Store | None) -> StoreInfo:
    """Describe what is kept, with the hashes of the real store, in its fold, and of the detector that judge it."""
    inputs = {name_of(options.synthetic): synthetic.hash}
    if options.decisions is not None:
        inputs[name_of(options.decisions)] = sha256_file(options.decisions)
    settings: dict[str, object] = {
        "by": options.by, "real_share": options.real_share,
        "detector": None if options.detector is None else str(options.detector),
    }  # fmt: skip
    if real is not None:
        detector = {} if options.detector is None else {"detector": weights_named(options.detector, "detector")}
        settings[LEARNT_FROM] = {"store": real.hash, **detector}
    return StoreInfo(
        tool_version=__version__, command="filter", settings=settings, seed=options.seed,
        label_names=synthetic.info.label_names, inputs=inputs, generators=synthetic.info.generators,
        class_names=synthetic.class_names, mask_names=synthetic.info.mask_names,
    )  # fmt: skip


@dataclass(frozen=True)
class _Judge:
    """Decides image by image."""

    evidence: Evidence | None
    calibration: Calibration | None
    decisions: Mapping[str, bool]
    by: By
    realistic: Mapping[str, tuple[float, bool]] = field(default_factory=dict)  # id -> score, of the better half
    said: str = ""  # of the judge of realism

    @classmethod
    def of(
        cls, options: FilterOptions, synthetic: Store, decisions: Mapping[str, bool], real: Store | None
    ) -> "_Judge":
        if real is None:
            return cls(None, None, decisions, options.by)
        if options.by == "realism":
            scores, kept, area = realism(real, synthetic, options.seed)
            judged = zip(synthetic.ids, scores.tolist(), kept.tolist(), strict=True)
            realistic = {name: (score, kept) for name, score, kept in judged}
            said = f"Kept: the half that a judge of real against synthetic images (AUC {area:.2f}) finds more real."
            return cls(None, None, decisions, options.by, realistic=realistic, said=said)
        evidence: Evidence
        if options.detector is None:
            evidence, calibration = fit_regions(real, options.real_share, options.seed)
        else:
            detector, metadata = load_detector(options.detector, resolve_device(options.device))
            check_detector(options.detector.name, metadata, real, real.indices("val"), "validation")
            check_detector(options.detector.name, metadata, synthetic, real.indices("val")[:0], "train")
            found = DetectorEvidence(detector, metadata.name, real.spec)
            evidence, calibration = found, calibrate_detector(found, real, options.real_share)
        return cls(evidence, calibration, decisions, options.by)

    @property
    def calibration_text(self) -> str:
        if self.said:
            return self.said
        return f"No evidence was used (--by {self.by})." if self.calibration is None else self.calibration.sentence()

    def verdicts(self, synthetic: Store, indices: Sequence[int]) -> list[Verdict]:
        """Judge images one by one: as a person decided; else one whose boxes all clearly lack a lesion is dropped."""
        scores: dict[int, np.ndarray] = {}
        boxed = [i for i in indices if len(synthetic.boxes[i])]
        if self.evidence is not None and boxed:
            scores = dict(zip(boxed, scores_of(self.evidence, synthetic, boxed), strict=True))
        return [self._verdict(synthetic, i, [float(value) for value in scores.get(i, ())]) for i in indices]

    def _verdict(self, synthetic: Store, index: int, scores: list[float]) -> Verdict:
        name, written = synthetic.ids[index], [round(score, DIGITS) for score in scores]
        if name in self.decisions:
            word = "kept" if self.decisions[name] else "dropped"
            return Verdict(id=name, keep=self.decisions[name], reason=f"{word} {BY_A_PERSON}", evidence=written)
        if name in self.realistic:
            score, keep = self.realistic[name]
            half = "more" if keep else "less"
            return Verdict(id=name, keep=keep, reason=f"of the {half} realistic half ({score:.2f} of the trees)")
        keep, reason = self._machine(len(synthetic.boxes[index]), scores)
        return Verdict(id=name, keep=keep, reason=reason, evidence=written)

    def _machine(self, boxes: int, scores: list[float]) -> tuple[bool, str]:
        if self.by == "manual":
            return True, "not decided on"
        if self.by == "none":
            return True, "not judged"
        if not boxes:
            return True, "it has no box: a normal image"
        assert self.calibration is not None
        if (doubt := self.calibration.doubt) is not None:
            return True, doubt
        line, best = self.calibration.threshold, max(scores)
        if best < line:  # of all its boxes
            what = "its box shows" if boxes == 1 else f"all of its {boxes} boxes show"
            return False, f"{what} less of a lesion ({best:.2f}) than nearly all real ones ({line:.2f} or more)"
        return True, f"lesion evidence {best:.2f}, kept from {line:.2f} on"


def _training_store(options: FilterOptions, synthetic: Store) -> Store:
    """Find the store that the generator was fitted on or drew for: --real, or beside the synthetic store."""
    fitted = {origin.training_store for origin in synthetic.info.generators}
    if options.real is not None:
        store = open_store(options.real)
        store = store if options.fold is None else options.fold.of(store)
        if store.hash not in fitted and not _drawn_for(store, synthetic):
            _refuse_other_labels(store, synthetic)
            raise UsageError(
                f"{options.real} is not the store that the generator of {options.synthetic} was fitted on or drew for"
            )
        return store
    beside = list(_stores_beside(options.synthetic))
    own = [store for store in beside if store.hash in fitted]
    asked = [store for store in beside if _drawn_for(store, synthetic)]
    if own or len(asked) == 1:
        return (own or asked)[0]
    for store in beside:
        _refuse_other_labels(store, synthetic)
    raise UsageError(
        f"the training store of the generator of {options.synthetic} is not beside it; name it with --real real.h5"
    )


def _stores_beside(path: Path) -> Iterator[Store]:
    for other in sorted(path.resolve().parent.glob("*.h5")):
        with suppress(BadInput):
            yield open_store(other)


def _drawn_for(store: Store, synthetic: Store) -> bool:
    """Tell whether images were drawn for the boxes of a store by a generator that was fitted elsewhere.

    The store's training patients then count as seen, and none of those that it holds out do.
    """
    if not is_real(store).all() or store.spec != synthetic.spec:
        return False
    seen = {patient for origin in synthetic.info.generators for patient in origin.training_patients}
    boxed = {store.patients[i] for i in store.indices("train") if len(store.boxes[i])}
    held_out = {store.patients[i] for i in np.flatnonzero(store.splits != "train")}
    return bool(boxed) and patients_seen(boxed, seen) == boxed and not patients_seen(held_out, seen)


def _refuse_other_labels(store: Store, synthetic: Store) -> None:
    """Raise BadInput for a store that images were drawn like by a generator which calls lesions otherwise."""
    names = [one.spec.label_names for one in (synthetic, store)]
    if store.hash in synthetic.info.inputs.values() and names[0] != names[1]:
        raise BadInput(f"{synthetic.path} has the labels {', '.join(names[0])}, {store.path} has {', '.join(names[1])}")


def _make(options: FilterOptions, synthetic: Store, info: StoreInfo, judge: _Judge) -> Store:
    plain = info.model_dump(mode="json")
    plan = {"info": plain, "learnt_from": plain["settings"].pop(LEARNT_FROM, {})}  # as in earlier versions
    writer = StoreWriter(options.out, info, plan, options.overwrite, options.resume)
    for block in range(-(-len(synthetic) // BLOCK)):
        numbers = range(block * BLOCK, min(len(synthetic), (block + 1) * BLOCK))
        if not writer.has(block):
            verdicts = judge.verdicts(synthetic, numbers)
            kept = [_record(synthetic, i, v) for i, v in zip(numbers, verdicts, strict=True) if v.keep]
            writer.add(block, kept, {"images": [v.model_dump() for v in verdicts]})
        options.report(len(numbers))
    verdicts = [Verdict(**each) for note in writer.notes().values() for each in note["images"]]
    report = FilterReport(
        tool_version=__version__, synthetic={name_of(options.synthetic): synthetic.hash}, by=options.by,
        threshold=judge.calibration.threshold if judge.calibration and judge.calibration.decides else None,
        calibration=judge.calibration_text, images=verdicts, out=name_of(options.out),
    )  # fmt: skip
    if not any(verdict.keep for verdict in verdicts):
        writer.discard()
        raise UsageError(_none_kept(options, synthetic, report))

    def beside(store: Store, folder: Path) -> None:
        write_json(folder / REPORT, report.model_copy(update={"kept": store.hash}))
        _publish_page(options, synthetic, report, folder)

    return writer.publish(beside)


def _none_kept(options: FilterOptions, synthetic: Store, report: FilterReport) -> str:
    """Say that no image is left, and why; show them on the page, unless that is of a store that is there already."""
    if all(verdict.reason.endswith(BY_A_PERSON) for verdict in report.images):
        why = f"every image of {options.synthetic} is dropped by {options.decisions}"
    else:
        why = f"no image of {options.synthetic} shows a lesion where it should"
    if options.out.exists():
        return f"{why}; {options.out} and its report are unchanged"
    write_json(report_path(options.out), report)
    _publish_page(options, synthetic, report, options.out.parent)
    return f"{why}; look at {options.out.with_name(PAGE)}, train the generator for longer, or use --by none"


def _record(synthetic: Store, index: int, verdict: Verdict) -> Record:
    details = synthetic.details[index] | {"filter": verdict.reason, "evidence": verdict.evidence}
    return replace(synthetic.record(index), details=details)


def _publish_page(options: FilterOptions, synthetic: Store, report: FilterReport, folder: Path) -> None:
    from medaug_cli.figures.filter_page import Card, filter_html

    def cards() -> Iterator[Card]:
        for i, verdict in enumerate(report.images):
            yield Card(
                verdict.id,
                np.asarray(synthetic.images[i]),
                boxes=synthetic.boxes[i],
                keep=verdict.keep,
                reason=verdict.reason,
                evidence=max(verdict.evidence, default=None),
                decided=verdict.reason.endswith(BY_A_PERSON),
            )

    notes = [report.calibration, *_notes(options)]
    page = filter_html(cards(), " ".join(notes), name_of(options.synthetic), _command(options))
    publish_text(folder / PAGE, page)


def _notes(options: FilterOptions) -> list[str]:
    """Say what images are dropped for, and what the evidence cannot tell."""
    if options.by == "realism":
        return ["Images are dropped for looking artificial, whether they show their lesions or not."]
    if options.by != "lesion":
        return []
    dropped = "An image is dropped for a missing lesion, never for artefacts."
    if options.detector is not None:
        return [dropped, "The evidence is the best score that the detector gives to a lesion at the box."]
    return [
        dropped,
        "The evidence is contrast and texture: any rough patch in the box has it, so what is kept need not be a "
        "lesion. Have a look.",
    ]


def _command(options: FilterOptions) -> str:
    """Return the command that filters in the same way, but for what a person decides on the page."""
    chosen: dict[str, object] = {"by": options.by, "detector": options.detector, "real": options.real}
    chosen |= {"fold": options.fold and options.fold.name, "real-share": options.real_share, "seed": options.seed}
    usual = {"by": "lesion", "real-share": FilterOptions.real_share, "seed": FilterOptions.seed}
    changed = {name: value for name, value in chosen.items() if value is not None and value != usual.get(name)}
    words = [word for name, value in changed.items() for word in (f"--{name}", str(value))]
    said = ["--decisions", "decisions.csv", "--out", name_of(options.out), "--overwrite"]
    return printable(shlex.join(["medaug", "filter", name_of(options.synthetic), *words, *said]))
