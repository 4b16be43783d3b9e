"""`medaug predict`: from a folder of scans to what a detector, classifier or segmenter says of them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medaug_cli.answers import answered
from medaug_cli.detecting.finding import Source, check_form, found_in, write_found
from medaug_cli.devices import resolve_device
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.forms.policy import LESION
from medaug_cli.predicting.answers import ScanMasks, write_classes, write_masks
from medaug_cli.predicting.dicom_seg import SEG, check_dicom_seg, write_dicom_seg
from medaug_cli.predicting.prepared import recipe_of
from medaug_cli.preprocess.pipeline import PreprocessOptions, preprocess
from medaug_cli.results import Kind, folder_claimed, new_folder, refuse_inside
from medaug_cli.runs import load_network
from medaug_cli.runs.metadata import NetworkMetadata
from medaug_cli.scans.reading import PLAIN, Reading
from medaug_cli.store import Store

FOLDER = Kind("predict", "a folder of predictions")
KINDS = ("detector", "classifier", "segmenter")
FORM = "csv"  # where nothing else is asked for
SCANS = "scans.h5"  # as the network saw them, with preprocess.html beside it


@dataclass(frozen=True)
class PredictOptions:
    """What `medaug predict` takes."""

    network: Path
    scans: Path
    out: Path
    form: str = "csv"  # of detections; of masks dicom-seg, beside PNG or NIfTI
    threshold: float = 0.1  # score from which a detection is written
    strip: str | None = None  # instead of the training images' own brain extraction
    spacing: tuple[float, ...] | None = None  # mm in numpy axis order, instead of what the scans say
    reader: str | None = None
    modality: str | None = None
    reading: Reading = PLAIN
    keep_going: bool = False
    workers: int = 0
    device: str = "auto"
    overwrite: bool = False
    report: Callable[[float, str], None] = lambda share, note: None
    announce: Callable[[str], None] = lambda sentence: None


@dataclass(frozen=True)
class Prediction:
    """What was done."""

    kind: str
    scans: int
    images: int
    found: int  # detections, or scans in which a label was marked; images that were classified


def predict(options: PredictOptions) -> Prediction:
    """Pre-process scans as the network's training images were, run it, and publish a folder with the results.

    Raises BadInput for a network that cannot take whole scans, UsageError for a form that its answers do not have.
    """
    refuse_inside("--out", options.out, options.scans)
    kind = kind_of(options.network)
    _check_form(kind, options.form)
    network, metadata = load_network(options.network, kind, resolve_device(options.device))
    recipe = recipe_of(options.network, metadata.prepared, options.strip)
    recipe = replace(recipe, spacing=options.spacing or recipe.spacing)
    reads = [options.network, options.scans]
    with folder_claimed(options.out, FOLDER, options.overwrite, reads) as place, new_folder(place, FOLDER) as work:
        store = preprocess(
            PreprocessOptions(
                scans=options.scans,
                out=work / SCANS,
                unannotated=True,
                split="1,0,0",
                recipe=recipe,
                reader=options.reader,
                modality=options.modality,
                reading=replace(options.reading, spacing_if_unsaid=options.spacing is None),
                keep_going=options.keep_going,
                workers=options.workers,
                report=lambda share, note: options.report(share / 2, note),
                announce=lambda sentence: options.announce(sentence.replace(str(work), str(options.out))),
            )
        )
        assert store is not None
        _check_fits(options.network, metadata, store)
        answers = []
        images = (store.read([i])[0] for i in range(len(store)))
        for answer in answered(kind, metadata.name, network.predict(images), len(store), metadata.form.spec()):
            answers.append(answer)
            options.report((1 + len(answers) / len(store)) / 2, f"{len(answers)} of {len(store)} images")
        found = _write(options, kind, metadata=metadata, store=store, answers=answers, out=work)
    return Prediction(kind, len({details["file"] for details in store.details}), len(store), found)


def kind_of(network: Path) -> str:
    """Return what a folder of train-detector, train-classifier or train-segmenter holds; raise BadInput for another."""
    held = [kind for kind in KINDS if (network / f"{kind}.json").is_file()]
    if not held:
        raise BadInput(f"{network} holds no trained detector, classifier or segmenter")
    return held[0]


def _check_form(kind: str, form: str) -> None:
    """Raise UsageError for a form in which a network of a kind does not answer, MedaugError for one not installed."""
    if kind == "detector":
        check_form(form)
    elif kind == "segmenter" and form == SEG:
        check_dicom_seg()
    elif form != FORM:
        choices = f"{SEG}, or none for PNG and NIfTI alone" if kind == "segmenter" else "none: the answers are tables"
        raise UsageError(f"--format {form}: the choices are, for a {kind}, {choices}")


def _check_fits(network: Path, metadata: NetworkMetadata, store: Store) -> None:
    channels, spatial = metadata.form.channels, tuple(metadata.form.spatial)
    if (channels, spatial) != (store.spec.channels, store.spec.spatial):
        raise BadInput(
            f"{network} takes images of {channels} channels, {'x'.join(map(str, spatial))}; these scans give "
            f"{store.spec.channels}, {'x'.join(map(str, store.spec.spatial))}"
        )


def _write(
    options: PredictOptions, kind: str, metadata: NetworkMetadata, store: Store, answers: list[Any], out: Path
) -> int:
    """Write the answers into a folder; return how much was found."""
    if kind == "detector":
        found = [found_in(store, i, answer, options.threshold) for i, answer in enumerate(answers)]
        source = Source(options.scans, metadata.name, metadata.weights)
        write_found(found, metadata.form.label_names, options.form, out, source)
        best = max((float(score) for answer in answers for score in answer[1]), default=None)
        if best is not None and best < options.threshold:
            options.announce(f"no score reaches {options.threshold:g}, the highest is {best:.3g}; see --threshold")
        return sum(len(one.boxes) for one in found)
    if kind == "classifier":
        write_classes(store, answers, metadata.form.class_names, out)
        return len(answers)
    (out / "masks").mkdir()
    masks, labels = ScanMasks(store, answers), metadata.form.label_names
    names = metadata.form.mask_names or (labels if len(labels) == 1 else [LESION])
    marked = write_masks(masks, names, out / "masks")
    if options.form == SEG:
        (out / SEG).mkdir()
        write_dicom_seg(masks, names, out / SEG, options.scans, metadata.name, metadata.weights)
    return marked
