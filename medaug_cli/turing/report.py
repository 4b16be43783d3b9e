"""turing.json, its tables, and the page with the images that fooled readers."""

import csv
import io
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from medaug_cli.boxes import Strict
from medaug_cli.errors import MedaugError
from medaug_cli.figures.pages import filled
from medaug_cli.tables import DASH, Cell, Table, fixed, name, probability, table
from medaug_cli.turing.documents import Key, KeyImage, KeyStore
from medaug_cli.words import counted

if TYPE_CHECKING:
    from medaug_cli.store import Store
    from medaug_cli.turing.scoring import Judged

Interval = tuple[float, float]
PICTURES = 12  # at most, of each group


class Share(Strict):
    """A share of answers with its exact 95 % interval; null where there is nothing to count."""

    hits: int
    of: int
    value: float | None
    interval: Interval | None


class Correlation(Strict):
    """Spearman's rank correlation over images, with its bootstrap interval."""

    images: int
    value: float
    interval: Interval


class Numbers(Strict):
    """What a reader's answers say; null where the study does not ask it."""

    accuracy: Share
    p: float  # two-sided exact binomial test against guessing
    p_equivalence: float  # two one-sided exact tests that accuracy lies within the margin of guessing
    sensitivity: Share | None = None  # synthetic images called synthetic
    specificity: Share | None = None  # real images called real
    d_prime: float | None = None
    d_prime_interval: Interval | None = None
    criterion: float | None = None
    auc: float | None = None  # of the confidence
    auc_interval: Interval | None = None
    class_right: Share | None = None
    lesion_seen_real: Share | None = None
    lesion_seen_synthetic: Share | None = None
    own_kappa: float | None = None  # Cohen's, of images that were shown twice


class ReaderRow(Strict):
    """One reader."""

    name: str
    answers: int
    repeats: int
    median_seconds: float | None
    numbers: Numbers


class TuringReport(Strict):
    """turing.json."""

    version: Literal[1] = 1
    tool_version: str
    study: str
    title: str
    pairs: bool
    margin: float
    resamples: int
    seed: int
    images: int
    accuracy: float  # mean over all answers
    interval: Interval | None  # readers and images resampled; of a single reader exact
    fleiss_kappa: float | None
    by_class: dict[str, Share]
    readers: list[ReaderRow]
    with_evidence: Correlation | None  # evidence of the lesion filter against how synthetic an image looks
    fooled_all: list[str]  # synthetic images that every reader called real
    fooled_none: list[str]
    real_taken_for_synthetic: list[str]  # by every reader


def sentences(report: TuringReport) -> list[str]:
    """Return what a hurried person needs to know."""
    limits = f" [{report.interval[0]:.3f}, {report.interval[1]:.3f}]" if report.interval else ""
    said = [
        f"{counted(len(report.readers), 'reader')}, {counted(report.images, 'image')}: "
        f"{report.accuracy:.3f}{limits} of the answers are right; guessing gives 0.500.",
        _verdict(report),
    ]
    if report.with_evidence is not None:
        found = report.with_evidence
        said.append(
            f"Evidence of the lesion filter and how synthetic an image looks: rank correlation {found.value:+.2f} "
            f"[{found.interval[0]:+.2f}, {found.interval[1]:+.2f}] over {found.images} images."
        )
    return [*said, "What looks real to readers need not help to train a network (Han et al., 2.3). Research only."]


def _verdict(report: TuringReport) -> str:
    low, high = report.interval or (0.0, 1.0)
    if low > 0.5:
        return "Readers tell real from synthetic images."
    if high < 0.5:
        return "Readers are wrong more often than right: synthetic images look more real to them than real ones."
    if 0.5 - report.margin < low and high < 0.5 + report.margin:
        return f"Readers cannot tell them apart, to within {report.margin:g} of guessing."
    return "Inconclusive: the interval holds guessing, and more than the margin around it."


def tables(report: TuringReport) -> list[Table]:
    """Return the tables of a report."""
    found = [_readers(report)]
    if report.by_class:
        rows = [[Cell(label), _shown(share), Cell(str(share.of))] for label, share in report.by_class.items()]
        note = "All readers' answers together; intervals resample readers and images."
        found.append(table("By class", ["class", "right", "answers"], rows, (note,)))
    return [*found, _details(report)]


def _readers(report: TuringReport) -> Table:
    header = ["reader", "answers", "right", "p", f"p (within {report.margin:g})", "d'"]
    rows = [
        [
            Cell(row.name),
            Cell(str(row.answers)),
            _shown(row.numbers.accuracy),
            probability(row.numbers.p),
            probability(row.numbers.p_equivalence),
            fixed(row.numbers.d_prime, 2, row.numbers.d_prime_interval),
        ]
        for row in report.readers
    ]
    kappa = "–" if report.fleiss_kappa is None else f"{report.fleiss_kappa:.2f}"
    notes = (
        "right: with its exact interval (Clopper and Pearson). p: exact binomial test against guessing. "
        f"p (within {report.margin:g}): two one-sided exact tests that a reader is no farther from guessing than that. "
        "The mean over readers and images above is the primary result. "
        f"Agreement among readers: Fleiss' kappa {kappa}.",
    )
    return table("Readers", header, rows, notes)


def _details(report: TuringReport) -> Table:
    words = {
        "sensitivity": "synthetic called synthetic",
        "specificity": "real called real",
        "class_right": "right class",
        "lesion_seen_real": "lesion seen in the box, real",
        "lesion_seen_synthetic": "lesion seen in the box, synthetic",
    }
    rows: list[list[Cell]] = []
    for key, said in words.items():
        shares = [getattr(row.numbers, key) for row in report.readers]
        if any(share is not None and share.of for share in shares):
            rows.append([Cell(said), *(_shown(share) for share in shares)])
    each = report.readers
    rows.append([Cell("AUC of the confidence"), *(fixed(r.numbers.auc, 3, r.numbers.auc_interval) for r in each)])
    rows.append([Cell("criterion"), *(fixed(row.numbers.criterion, 2) for row in each)])
    rows.append([Cell("agreement with oneself (kappa)"), *(fixed(row.numbers.own_kappa, 2) for row in each)])
    rows.append([Cell("median seconds per image"), *(fixed(row.median_seconds, 1) for row in each)])
    return table("Each reader in detail", ["measure", *(name(row.name) for row in each)], rows)


def _shown(share: Share | None) -> Cell:
    return Cell(DASH) if share is None else fixed(share.value, 3, share.interval)


def rows_csv(key: Key, judged: "Sequence[Judged]") -> str:
    """Return a row for each answer, with what the key says."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = "reader image kind class says right confidence class_said lesion seconds repeat store"
    writer.writerow(columns.split())
    for one in judged:
        images = [key.images[image] for image in one.images]
        said = one.answer
        writer.writerow([
            one.reader, "|".join(image.id for image in images), "|".join(image.kind for image in images),
            images[0].image_class, said.says, int(one.right), said.confidence, said.image_class or "",
            said.lesion or "", said.seconds, int(one.repeat),
            "|".join(Path(key.stores[image.store].path).name for image in images),
        ])  # fmt: skip
    return text.getvalue()


def page(
    key: Key, folder: Path, report: TuringReport, groups: Mapping[str, Sequence[int]], say: Callable[[str], None]
) -> str:  # fmt: skip
    """Return the HTML page, with pictures where the stores of the key, which lies in `folder`, are still there.

    `groups` are the images, by their number in the key, about which readers agreed.
    """
    titles = {
        "fooled_all": "Synthetic, and taken for real by every reader",
        "fooled_none": "Synthetic, and seen through by every reader",
        "real_taken_for_synthetic": "Real, and taken for synthetic by every reader",
    }
    figures = []
    for group, title in titles.items():
        own = groups[group]
        content = _pictures(key, folder, [key.images[image] for image in own[:PICTURES]], say) if own else None
        if content is not None:
            more = f", {PICTURES} of them here" if len(own) > PICTURES else ""
            note = f"{counted(len(own), 'image')}{more}"
            uri = f"data:image/png;base64,{content}"
            figures.append({"title": title, "note": note, "type": "image/png", "uri": uri})
    return filled(
        "figures/task_page.html",
        title=f"{report.title} – the answers",
        data_note=sentences(report),
        tables=tables(report),
        figures=figures,
        version=report.tool_version,
        source="turing.json",
    )


def _found(place: KeyStore, folder: Path) -> "Store | None":
    """Return a store that images were shown from: where it was as seen from the key's folder, or beside that folder."""
    from medaug_cli.store import open_store

    there, beside = Path(place.path), folder.parent / Path(place.path).name
    for path in (beside, there) if there.is_absolute() else (folder / there, beside):
        with suppress(MedaugError):
            store = open_store(path)
            if store.hash == place.hash:
                return store
    return None


def _pictures(key: Key, folder: Path, images: Sequence[KeyImage], say: Callable[[str], None]) -> str | None:
    from medaug_cli.figures.grid import as_picture
    from medaug_cli.figures.task_figures import captioned

    shown, captions = [], []
    for image in images:
        place = key.stores[image.store]
        store = _found(place, folder)
        if store is None or image.id not in store.ids:
            say(f"{Path(place.path).name} is not where it was, or is another store now: the page has no pictures")
            return None
        shown.append(as_picture(np.asarray(store.images[store.ids.index(image.id)])))
        captions.append([image.id, image.image_class])
    target = io.BytesIO()
    captioned(shown, captions).save(target, format="PNG", optimize=True)
    return b64encode(target.getvalue()).decode()
