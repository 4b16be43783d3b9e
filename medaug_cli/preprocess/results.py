"""What stands beside a store of real scans: boxes.json, preprocess.json and preprocess.html."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from medaug_cli.boxes import BoxesFile, ImageBoxes, LabelledBox, read_boxes, write_boxes
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import publish_text, read_json, refuse_existing, write_json
from medaug_cli.preprocess.report import PreprocessReport, page
from medaug_cli.results import refuse_page
from medaug_cli.store import Store, open_store

BESIDE = ("boxes.json", "preprocess.json", "preprocess.html")
ELSEWHERE = "move it, or choose another folder for --out"


def beside(out: Path, name: str) -> Path:
    """Return where boxes.json, preprocess.json or preprocess.html goes."""
    return out.with_name(name)


def check_outputs(out: Path, boxes: Path | None, overwrite: bool, resume: bool) -> None:
    """Raise UsageError where a result stands in the way, or would replace the boxes that are read.

    What stands beside another store, or is of somebody else, is never replaced.
    """
    check_name(out)
    refuse_existing(out, overwrite)
    target = beside(out, "boxes.json")
    if boxes is not None and target.exists() and target.resolve() == boxes.resolve():
        raise UsageError(
            f"{target} would be replaced by the boxes of the processed images; choose another --out folder"
        )
    check_beside(out)
    refuse_existing(target, overwrite or resume)


def check_name(out: Path) -> None:
    """Raise UsageError where a store would have the name of a file that goes beside it."""
    if out.name in BESIDE:
        raise UsageError(f"--out {out}: the files beside a store use that name; choose another, such as real.h5")


def check_beside(out: Path) -> None:
    """Raise UsageError where a file that goes beside the store `out` is there and of another store, or of no store."""
    target = beside(out, "preprocess.json")
    if target.exists():
        try:
            _refuse_other(target, read_json(target, PreprocessReport).store, out)
        except BadInput as error:
            raise UsageError(f"{target} exists and is not a report of medaug preprocess; {ELSEWHERE}") from error
    refuse_page(beside(out, "preprocess.html"), target)
    target = beside(out, "boxes.json")
    if target.exists():
        try:
            found = read_boxes(target)
        except BadInput as error:
            raise UsageError(f"{target} exists and does not hold boxes; {ELSEWHERE}") from error
        if found.store is None and not _holds(out, found):
            raise UsageError(f"{target} exists and is not part of a store of medaug preprocess; {ELSEWHERE}")
        _refuse_other(target, found.store or "", out)


def _refuse_other(path: Path, digest: str, out: Path) -> None:
    """Raise UsageError where `path` is of another store in its folder; older ones do not say of which."""
    for store in _stores(out.parent):
        if out.exists() and out.samefile(store.path):
            continue
        if store.hash == digest or (not digest and not out.exists() and store.info.command == "preprocess"):
            raise UsageError(f"{path} is of {store.path.name}; choose another folder for --out")


def _stores(folder: Path) -> Iterator[Store]:
    for path in sorted(folder.glob("*.h5")):
        with suppress(BadInput):
            yield open_store(path)


def _holds(out: Path, boxes: BoxesFile) -> bool:
    """Tell whether boxes that do not name their store are those of `out`."""
    return out.exists() and {image.id for image in boxes.images} <= set(open_store(out).ids)


def write_beside(store: Store, folder: Path, report: PreprocessReport) -> None:
    """Write boxes.json, preprocess.json and preprocess.html of a store into the folder that is published with it."""
    own = report.model_copy(update={"store": store.hash})
    write_json(folder / "preprocess.json", own)
    write_boxes(folder / "boxes.json", training_boxes(store))
    publish_text(folder / "preprocess.html", page(own))


def complete(out: Path, store: Store) -> None:
    """Write again what of boxes.json and the page is missing beside a store that is there."""
    report = read_report(out, store)
    if not beside(out, "boxes.json").exists():
        write_boxes(beside(out, "boxes.json"), training_boxes(store))
    if not beside(out, "preprocess.html").exists():
        publish_text(beside(out, "preprocess.html"), page(report))


def read_report(out: Path, store: Store) -> PreprocessReport:
    """Read the preprocess.json of a store; raise BadInput where it belongs to another one."""
    path = beside(out, "preprocess.json")
    report = read_json(path, PreprocessReport)
    if report.store not in ("", store.hash):
        raise BadInput(f"{path} belongs to another store than {out}; make both again with --overwrite")
    return report


def training_boxes(store: Store) -> BoxesFile:
    """Return the boxes of the training split in the coordinates of the processed images."""
    *deep, height, width = store.spec.spatial
    images = []
    for i in store.indices("train", unannotated=True):
        names = [store.spec.label_names[k] for k in store.labels[i]]
        boxes = [LabelledBox(box=b.tolist(), label=n) for b, n in zip(store.boxes[i], names, strict=True)]
        images.append(
            ImageBoxes(
                id=store.ids[i],
                width=width,
                height=height,
                depth=deep[0] if deep else None,
                patient=store.patients[i],
                split="train",
                spacing=store.spacing_of(i),
                annotated=None if store.annotated[i] else False,
                boxes=boxes,
            )
        )
    return BoxesFile(version=1, store=store.hash, images=images)
