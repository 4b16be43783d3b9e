"""preprocess.json and preprocess.html: what happened to every slice."""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from medaug_cli.boxes import SPLITS, Strict
from medaug_cli.figures.pages import filled
from medaug_cli.preprocess.histograms import Histogram
from medaug_cli.store.joining import DIFFERING, PART, shared_settings
from medaug_cli.words import counted

SHOWN = 60  # doubtful slices with a picture
EXAMPLES = 24  # other slices with a picture
SIZES = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256)  # pixels; ends of the bins of box sides
ANNOTATIONS = "annotations"  # in the settings: a hash of all that is annotated
LISTED = 2000  # slices that the page names in a table

State = Literal["kept", "skipped", "no annotation", "blank"]


class SliceReport(Strict):
    """What happened to one slice or volume, or to the region around one lesion."""

    id: str
    file: str
    slice: int | None = None  # of a volume, from 0
    lesion: int | None = None  # of a scan that becomes regions, from 0; None too for a region without one
    state: State
    patient: str | None = None
    image_class: str | None = None  # of the whole image, and of the volume that a slice is of
    split: str | None = None
    boxes: int = 0
    box_sizes: list[list[float]] = []  # width and height (and depth) of each in stored pixels
    annotated: bool = True  # False: nobody looked for lesions
    dropped_boxes: list[str] = []  # of each lesion that is not stored: why (which)
    repaired: list[str] = []  # of each annotation that was put right: how (which)
    strip: str = "none"
    doubtful: bool = False
    reason: str = ""
    measures: dict[str, float] = {}
    notes: list[str] = []  # on how scan and masks were read and put together, at the first of a scan
    picture: str | None = None  # before and after, a JPEG as data URL: of doubtful slices and some examples

    @property
    def flagged(self) -> bool:
        """Tell whether a person should look at it."""
        return self.state == "kept" and bool(self.doubtful or self.dropped_boxes)


class LeftOutFile(Strict):
    """A file, or a series, that is not a scan to be used, such as a localiser; or a note on one that is used."""

    file: str
    reason: str
    used: bool = False


class PreprocessReport(Strict):
    """preprocess.json."""

    version: Literal[1] = 1
    tool_version: str
    store: str = ""  # SHA-256 of the content of the store that it belongs to
    settings: dict[str, Any]
    split_by: Literal["patient", "image"]
    slices: list[SliceReport]
    left_out: list[LeftOutFile] = []
    histograms: dict[str, Histogram] = {}  # before and after

    @property
    def kind(self) -> str:
        """Return what each image is: a picture, a slice, a region, or a volume."""
        if self.settings.get("region_mm"):
            return "region"
        if self.settings.get("volume"):
            return "volume"
        return "slice" if any(each.slice is not None for each in self.slices) else "picture"

    @property
    def unused(self) -> list[LeftOutFile]:
        """Return the files that are left out."""
        return [one for one in self.left_out if not one.used]

    @property
    def strips(self) -> bool:
        """Tell whether any brain was extracted, or was to be."""
        return any(each.strip != "none" for each in self.slices)

    def sentences(self) -> list[str]:
        """Return what a person should know, the doubtful things first."""
        states: Counter[str] = Counter(each.state for each in self.slices)
        doubtful = sum(each.doubtful and each.state == "kept" for each in self.slices)
        dropped = sum(len(each.dropped_boxes) for each in self.slices)
        said = []
        if self.split_by == "image":
            said.append(
                f"No patient is named, so the split is by image: {self.kind}s of one patient may end up on both sides."
            )
        if differing := self.settings.get(DIFFERING):
            said.append(f"Joined of parts that were pre-processed with different settings: {', '.join(differing)}.")
        if doubtful:
            are, them = ("is", "it") if doubtful == 1 else ("are", "them")
            said.append(f"{counted(doubtful, self.kind)} {are} doubtful; look at {them} below.")
        if dropped:
            were = "was" if dropped == 1 else "were"
            said.append(f"{counted(dropped, 'lesion')} {were} dropped; an image that lost all of them is not stored.")
        unannotated = sum(not each.annotated and each.state == "kept" for each in self.slices)
        if unannotated:
            are, them = ("is", "it") if unannotated == 1 else ("are", "them")
            said.append(f"{counted(unannotated, self.kind)} {are} not annotated: no box does not make {them} normal.")
        for state, why in (
            ("skipped", "because they could not be read or stripped, or were not asked for"),
            ("no annotation", "because they have no annotation"),
            ("blank", "because they are blank"),
        ):
            things = f"{self.kind} or file" if states[state] == 1 else f"{self.kind}s or files"
            if states[state]:
                said.append(f"Left out {why}: {states[state]} {things}.")
        if self.unused:
            said.append(f"Not usable as scans, or damaged: {counted(len(self.unused), 'file')}, listed below.")
        said += [f"{one.file}: {one.reason}." for one in self.left_out if one.used]
        return said

    def notes(self) -> list[tuple[str, str]]:
        """Return (file, note) of everything that was noted while scans and masks were read."""
        return [(each.file, note) for each in self.slices for note in each.notes]

    def counts(self) -> list[tuple[str, int, int, int]]:
        """Return (split, slices, patients, boxes) of what was kept."""
        rows = []
        for split in SPLITS:
            own = [each for each in self.slices if each.state == "kept" and each.split == split]
            rows.append((split, len(own), len({each.patient for each in own}), sum(each.boxes for each in own)))
        return rows

    def classes(self) -> list[tuple[str, list[int]]]:
        """Return (class, images kept in each split) of every class, and of what has none where some have one."""
        names = sorted({each.image_class for each in self.slices if each.image_class is not None})
        kept = Counter((each.image_class, each.split) for each in self.slices if each.state == "kept")
        rows = [(name, [kept[name, split] for split in SPLITS]) for name in names]
        unknown = [kept[None, split] for split in SPLITS]
        return [*rows, ("no class", unknown)] if rows and any(unknown) else rows

    def cases(self) -> list[tuple[str, str]]:
        """Return (image, what was done and why) of each annotation that is not used as it is."""
        return [
            (each.id, f"{done}: {text}")
            for each in self.slices
            for done, texts in (("dropped", each.dropped_boxes), ("repaired", each.repaired))
            for text in texts
        ]

    def reasons(self) -> list[tuple[str, int]]:
        """Return why slices were flagged or left out, in words without their numbers, and how often, most first."""
        counted: Counter[str] = Counter()
        for each in self.slices:
            if each.state != "kept":
                counted[each.state + (f": {_general(each.reason)}" if each.reason else "")] += 1
            elif each.doubtful:
                counted[f"doubtful: {_general(each.reason)}"] += 1
            counted.update(f"lesion dropped: {kind_of(text)}" for text in each.dropped_boxes)
            counted.update(f"annotation repaired: {kind_of(text)}" for text in each.repaired)
        counted.update(f"left out: {_general(one.reason)}" for one in self.unused)
        return counted.most_common(20)


def notes_in_short(notes: Sequence[tuple[str, str]]) -> list[str]:
    """Return a line for each kind of note (file, note), with the first of the files and how many more there are."""
    kinds: dict[str, list[tuple[str, str]]] = {}
    for file, note in notes:
        kinds.setdefault(_general(note), []).append((file, note))
    return [f"{own[0][0]}{f' and {len(own) - 1} more' if len(own) > 1 else ''}: {own[0][1]}" for own in kinds.values()]


def kind_of(text: str) -> str:
    """Return what a note on a lesion has in common with others of its kind: all but what stands in brackets."""
    return text.partition(" (")[0]


def _general(reason: str) -> str:
    """Return a reason without what is particular to one slice: its numbers and the end of a long sentence."""
    words = " ".join("…" if any(letter.isdigit() for letter in word) else word for word in reason.split())
    return words if len(words) <= 90 else f"{words[:89]}…"


def joined(reports: Sequence[PreprocessReport]) -> PreprocessReport:
    """Return one report of several parts, in order."""
    return reports[0].model_copy(
        update={
            "slices": [each for report in reports for each in report.slices],
            "histograms": Histogram.each_together([report.histograms for report in reports]),
            "left_out": [each for report in reports for each in report.left_out],
            "settings": _joined_settings([report.settings for report in reports]),
            "split_by": "image" if any(report.split_by == "image" for report in reports) else "patient",
        }
    )


def _joined_settings(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    digests = [part[ANNOTATIONS] for part in parts if ANNOTATIONS in part]
    own = (PART, ANNOTATIONS)  # of each part, for itself
    said = shared_settings([{name: part[name] for name in part if name not in own} for part in parts])
    return said | ({ANNOTATIONS: summed(digests)} if len(digests) == len(parts) else {})


def summed(digests: Iterable[str]) -> str:
    """Return one hash of several, in hex digits, that is the same whatever they were put together in parts."""
    return f"{sum(int(digest, 16) for digest in digests) % (1 << 256):064x}"


def box_sides(report: PreprocessReport) -> list[tuple[str, int]]:
    """Return how many boxes have a longer side of so many stored pixels: (range in words, count)."""
    longer = [max(size) for each in report.slices if each.state == "kept" for size in each.box_sizes]
    ends = [0, *SIZES]
    rows = [(f"{low}–{high}", sum(low <= side < high for side in longer)) for low, high in itertools.pairwise(ends)]
    rows.append((f"≥ {SIZES[-1]}", sum(side >= SIZES[-1] for side in longer)))
    while rows and not rows[-1][1]:
        rows.pop()
    return rows


def page(report: PreprocessReport) -> str:
    """Return the HTML page."""
    pictures = [each for each in report.slices if each.picture]
    shown = sorted(pictures, key=lambda each: not each.flagged)  # the doubtful ones first
    out = [each for each in report.slices if each.state != "kept"]
    cases = report.cases()
    return filled(
        "preprocess/preprocess.html",
        report=report,
        shown=shown[: SHOWN + EXAMPLES],
        out=out[:LISTED],
        more=len(out) - LISTED,
        cases=cases[:LISTED],
        more_cases=len(cases) - LISTED,
        flagged=sum(each.flagged for each in report.slices),
        sides=box_sides(report),
    )
