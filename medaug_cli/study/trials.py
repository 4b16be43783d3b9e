"""What a study takes, the networks that it trains, and where each stands in its folder."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli import registry
from medaug_cli.plugin import knowledge
from medaug_cli.store import Store
from medaug_cli.study.arms import BASELINE, Arm, folder_name
from medaug_cli.study.power import Spread
from medaug_cli.study.rounds import Round
from medaug_cli.study.subsets import chosen_patients, training_images
from medaug_cli.study.unannotated import REST
from medaug_cli.tasks.detection import Detection
from medaug_cli.tasks.task import Task

SEEDS = 1000  # trainings of an arm in one study at most; the next --seed counts on from there


@dataclass(frozen=True)
class StudyOptions:
    """What `medaug study` takes."""

    store: Path
    arms: Sequence[Arm]
    out: Path
    fractions: Sequence[float] = (1.0,)
    seeds: int = 3
    folds: int | Path | None = None  # folds by patient, or the file of them; None: the store's own split
    unannotated: bool = False  # arms may see the images of the training patients beyond a share, without annotation
    train_annotations: Path | None = None  # a store of the same images whose annotations are learnt from; None: its own
    repeat: int = 1  # deals of the folds
    pilot: Path | None = None  # a finished study from whose spread the plan's power is estimated
    spread: Spread | None = None  # that spread, if given directly
    n: int | None = None  # synthetic images; default: as many as real ones times the ratio
    ratio: float = 1.0
    jitter: float = 0.1
    task: Task = field(default_factory=Detection)
    network: str = "yolov3"
    network_settings: Mapping[str, Any] = field(default_factory=dict)
    generator_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    steps: int | None = None
    kimg: float | None = None
    split: str = "test"
    resamples: int = 2000
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    checkpoint_seconds: float = 60.0
    num_parts: int = 1
    part_id: int = 0
    overwrite: bool = False  # make anew what was made with other settings
    dry_run: bool = False
    announce: Callable[[str], None] = lambda sentence: None
    report: Callable[..., None] = lambda share, *what: None  # how much is done, and what is running, in words


@dataclass(frozen=True)
class Trial:
    """One network to train: a share of the patients of a round, a seed, an arm."""

    round: Round
    fraction: float
    seed: int
    arm: Arm

    @property
    def part(self) -> str:
        """Return the folder of the patients that it is trained on, within the study's."""
        return f"{self.round.folder}{part_name(self.fraction)}"

    @property
    def folder(self) -> str:
        return f"{self.part}/seed{self.seed}"

    def at(self, other: Round) -> "Trial":
        """Return the same trial of another round."""
        return replace(self, round=other)

    @property
    def together(self) -> tuple[str, str]:
        """Return what trials of one part share: the generator that they wait for."""
        return self.folder, self.arm.source or self.arm.name


def seed_of(options: StudyOptions, trial: Trial) -> int:
    """Return the seed of a trial's network, generator and images: another one for each training and each --seed."""
    return (options.seed * SEEDS + trial.seed) % 2**63  # the largest seed that a command takes is 2**63 - 1


def part_store(options: StudyOptions, trial: Trial) -> Path:
    """Return the store of the patients that a trial is trained on."""
    return options.out / trial.part / "real.h5"


def trained_folder(options: StudyOptions, trial: Trial) -> Path:
    """Return the folder of the trained network of a trial."""
    return options.out / trial.folder / f"{options.task.kind}s" / trial.arm.folder


def first_folder(trained: Path) -> Path:
    """Return the folder of the network that one begins with, where it is trained on synthetic images first."""
    return trained.with_name(f"{trained.name}, first")


def baseline_of(options: StudyOptions, trial: Trial) -> Trial:
    """Return the trial of real images alone beside another one."""
    return replace(trial, arm=next(arm for arm in options.arms if arm.name == BASELINE))


def labelled_store(options: StudyOptions, trial: Trial) -> Path:
    """Return the images that real-only annotates for a trial, with those of its patients."""
    return options.out / trial.folder / f"{trial.arm.folder}.h5"


def part_name(fraction: float) -> str:
    """Return the folder of a share of the training patients."""
    return f"patients{fraction * 100:g}"


def plan(options: StudyOptions, rounds: Sequence[Round]) -> Iterator[Trial]:
    """Yield every network to train: seed by seed, so that an early stop leaves whole seeds."""
    for seed in range(options.seeds):
        for each in rounds:
            for fraction in sorted(options.fractions):
                for arm in options.arms:
                    yield Trial(each, fraction, seed, arm)


def part(options: StudyOptions, trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials of this part: those that share a generator stay together, long and short work is spread.

    Groups are dealt arm by arm, so that two parts share the folds of each generator and not one generator each.
    """
    order = {arm.name: (not arm.learnt, place) for place, arm in enumerate(options.arms)}
    groups = list(dict.fromkeys(trial.together for trial in sorted(trials, key=lambda trial: order[trial.arm.name])))
    mine = set(groups[options.part_id :: options.num_parts])
    return [trial for trial in trials if trial.together in mine]


def missing(options: StudyOptions, trials: Sequence[Trial], gone: Collection[Path] = ()) -> list[Trial]:
    """Return the trials whose network is not there yet, or would have to be made anew where what is `gone` were."""
    kind = options.task.kind
    return [
        trial
        for trial in trials
        if not (trained_folder(options, trial) / f"{kind}.json").exists() or _depends(options, trial, gone)
    ]


def _depends(options: StudyOptions, trial: Trial, gone: Collection[Path]) -> bool:
    """Tell whether a trial's network lies in what is gone, or what its generator draws, or who annotates for it."""
    network = trained_folder(options, trial)
    source = synthetic_folder(options, trial) if trial.arm.generator else network
    if trial.arm.pseudo:
        source = trained_folder(options, baseline_of(options, trial))
    return any(network.is_relative_to(path) or path.is_relative_to(source) for path in gone)


def steps_of(options: StudyOptions, arm: Arm) -> int:
    """Return the optimiser steps of an arm's network."""
    whole = options.steps or int(registry.capabilities(options.task.kind, options.network).default_budget or 2000)
    return round(whole * arm.steps)


def network_settings(options: StudyOptions, arm: Arm) -> dict[str, Any]:
    """Return the settings of an arm's network: the study's, and what the arm changes."""
    return {**options.network_settings, **dict(arm.changed)}


def fitted_store(options: StudyOptions, trial: Trial) -> Path:
    """Return the store that the generator of a trial is fitted on."""
    path = part_store(options, trial)
    return path.with_name(REST) if trial.arm.unannotated else path


def synthetic_folder(options: StudyOptions, trial: Trial) -> Path:
    """Return where the generator of a trial and its images stand."""
    return options.out / trial.folder / "synthetic" / folder_name(str(trial.arm.source))


def synthetic_store(options: StudyOptions, trial: Trial) -> Path:
    """Return the synthetic images that the network of a trial is trained on."""
    n = drawn_images(options, trial)
    place = {"": f"drawn-{n}.h5", "lesion": f"filtered-{n}/kept.h5", "realism": f"realistic-{n}/kept.h5"}
    return synthetic_folder(options, trial) / place[trial.arm.filtered]


def drawn_images(options: StudyOptions, trial: Trial) -> int:
    """Return how many synthetic images are drawn for a trial, before a filter."""
    return options.n or max(1, round((trial.arm.ratio or options.ratio) * len(_learnt_images(options, trial))))


def _learnt_images(options: StudyOptions, trial: Trial) -> np.ndarray:
    patients = chosen_patients(trial.round.taught, options.task, trial.fraction, options.seed)
    return training_images(trial.round.taught, options.task, patients)


def drawn_for(options: StudyOptions, trial: Trial) -> dict[str, Any]:
    """Return what the synthetic images of a trial are drawn for, as options of `synthesize`.

    For a detector they are images with boxes: of a boxes.json or, where the generator is told more than that file
    says, like the images of the store that have boxes.
    """
    boxed, path, store = options.task.needs == "boxes", part_store(options, trial), trial.round.taught
    if boxed and trial.arm.each_class:  # where all have boxes, an earlier version drew the same ones without this word
        boxed = not all(len(store.boxes[i]) for i in _learnt_images(options, trial))
    elif boxed and _told_boxes_alone(options, trial.arm, store):
        return {"boxes": path.with_name("boxes.json")}
    return {"like": path, "boxed": boxed}


def _told_boxes_alone(options: StudyOptions, arm: Arm, store: Store) -> bool:
    """Tell whether a boxes.json, which has no masks and no class of an image, says all that a generator is told."""
    return knowledge(arm.built(options.generator_settings), store.spec) <= {"boxes", "labels"}
