"""Score a reader study: answers against the key."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medaug_cli import __version__
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import publish_text, read_json, write_json
from medaug_cli.results import Kind, check_folder, folder_claimed, new_folder
from medaug_cli.turing import statistics
from medaug_cli.turing.documents import Answer, AnswerFile, Key, KeyReader, seal_of
from medaug_cli.turing.report import Correlation, Numbers, ReaderRow, Share, TuringReport, page, rows_csv
from medaug_cli.words import counted

SCORE = Kind("turing-score", "a score of a reader study")


@dataclass(frozen=True)
class ScoreOptions:
    """What is asked of a score."""

    key: Path
    answers: Sequence[Path]
    out: Path
    margin: float = 0.1  # of accuracy around guessing, within which readers are called unable to tell
    partial: bool = False
    resamples: int = 2000
    seed: int = 0
    overwrite: bool = False
    say: Callable[[str], None] = lambda sentence: None
    report: Callable[[int, int, str], None] = lambda done, of, words: None  # hears of each step


@dataclass(frozen=True)
class Judged:
    """An answer with what was asked."""

    reader: str
    images: tuple[int, ...]
    answer: Answer
    right: bool
    repeat: bool

    @property
    def unit(self) -> tuple[int, ...]:
        """Return what was judged, whichever of a pair stood on the left."""
        return tuple(sorted(self.images))

    @property
    def suspicion(self) -> float:
        """Return how sure the reader is that the image is synthetic: -5 to 5."""
        return self.answer.confidence * (1 if self.answer.says == "synthetic" else -1)


def score_study(options: ScoreOptions) -> TuringReport:
    """Publish a folder with turing.json, turing.csv and turing.html; return the report.

    Raises BadInput for answers that are not this study's, are not complete, or stand twice.
    """
    if not 0 < options.margin < 0.5:
        raise UsageError(f"--margin {options.margin:g}: expected a share above 0 and below 0.5")
    reads = [options.key, *options.answers]
    check_folder(options.out, SCORE, options.overwrite, reads)
    key = read_json(options.key, Key)
    options.report(0, 3, counted(len(options.answers), "file") + " of answers")
    judged = read_answers(options, key)
    options.report(1, 3, f"{options.resamples:,} resamples")
    report = measured(key, judged, options)
    options.report(2, 3, "page")
    with (
        folder_claimed(options.out, SCORE, options.overwrite, reads) as place,
        new_folder(place, SCORE) as work,
    ):
        write_json(work / "turing.json", report.model_dump(mode="json"))  # nulls too: the schema names them
        publish_text(work / "turing.csv", rows_csv(key, judged))
        publish_text(
            work / "turing.html", page(key, options.key.resolve().parent, report, agreed(key, judged), options.say)
        )
    return report


def read_answers(options: ScoreOptions, key: Key) -> list[Judged]:
    """Return every answer to the test, in the key's order; practice is left out."""
    seal, known = seal_of(key), {one.name: one for one in key.readers}
    seen: dict[str, Path] = {}
    judged: list[Judged] = []
    for path in options.answers:
        file = read_json(path, AnswerFile)
        if file.study != key.study:
            raise BadInput(f"{path} answers another study than {options.key} is the key to")
        if file.seal != seal:
            raise BadInput(f"{options.key} was changed after the pages were made: its seal is not that of {path}")
        if file.reader not in known:
            raise BadInput(f"{path} is of the reader {file.reader!r}; the key knows {', '.join(known)}")
        if file.reader in seen:
            raise BadInput(f"{seen[file.reader]} and {path} are both of {file.reader}; give one of them")
        seen[file.reader] = path
        judged += _of_reader(path, known[file.reader], file.answers, key, options)
    return judged


def _of_reader(
    path: Path, reader: KeyReader, answers: Sequence[Answer], key: Key, options: ScoreOptions
) -> list[Judged]:
    given = {answer.trial: answer for answer in answers}
    asked = {token: trial for token, trial in reader.trials.items() if not trial.practice}
    strange = next((token for token in given if token not in asked), None)
    if strange is not None:
        raise BadInput(f"{path} answers {strange!r}, which {reader.name} was not asked")
    if len(given) < len(answers):
        twice = next(token for token, count in Counter(answer.trial for answer in answers).items() if count > 1)
        raise BadInput(f"{path} answers the question {twice!r} twice")
    missing = len(asked) - len(given)
    if missing and not options.partial:
        raise BadInput(
            f"{path} answers {len(given)} of {len(asked)} questions; let {reader.name} finish, or score what there is "
            "by --partial"
        )
    sides = ("left", "right") if key.pairs else ("real", "synthetic")
    found = []
    for token, trial in asked.items():
        answer = given.get(token)
        if answer is None:
            continue
        if answer.says not in sides:
            raise BadInput(f"{path}: a question is answered by {answer.says!r}; the choices are {' and '.join(sides)}")
        kinds = [key.images[image].kind for image in trial.images]
        truth = sides[kinds.index("synthetic")] if key.pairs else kinds[0]
        found.append(Judged(reader.name, tuple(trial.images), answer, answer.says == truth, trial.repeat))
    return found


def measured(key: Key, judged: Sequence[Judged], options: ScoreOptions) -> TuringReport:
    """Return all numbers of a study; repeats count for the agreement of a reader with itself alone."""
    readers = list(dict.fromkeys(one.reader for one in judged))
    first = [one for one in judged if not one.repeat]
    if not first:
        raise BadInput("there is not one answer to score")
    rows = [_row(key, name, [one for one in judged if one.reader == name], options) for name in readers]
    units = sorted({one.unit for one in first})
    table = np.full((len(readers), len(units)), np.nan)
    for one in first:
        table[readers.index(one.reader), units.index(one.unit)] = one.right
    stratum = np.array([key.images[unit[0]].kind if not key.pairs else "pair" for unit in units])
    mean = float(np.nanmean(table))
    limits = statistics.pooled_interval(table, stratum, options.resamples, options.seed)
    classes = sorted({key.images[unit[0]].image_class for unit in units})
    by_class = {}
    for name in classes:
        own = np.array([key.images[unit[0]].image_class == name for unit in units])
        given = table[:, own][np.isfinite(table[:, own])]
        by_class[name] = Share(
            hits=int(given.sum()), of=len(given), value=float(given.mean()),
            interval=statistics.pooled_interval(table[:, own], stratum[own], options.resamples, options.seed),
        )  # fmt: skip
    ids = {group: [key.images[image].id for image in images] for group, images in agreed(key, judged).items()}
    return TuringReport(
        tool_version=__version__,
        study=key.study,
        title=key.title,
        pairs=key.pairs,
        margin=options.margin,
        resamples=options.resamples,
        seed=options.seed,
        images=len({image for unit in units for image in unit}),
        accuracy=mean,
        interval=limits,
        fleiss_kappa=_agreement(first, readers, units),
        by_class=by_class if len(classes) > 1 else {},
        readers=rows,
        with_evidence=_with_evidence(key, first, options),
        fooled_all=ids["fooled_all"],
        fooled_none=ids["fooled_none"],
        real_taken_for_synthetic=ids["real_taken_for_synthetic"],
    )


def _row(key: Key, name: str, own: Sequence[Judged], options: ScoreOptions) -> ReaderRow:
    first = [one for one in own if not one.repeat]
    right, of = sum(one.right for one in first), len(first)
    numbers = Numbers(
        accuracy=_share(first, lambda one: one.right),
        p=statistics.binomial_p(right, of),
        p_equivalence=statistics.equivalence_p(right, of, options.margin),
    )
    if key.pairs:
        numbers.d_prime = statistics.two_interval_d_prime(right, of)
    else:
        _of_kinds(key, first, numbers)
    if key.asks_class:
        known = [one for one in first if one.answer.image_class is not None]  # both images of a pair are of one class
        numbers.class_right = _share(known, lambda one: one.answer.image_class == key.images[one.images[0]].image_class)
    before = {one.images: one for one in first}
    again = [(before[one.images], one) for one in own if one.repeat and one.images in before]
    numbers.own_kappa = statistics.cohen_kappa(
        [one.answer.says in ("synthetic", "left") for one, _ in again],
        [two.answer.says in ("synthetic", "left") for _, two in again],
    )
    return ReaderRow(
        name=name,
        answers=of,
        repeats=len(again),
        median_seconds=float(np.median([one.answer.seconds for one in first])) if first else None,
        numbers=numbers,
    )


def _of_kinds(key: Key, first: Sequence[Judged], numbers: Numbers) -> None:
    """Fill in what tells real from synthetic images one by one."""
    synthetic = [one for one in first if key.images[one.images[0]].kind == "synthetic"]
    real = [one for one in first if key.images[one.images[0]].kind == "real"]
    hits, alarms = sum(one.right for one in synthetic), sum(not one.right for one in real)
    numbers.sensitivity = _share(synthetic, lambda one: one.right)
    numbers.specificity = _share(real, lambda one: one.right)
    detection = statistics.d_prime(hits, len(synthetic), alarms, len(real))
    if detection is not None:
        numbers.d_prime, numbers.d_prime_interval = detection.d_prime, detection.interval
        numbers.criterion = detection.criterion
    positive = np.array([key.images[one.images[0]].kind == "synthetic" for one in first], bool)
    area = statistics.auc(positive, np.array([one.suspicion for one in first], float))
    if area is not None:
        numbers.auc, numbers.auc_interval = area.value, area.interval
    for kind, own in (("real", real), ("synthetic", synthetic)):
        asked = [one for one in own if one.answer.lesion is not None]
        share = _share(asked, lambda one: one.answer.lesion == "yes")
        if kind == "real":
            numbers.lesion_seen_real = share
        else:
            numbers.lesion_seen_synthetic = share


def _share(own: Sequence[Judged], of: Callable[[Judged], bool]) -> Share:
    found = statistics.proportion(sum(map(of, own)), len(own))
    return Share(hits=found.hits, of=found.of, value=found.value, interval=found.interval)


def _agreement(first: Sequence[Judged], readers: Sequence[str], units: Sequence[tuple[int, ...]]) -> float | None:
    """Return Fleiss' kappa over the images that every reader judged."""
    says: dict[tuple[int, ...], list[bool]] = {unit: [] for unit in units}
    for one in first:
        chose = one.answer.says == "synthetic"
        if len(one.images) == 2:  # sides are drawn anew for each reader: agreement is about the image
            chose = one.right
        says[one.unit].append(chose)
    counts = np.array([[sum(own), len(own) - sum(own)] for own in says.values() if len(own) == len(readers)])
    return statistics.fleiss_kappa(counts) if len(counts) and len(readers) > 1 else None


def _with_evidence(key: Key, first: Sequence[Judged], options: ScoreOptions) -> Correlation | None:
    """Return whether images with clearer lesions, as the filter measures them, look more or less real to readers."""
    said: dict[int, list[float]] = {}
    for one in first:
        if len(one.images) == 1 and key.images[one.images[0]].evidence is not None:
            said.setdefault(one.images[0], []).append(one.suspicion)
    evidence = [float(key.images[image].evidence or 0) for image in said]
    found = statistics.rank_correlation(
        evidence, [float(np.mean(own)) for own in said.values()], options.resamples, options.seed
    )
    return None if found is None else Correlation(images=len(said), value=found.value, interval=found.interval)


def agreed(key: Key, judged: Sequence[Judged]) -> dict[str, list[int]]:
    """Return by group the images, of a study of single ones, about which every reader was wrong, or right."""
    first = [one for one in judged if not one.repeat and len(one.images) == 1]
    count = len({one.reader for one in judged})
    said: dict[int, list[bool]] = {one.images[0]: [] for one in first}
    for one in first:
        said[one.images[0]].append(one.right)

    def unanimous(kind: str, right: bool) -> list[int]:
        of_kind = [(image, own) for image, own in sorted(said.items()) if key.images[image].kind == kind]
        return [image for image, own in of_kind if len(own) == count and set(own) == {right}]

    return {
        "fooled_all": unanimous("synthetic", right=False),
        "fooled_none": unanimous("synthetic", right=True),
        "real_taken_for_synthetic": unanimous("real", right=False),
    }
