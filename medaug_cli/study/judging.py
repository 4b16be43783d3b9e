"""Judge the detectors of a study on held-out patients, and publish what came out."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from medaug_cli import __version__
from medaug_cli.devices import resolve_device
from medaug_cli.errors import UsageError
from medaug_cli.evaluation.from_store import annotated, check_detector, predict, split_indices
from medaug_cli.files import canonical, new_file, parse_json, publish_text, write_json
from medaug_cli.locks import alone
from medaug_cli.metrics.annotations import Annotated, FoundBoxes
from medaug_cli.metrics.breakdown import SizeGroup, by_size, lesion_sizes
from medaug_cli.metrics.operating import MAP_IOU, Cohort, Matched, cohort_of, match_detections
from medaug_cli.runs import load_detector
from medaug_cli.store import Store, open_store
from medaug_cli.study.analysis import ArmResult, FractionResult, StudyReport, claim, compare_arms, point_of
from medaug_cli.study.measurable import boxes_of, check_measurable
from medaug_cli.study.running import StudyOptions, Trial, part_name, synthetic_store, train_all
from medaug_cli.study.showing import Shown, detections, nearest_pairs, row
from medaug_cli.study.similarity import pictures

REPORT, OPENED = "study.json", "opened.json"
THIRDS = 3


def run_study(options: StudyOptions) -> StudyReport | None:
    """Train every arm at every share and seed, compare them on one split, publish study.json and its page.

    Nothing is done twice: the same command goes on with a study that was stopped, or adds arms, shares and seeds to
    one that is finished. Returns None after a dry run, and where detectors of other parts are not there yet. Raises
    UsageError for a plan that compares nothing, BadInput where a generator or detector has seen a patient that it is
    judged on, or a slice is on both sides of the split.
    """
    if not train_all(options):
        return None
    store = open_store(options.store)
    with alone(options.out / REPORT, wait=True):
        opened = _record_opening(options)
        options.announce(f"comparing on the {options.split} split, opened for {opened} plan{'s' * (opened > 1)} here")
        report = _compare(options, store, opened)
        _publish(options, report, store)
    options.report(1.0, "compared")
    return report


def _record_opening(options: StudyOptions) -> int:
    """Write down for which plan the split is opened, before it is; return how many plans that makes."""
    path = options.out / OPENED
    before = parse_json(path) if path.exists() else []
    now = {"split": options.split, **json.loads(canonical(settings(options)))}
    if now not in before:
        before.append(now)
        publish_text(path, json.dumps(before, indent=1) + "\n")
    return sum(plan["split"] == options.split for plan in before)


class _Split:
    """The images of one split, and what each detector finds on them."""

    def __init__(self, options: StudyOptions, store: Store, split: str):
        self.options, self.store, self.split = options, store, split
        self.indices = split_indices(store, split)
        self.data: Annotated = annotated(store, self.indices)
        if not len(self.data.truth.boxes):
            raise UsageError(f"{options.store} has no box in the {split} split, so there is nothing to find")
        self.cohort: Cohort = cohort_of(self.data)
        self._matched: dict[Trial, Matched] = {}

    def found(self, trial: Trial) -> FoundBoxes:
        """Return the detections of a trial's detector; they are kept beside it."""
        folder = self.options.out / trial.detector
        detector, metadata = load_detector(folder, resolve_device(self.options.device))
        check_detector(trial.arm.name, metadata, self.store, self.indices, self.split)
        path = folder / f"found-{self.split}-{metadata.weights[:12]}-{self.store.hash[:12]}.npz"
        if not path.exists():
            boxes = predict(trial.arm.name, detector, self.store, self.indices, lambda name, done, total: None)
            with new_file(path) as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, **vars(boxes))
        with np.load(path, allow_pickle=False) as kept:
            return FoundBoxes(**{name: kept[name] for name in kept.files})

    def matched(self, trial: Trial) -> Matched:
        """Return a trial's detections, matched once at every IoU of the study."""
        if trial not in self._matched:
            ious = tuple(dict.fromkeys((*self.options.ious, MAP_IOU)))
            self._matched[trial] = match_detections(self.data, self.cohort, self.found(trial), ious)
        return self._matched[trial]


def _compare(options: StudyOptions, store: Store, opened: int) -> StudyReport:
    judged = _Split(options, store, options.split)
    chosen_on = None
    if options.split != "val" and boxes_of(store, store.indices("val")):
        chosen_on = _Split(options, store, "val")
    fractions = [_fraction(options, judged, chosen_on, fraction) for fraction in sorted(options.fractions)]
    return StudyReport(
        tool_version=__version__, settings=settings(options), data={options.store.name: store.hash},
        split=options.split, opened=opened, slices=len(judged.data), boxes=judged.cohort.box_total,
        patients=len(judged.cohort.patients), remarks=check_measurable(options, store), fractions=fractions,
    )  # fmt: skip


def _fraction(options: StudyOptions, judged: _Split, chosen_on: _Split | None, fraction: float) -> FractionResult:
    trials = {arm.name: [Trial(fraction, seed, arm) for seed in range(options.seeds)] for arm in options.arms}
    scored = {name: [judged.matched(trial).scored for trial in each] for name, each in trials.items()}
    learnt = [arm.name for arm in options.arms if arm.learnt]
    arms = compare_arms(scored, judged.cohort, options.ious, options.threshold, options.resamples, options.seed, learnt)
    part = open_store(options.out / part_name(fraction) / "real.h5")
    for result, arm in zip(arms, options.arms, strict=True):
        options.report(0.99, f"{part_name(fraction)}, {arm.name}")
        result.sizes = _sizes(options, judged, trials[arm.name])
        if chosen_on is not None:
            result.validation = _on_validation(options, chosen_on, trials[arm.name])
        if arm.generator:
            result.similarity = pictures(part, synthetic_store(options, trials[arm.name][0], part), options.seed)
    _choose(options, arms)
    train = part.indices("train")
    return FractionResult(
        fraction=fraction, patients=len({part.patients[i] for i in train}), images=len(train), arms=arms,
        claim=claim(arms, f"sensitivity_at_1_iou{options.ious[0]:g}"),
    )  # fmt: skip


def _on_validation(options: StudyOptions, split: _Split, trials: Sequence[Trial]) -> float:
    """Return what arms of one generator are chosen by: their mean CPM at the first IoU."""
    iou = options.ious[0]
    values = [point_of(split.matched(trial).scored, split.cohort, iou, options.threshold)["cpm"] for trial in trials]
    return float(np.mean(values))


def _choose(options: StudyOptions, arms: Sequence[ArmResult]) -> None:
    """Mark the best arm of each generator on validation; without validation none is put before another."""
    families: dict[str, list[ArmResult]] = {}
    for result, arm in zip(arms, options.arms, strict=True):
        families.setdefault(arm.family, []).append(result)
    for family in families.values():
        known = [each for each in family if each.validation is not None]
        best = max(known, key=lambda each: each.validation or 0.0) if known else None
        for each in family:
            each.chosen = best is None or each is best


def _sizes(options: StudyOptions, split: _Split, trials: Sequence[Trial]) -> list[SizeGroup]:
    """Return the sensitivity of each third of the lesions by size, at one false positive a slice, mean over seeds."""
    iou, (sizes, _) = options.ious[0], lesion_sizes(split.data)
    thirds = [part[0] for part in np.array_split(np.sort(sizes), THIRDS) if len(part)][1:]
    edges = tuple(float(edge) for edge in dict.fromkeys(thirds) if edge > sizes.min())
    matched = [split.matched(trial) for trial in trials]
    return by_size(split.data, [each.at(iou, each.score_at(iou)) for each in matched], edges)


def settings(options: StudyOptions) -> dict[str, Any]:
    """Return what a study was asked for, as it stands in its report."""
    return {
        "arms": [arm.name for arm in options.arms], "fractions": [float(f) for f in sorted(options.fractions)],
        "seeds": options.seeds, "n": options.n, "ratio": options.ratio, "jitter": options.jitter,
        "detector": options.detector, "detector_settings": {k: str(v) for k, v in options.detector_settings.items()},
        "generator_settings": {
            name: {k: str(v) for k, v in own.items()} for name, own in sorted(options.generator_settings.items())
        },
        "steps": options.steps, "kimg": options.kimg, "ious": list(options.ious), "threshold": options.threshold,
        "resamples": options.resamples, "seed": options.seed,
    }  # fmt: skip


def _publish(options: StudyOptions, report: StudyReport, store: Store) -> None:
    from medaug_cli.study.page import card, difference_rows, study_html, study_rows

    judged = _Split(options, store, options.split)
    shown = {f"{part.fraction:g}": _shown(options, judged, part) for part in report.fractions}
    for part in report.fractions:
        for arm, facts in _cards(options, part):
            publish_text(options.out / part_name(part.fraction) / f"card {arm.arm}.md", card(report, part, arm, facts))
    publish_text(options.out / "study.csv", study_rows(report))
    publish_text(options.out / "differences.csv", difference_rows(report))
    publish_text(options.out / "study.html", study_html(report, shown))
    write_json(options.out / REPORT, report.model_dump(mode="json"))  # last: it says that all is done


def _first(options: StudyOptions, part: FractionResult, arm: ArmResult) -> Trial:
    return Trial(part.fraction, 0, next(each for each in options.arms if each.name == arm.arm))


def _shown(options: StudyOptions, judged: _Split, part: FractionResult) -> list[Shown]:
    """Return the pictures of one share of the patients: images, nearest pairs, detections."""
    real = open_store(options.out / part_name(part.fraction) / "real.h5")
    pictures = [row("Real training slices, chosen by seed", real, real.indices("train"), options.seed)]
    for arm in part.arms:
        trial = _first(options, part, arm)
        if trial.arm.generator is None or not arm.chosen:
            continue
        drawn = open_store(synthetic_store(options, trial, real))
        pictures.append(row(f"{arm.arm}, chosen by seed", drawn, np.arange(len(drawn)), options.seed))
        if arm.learnt and arm.similarity:
            title = f"{arm.arm}: the images nearest to a training slice (by pixels), above those slices"
            pictures.append(nearest_pairs(title, drawn, real, arm.similarity[0].nearest))
    return pictures + _detections(options, judged, part)


def _detections(options: StudyOptions, judged: _Split, part: FractionResult) -> list[Shown]:
    """Return what real-only and the best other arm find, first seed, each at one false positive a slice."""
    iou, number = options.ious[0], f"sensitivity_at_1_iou{options.ious[0]:g}"
    others = [arm for arm in part.arms[1:] if part.claim is None or arm.arm == part.claim.arm]
    best = max(others, key=lambda arm: arm.mean[number])
    trials = [_first(options, part, arm) for arm in (part.arms[0], best)]
    matched = {trial.arm.name: judged.matched(trial) for trial in trials}
    return detections(judged.store, judged.indices, matched, iou)


def _cards(options: StudyOptions, part: FractionResult) -> Iterator[tuple[ArmResult, dict[str, Any]]]:
    """Yield each chosen generated arm with what its card says of its images."""
    real = open_store(options.out / part_name(part.fraction) / "real.h5")
    for arm in (arm for arm in part.arms if arm.learnt and arm.chosen):
        drawn = open_store(synthetic_store(options, _first(options, part, arm), real))
        origin = drawn.info.generators[0]
        yield arm, {
            "images": len(drawn), "size": "x".join(map(str, drawn.spec.spatial)), "generator": origin.name,
            "version": origin.version, "hash": origin.hash, "seed": drawn.info.seed,
        }  # fmt: skip
