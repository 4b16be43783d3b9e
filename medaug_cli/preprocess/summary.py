"""What a person must know of a finished `medaug preprocess`, in five lines or as plain values."""

from collections import Counter
from collections.abc import Mapping
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
    first: str  # the first image of which something was dropped or repaired, and what

    def values(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {name: value for name, value in asdict(self).items() if name not in ("images", "first")}

    def lines(self, out: Path, page: Path) -> list[str]:
        """Return five lines for a person; each fits a terminal, but for long paths."""
        shown = ", ".join(f"{count} {split}" for split, count in self.images.items())
        taken = [f"{self.lesions} lesions in {self.lesion_images} images", f"{self.normals} normals"]
        taken += [f"{self.unannotated} unannotated"] if self.unannotated else []
        look = f"; see {page}"
        doubted = f"doubted: {self.doubted} images"
        return [
            f"{out}: {sum(self.images.values())} images ({shown}) of {self.patients} patients",
            f"in: {self.scans} scans, {', '.join(taken)}",
            _fitted("dropped", "lesions", self.dropped, WIDTH),
            f"{doubted}; {_fitted('repaired', 'annotations', self.repaired, WIDTH - len(doubted) - 2)}",
            _fitted("left out", "", self.left_out, max(WIDTH - len(look), WIDTH // 2)) + look,
        ]

    def complaint(self) -> str:
        """Return what was lost or changed of what is annotated, in one clause; nothing where nothing was."""
        lost, mended = sum(self.dropped.values()), sum(self.repaired.values())
        said = [f"{lost} annotated lesions would be dropped ({_reasons(self.dropped)})"] if lost else []
        said += [f"{mended} annotations would be repaired ({_reasons(self.repaired)})"] if mended else []
        return " and ".join(said) + (f"; the first is {self.first}" if said else "")


def _reasons(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {why}" for why, count in counts.items())


def _fitted(title: str, things: str, counts: Mapping[str, int], width: int) -> str:
    """Return "title: 3 things: 2 of one kind, 1 of another", with as many kinds as fit."""
    total = sum(counts.values())
    if not total:
        return f"{title}: nothing" if not things else f"{title}: no {things}"
    head = f"{title}: {total} {things}: " if things else f"{title}: "
    parts = [f"{count} {why}" for why, count in counts.items()]
    for shown in range(len(parts), 0, -1):
        rest = total - sum(list(counts.values())[:shown])
        text = head + ", ".join(parts[:shown] + ([f"{rest} others"] if rest else []))
        if len(text) <= width:
            return text
    return f"{title}: {total} {things}".rstrip()


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
        dropped=_counted(text for each in report.slices for text in each.dropped_boxes),
        repaired=_counted(text for each in report.slices for text in each.repaired),
        doubted=sum(each.doubtful for each in kept),
        left_out=_left_out(report),
        first=f"{touched[0][0].id}: {touched[0][1]}" if touched else "",
    )


def _counted(texts: Any) -> dict[str, int]:
    return dict(Counter(map(kind_of, texts)).most_common())


def _left_out(report: PreprocessReport) -> dict[str, int]:
    counted = Counter(_why_out(each) for each in report.slices if each.state != "kept")
    counted["files"] += len(report.left_out)
    return {why: count for why, count in counted.most_common() if count}


def _why_out(each: SliceReport) -> str:
    if each.state == "no annotation":
        return "scans without annotation"
    if each.state == "blank":
        return "blank slices"
    if each.dropped_boxes:
        return "images whose lesions were dropped"
    things = "scans" if each.slice is None and each.lesion is None else "slices" if each.lesion is None else "lesions"
    return f"{things} skipped"
