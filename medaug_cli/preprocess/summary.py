"""What a person must know of a finished `medaug preprocess`, in five lines or as plain values."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medaug_cli.boxes import SPLITS
from medaug_cli.preprocess.report import PreprocessReport, SliceReport, kind_of

WIDTH = 80  # columns of a terminal


@dataclass(frozen=True)
class Summary:
    """Counts of what went into a store, and of what did not and why."""

    images: dict[str, int]  # split -> how many
    patients: int
    scans: int
    lesions: int
    lesion_images: int
    normals: int
    unannotated: int  # images
    dropped: dict[str, int]  # why -> how many lesions
    repaired: dict[str, int]  # what was put right -> how many times
    doubted: int  # images
    left_out: dict[str, int]  # scans, slices and files
    classes: dict[str, int]  # of whole images -> how many
    first: str  # the first image of which something was dropped or repaired, and what

    def values(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {name: value for name, value in asdict(self).items() if name not in ("images", "first")}

    def lines(self, out: Path, page: Path) -> list[str]:
        """Return five lines for a person; each fits a terminal, but for long paths."""
        shown = ", ".join(f"{count} {split}" for split, count in self.images.items())
        total = sum(self.images.values())
        taken = [_counted(self.lesions, "lesions")]
        if self.lesions:
            taken = [f"{taken[0]} in {_counted(self.lesion_images, 'images')}"]
        taken += [_counted(self.normals, "normals")] + [f"{self.unannotated} unannotated"] * bool(self.unannotated)
        doubted = f"doubted: {_counted(self.doubted, 'images')}; repaired: "
        classes = [f"{count} {name}" for name, count in self.classes.items()]
        if classes:  # which need the room that noughts take
            taken = [part for part in taken if not part.startswith("no ")]
        taken_in = ", ".join([f"in: {_counted(self.scans, 'scans')}", *taken])
        return [
            f"{out}: {_counted(total, 'images')} ({shown}) of {_counted(self.patients, 'patients')}",
            _fitted(f"{taken_in}; classes", classes, "") if classes else taken_in,
            _fitted(f"dropped: {_counted(sum(self.dropped.values()), 'lesions')}", _reasons(self.dropped), ""),
            _fitted(doubted + _counted(sum(self.repaired.values()), "annotations"), _reasons(self.repaired), ""),
            self._left_out_line(page),
        ]

    def _left_out_line(self, page: Path) -> str:
        parts = [_counted(count, why) for why, count in self.left_out.items()]
        whole = f"left out: {', '.join(parts) or 'nothing'}; see {page}"
        if len(whole) <= WIDTH:
            return whole
        return _fitted(f"left out: {sum(self.left_out.values())}", parts, f"; see {page.name}")

    def complaint(self) -> str:
        """Return what was lost or changed of what is annotated, in one clause; nothing where nothing was."""
        lost, mended = sum(self.dropped.values()), sum(self.repaired.values())
        said = []
        if lost:
            what = "1 lesion that is" if lost == 1 else f"{lost} lesions that are"
            said.append(f"{what} annotated would be dropped: {', '.join(_reasons(self.dropped))}")
        if mended:
            said.append(f"{_counted(mended, 'annotations')} would be repaired: {', '.join(_reasons(self.repaired))}")
        return "; ".join(said) + (f"; the first is {self.first}" if said else "")


def _counted(count: int, things: str) -> str:
    """Return "3 scans without annotation", "1 scan without annotation" or "no scans without annotation"."""
    noun, space, rest = things.partition(" ")
    return f"{count or 'no'} {noun.removesuffix('s') if count == 1 else noun}{space}{rest}"


def _reasons(counts: Mapping[str, int]) -> list[str]:
    return [f"{why} ({count})" for why, count in counts.items()]


def _fitted(head: str, parts: Sequence[str], tail: str) -> str:
    """Return "head: part, part" and tail with as many parts as fit a terminal, and how many more there are."""
    for shown in range(len(parts), 0, -1):
        more = [f"and {len(parts) - shown} more"] * (shown < len(parts))
        text = f"{head}: {', '.join([*parts[:shown], *more])}{tail}"
        if len(text) <= WIDTH:
            return text
    return head + tail


def summary_of(report: PreprocessReport) -> Summary:
    """Count what a report says."""
    kept = [each for each in report.slices if each.state == "kept"]
    with_lesions = [each for each in kept if each.boxes]
    touched = [(each, text) for each in report.slices for text in (*each.dropped_boxes, *each.repaired)]
    return Summary(
        images={split: sum(each.split == split for each in kept) for split in SPLITS},
        patients=len({each.patient for each in kept}),
        scans=len({each.file for each in kept}),
        lesions=sum(1 if each.lesion is not None else each.boxes for each in kept),
        lesion_images=len(with_lesions),
        normals=sum(each.annotated and not each.boxes for each in kept),
        unannotated=sum(not each.annotated for each in kept),
        dropped=_kinds(text for each in report.slices for text in each.dropped_boxes),
        repaired=_kinds(text for each in report.slices for text in each.repaired),
        doubted=sum(each.doubtful for each in kept),
        left_out=_left_out(report),
        classes={name: sum(counts) for name, counts in report.classes()},
        first=f"{touched[0][0].id}: {touched[0][1]}" if touched else "",
    )


def _kinds(texts: Iterable[str]) -> dict[str, int]:
    return dict(Counter(map(kind_of, texts)).most_common())


def _left_out(report: PreprocessReport) -> dict[str, int]:
    counted = Counter(_why_out(each) for each in report.slices if each.state != "kept")
    counted["files"] += len(report.unused)
    return {why: count for why, count in counted.most_common() if count}


def _why_out(each: SliceReport) -> str:
    if each.state == "no annotation":
        return "scans without annotation"
    if each.state == "blank":
        return "blank slices"
    if each.dropped_boxes:
        return "images of dropped lesions"
    things = "scans" if each.slice is None and each.lesion is None else "slices" if each.lesion is None else "lesions"
    return f"{things} skipped"
