"""What stands beside a store of real scans: boxes.json, preprocess.json and preprocess.html."""

from pathlib import Path

from medaug_cli.boxes import BoxesFile, ImageBoxes, LabelledBox, write_boxes
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import publish_text, read_json, refuse_existing, write_json
from medaug_cli.preprocess.report import PreprocessReport, page
from medaug_cli.store import Store


def beside(out: Path, name: str) -> Path:
    """Return where boxes.json, preprocess.json or preprocess.html goes."""
    return out.with_name(name)


def check_outputs(out: Path, boxes: Path | None, overwrite: bool, resume: bool) -> None:
    """Raise UsageError where a result stands in the way, or would replace the boxes that are read."""
    refuse_existing(out, overwrite)
    target = beside(out, "boxes.json")
    if boxes is not None and target.exists() and target.resolve() == boxes.resolve():
        raise UsageError(
            f"{target} would be replaced by the boxes of the processed images; choose another --out folder"
        )
    refuse_existing(target, overwrite or resume)


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
