"""Run a study: every step is kept by its content, so that a study that was stopped goes on where it was."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medaug_cli import __version__
from medaug_cli.devices import resolve_device
from medaug_cli.errors import UsageError
from medaug_cli.evaluation.from_store import annotated, check_detector, predict, split_indices
from medaug_cli.files import publish_text, write_json
from medaug_cli.lesion_filter import FilterOptions, sift
from medaug_cli.metrics.annotations import FoundBoxes
from medaug_cli.metrics.operating import cohort_of, score_detections
from medaug_cli.runs import RunOptions, load_detector, train_detector, train_generator
from medaug_cli.store import Store, open_store
from medaug_cli.study.analysis import FractionResult, StudyReport, compare_arms
from medaug_cli.study.arms import Arm
from medaug_cli.study.subsets import chosen_patients, subset
from medaug_cli.synthesis import SynthesisOptions, synthesize

REPORT = "study.json"


@dataclass(frozen=True)
class StudyOptions:
    """What `medaug study` takes."""

    store: Path
    arms: Sequence[Arm]
    out: Path
    fractions: Sequence[float] = (1.0,)
    seeds: int = 3
    n: int | None = None  # synthetic images; default: as many as real ones times the ratio
    ratio: float = 1.0
    jitter: float = 0.1
    detector: str = "yolov3"
    detector_settings: Mapping[str, Any] = field(default_factory=dict)
    generator_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    steps: int | None = None
    kimg: float | None = None
    split: str = "test"
    ious: tuple[float, ...] = (0.5, 0.25)
    threshold: float = 0.001
    resamples: int = 2000
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    checkpoint_seconds: float = 60.0
    dry_run: bool = False
    announce: Callable[[str], None] = lambda sentence: None
    report: Callable[[float, str], None] = lambda fraction, what: None


@dataclass(frozen=True)
class Trial:
    """One detector to train: a share of the patients, a seed, an arm."""

    fraction: float
    seed: int
    arm: Arm

    @property
    def folder(self) -> str:
        return f"{part_name(self.fraction)}/seed{self.seed}"


def part_name(fraction: float) -> str:
    """Return the folder of a share of the training patients."""
    return f"patients{fraction * 100:g}"


def run_study(options: StudyOptions) -> StudyReport | None:
    """Train every arm at every share and seed, compare them on one split, publish study.json and its page.

    Nothing is done twice: the same command goes on with a study that was stopped, or adds arms, shares and seeds to
    one that is finished. Returns None after a dry run. Raises UsageError for a plan that compares nothing, BadInput
    where a generator or detector has seen a patient that it is judged on.
    """
    _check(options)
    store = open_store(options.store)
    trials = list(plan(options))
    options.announce(describe(options, store, trials))
    if options.dry_run:
        return None
    begun = time.monotonic()
    for done, trial in enumerate(trials, 1):
        options.report((done - 1) / len(trials), f"{trial.folder}, {trial.arm.name}")
        _train(options, store, trial)
        left = (time.monotonic() - begun) / done * (len(trials) - done)
        options.announce(f"{done} of {len(trials)} detectors are trained, about {left / 60:.0f} minutes are left")
    report = _compare(options, store)
    _publish(options, report)
    options.report(1.0, "compared")
    return report


def plan(options: StudyOptions) -> Iterator[Trial]:
    """Yield every detector to train: seed by seed, so that an early stop leaves whole seeds."""
    for seed in range(options.seeds):
        for fraction in sorted(options.fractions):
            for arm in options.arms:
                yield Trial(fraction, seed, arm)


def describe(options: StudyOptions, store: Store, trials: Sequence[Trial]) -> str:
    """Say what will be done."""
    generators = {(t.fraction, t.seed, t.arm.generator) for t in trials if t.arm.generator}
    shares = ", ".join(
        f"{fraction:.0%} ({len(chosen_patients(store, fraction, options.seed))} patients)"
        for fraction in sorted(options.fractions)
    )
    return (
        f"{len(trials)} detectors ({options.detector}) and {len(generators)} generators: arms "
        f"{', '.join(arm.name for arm in options.arms)}; training patients {shares}; {options.seeds} seeds; judged on "
        f"the {options.split} split of {options.store}"
    )


def _check(options: StudyOptions) -> None:
    if not options.fractions or not all(0 < fraction <= 1 for fraction in options.fractions):
        raise UsageError("--fraction is a share of the training patients, above 0 and at most 1")
    if options.seeds < 1:
        raise UsageError(f"--seeds {options.seeds}: at least one is wanted")
    if options.ratio <= 0:
        raise UsageError(f"--ratio {options.ratio:g}: a positive number of synthetic images a real one is wanted")
    if options.split not in ("val", "test"):
        raise UsageError(f"--split {options.split}: a study is judged on val or test")
    if options.out.exists() and not options.out.is_dir():
        raise UsageError(f"{options.out} is a file; choose another --out")


def _train(options: StudyOptions, whole: Store, trial: Trial) -> Path:
    """Train the detector of a trial, and first what it needs; keep what is there already."""
    part = options.out / part_name(trial.fraction)
    part.mkdir(parents=True, exist_ok=True)
    store = subset(whole, trial.fraction, options.seed, part / "real.h5")
    synthetic = _synthetic(options, store, trial) if trial.arm.generator else []
    run = RunOptions(
        options.out / trial.folder / "detectors" / trial.arm.name, options.detector_settings, trial.seed,
        options.device, options.precision, resume=True, checkpoint_seconds=options.checkpoint_seconds,
    )  # fmt: skip
    ratio = options.ratio if synthetic else None
    return train_detector(store.path, options.detector, run, synthetic, ratio, options.steps)


def _synthetic(options: StudyOptions, store: Store, trial: Trial) -> list[Path]:
    """Fit the generator of a trial on its patients and draw its images; return their store."""
    generator = str(trial.arm.generator)
    place = options.out / trial.folder / "synthetic" / generator
    run = RunOptions(
        place / "gan", options.generator_settings.get(generator, {}), trial.seed, options.device, options.precision,
        resume=True, checkpoint_seconds=options.checkpoint_seconds,
    )  # fmt: skip
    gan = train_generator(store.path, generator, run, options.kimg)
    n = options.n or max(1, round(options.ratio * len(store.indices("train"))))
    drawn = place / "synthetic.h5"
    synthesize(SynthesisOptions(
        n, gan, drawn, store.path.with_name("boxes.json"), options.jitter, trial.seed, options.device, resume=True
    ))  # fmt: skip
    if not trial.arm.filtered:
        return [drawn]
    sift(FilterOptions(drawn, place / "kept.h5", real=store.path, device=options.device, resume=True))
    return [place / "kept.h5"]


def _found(options: StudyOptions, store: Store, indices: Any, trial: Trial) -> FoundBoxes:
    device = resolve_device(options.device)
    detector, metadata = load_detector(options.out / trial.folder / "detectors" / trial.arm.name, device)
    check_detector(trial.arm.name, metadata, store, indices, options.split)
    return predict(trial.arm.name, detector, store, indices, lambda name, done, total: None)


def _compare(options: StudyOptions, store: Store) -> StudyReport:
    indices = split_indices(store, options.split)
    data = annotated(store, indices)
    if not len(data.truth.boxes):
        raise UsageError(f"{options.store} has no box in the {options.split} split, so there is nothing to find")
    cohort, ious = cohort_of(data), tuple(dict.fromkeys((*options.ious, 0.5)))
    results = []
    for fraction in sorted(options.fractions):
        arms = {
            arm.name: [
                score_detections(data, cohort, _found(options, store, indices, Trial(fraction, seed, arm)), ious)
                for seed in range(options.seeds)
            ]
            for arm in options.arms
        }
        part = open_store(options.out / part_name(fraction) / "real.h5")
        train = part.indices("train")
        results.append(FractionResult(
            fraction=fraction, patients=len({part.patients[i] for i in train}), images=len(train),
            arms=compare_arms(arms, cohort, options.ious, options.threshold, options.resamples, options.seed),
        ))  # fmt: skip
    return StudyReport(
        tool_version=__version__, settings=_settings(options), data={options.store.name: store.hash},
        split=options.split, slices=len(data), boxes=cohort.box_total, patients=len(cohort.patients), fractions=results,
    )  # fmt: skip


def _settings(options: StudyOptions) -> dict[str, Any]:
    return {
        "arms": [arm.name for arm in options.arms], "fractions": [float(f) for f in sorted(options.fractions)],
        "seeds": options.seeds, "n": options.n, "ratio": options.ratio, "jitter": options.jitter,
        "detector": options.detector, "detector_settings": {k: str(v) for k, v in options.detector_settings.items()},
        "steps": options.steps, "kimg": options.kimg, "threshold": options.threshold, "resamples": options.resamples,
        "seed": options.seed,
    }  # fmt: skip


def _publish(options: StudyOptions, report: StudyReport) -> None:
    from medaug_cli.study.page import study_html, study_rows

    publish_text(options.out / "study.csv", study_rows(report))
    publish_text(options.out / "study.html", study_html(report))
    write_json(options.out / REPORT, report)  # last: it says that all is done
