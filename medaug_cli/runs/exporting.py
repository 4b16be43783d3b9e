"""Hand on what was trained: a network to other programs, a generator to other people."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli.errors import MedaugError, UsageError
from medaug_cli.plugin import ImageSpec
from medaug_cli.results import Kind, folder_claimed, new_folder
from medaug_cli.runs.loading import load_network, load_parts, save_joint, save_plugin
from medaug_cli.runs.metadata import NetworkMetadata
from medaug_cli.tasks.task import tasks

ONNX = "onnx"
OPSET = 18
EXPORT = Kind("export", "an export of a network or generator")
CLOSE = {"boxes": 0.05, "scores": 1e-3, "probabilities": 1e-3}  # pixels, and shares: differences that rounding may make
OUTPUTS = {"detector": ("boxes", "scores")}  # of a graph; of any other network probabilities


def export_network(folder: Path, form: str, out: Path, overwrite: bool = False) -> dict[str, Any]:
    """Publish a folder with the detector, classifier, ... of `folder` in another form; return what is in it.

    Raises UsageError for a form that the network's plugin does not have, MedaugError where ONNX Runtime does not
    agree with the network.
    """
    kind = _kind_in(folder)
    plugin, metadata = load_network(folder, kind)
    forms = plugin.capabilities.exports
    if form not in forms:
        if not forms:
            raise UsageError(f"{folder}: {metadata.name} has no form in which its networks can be exported")
        raise UsageError(f"--format {form}: a {metadata.name} has no such form; its choices are {', '.join(forms)}")
    with folder_claimed(out, EXPORT, overwrite, [folder]) as place, new_folder(place, EXPORT) as work:
        said = _onnx(kind, plugin, metadata, work) if form == ONNX else _files(plugin.files(form), work)
    return {"out": str(out), "format": form, **said}


def _kind_in(folder: Path) -> str:
    """Return the kind of the network in a folder, "detector" where there is none."""
    kinds = [task.kind for task in tasks().values()]
    return next((kind for kind in kinds if (folder / f"{kind}.json").is_file()), "detector")


def export_generator(folder: Path, out: Path, overwrite: bool = False) -> dict[str, Any]:
    """Publish a folder with what may be shared of the generator in `folder`; return what is in it.

    It holds generator.safetensors and generator.json: no discriminator, from which it can be told who was in the
    training set, no training image, no digest of a patient's id, and nothing that can run code.
    Raises UsageError for a generator whose weights hold training images.
    """
    metadata, parts = load_parts(folder)
    if any(part.capabilities.keeps_images for part in parts.values()):
        raise UsageError(
            f"{folder}: the weights of {metadata.name} contain the training images, so it can be shared only where "
            f"the scans may be"
        )
    with folder_claimed(out, EXPORT, overwrite, [folder]) as place, new_folder(place, EXPORT) as work:
        for kind, part in parts.items():
            name = metadata.parts.get(kind, "")
            own, _ = load_parts(folder / name)
            (work / name).mkdir(exist_ok=True)
            described = own.model_dump(exclude={"weights"}) | {"training_patients": []}
            save_plugin(work / name, "generator", part, described)
        if metadata.parts:
            save_joint(work, metadata.model_copy(update={"training_patients": []}))
        files = sorted(each.relative_to(work).as_posix() for each in work.rglob("*") if each.is_file())
    return {"out": str(out), "files": files}


def _files(contents: Mapping[str, bytes], work: Path) -> dict[str, Any]:
    for name, content in contents.items():
        (work / name).write_bytes(content)
    return {"files": sorted(contents)}


def _onnx(kind: str, plugin: Any, metadata: NetworkMetadata, work: Path) -> dict[str, Any]:
    """Write KIND.onnx, from images (b, c, *s) in [0, 1] to what `graph()` of the plugin gives, and KIND.json."""
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  (torch writes ONNX by it)
    except ImportError as error:
        raise MedaugError(f"--format onnx needs the extra packages of medaug[onnx] ({error})") from error
    spec, path, names = metadata.form.spec(), work / f"{kind}.onnx", OUTPUTS.get(kind, ("probabilities",))
    graph = plugin.graph()
    _written(graph, spec, names, path)
    onnx.checker.check_model(onnx.load(path))
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    far = _differences(graph, spec, names, session)
    beyond = [f"{name} by {value:.3g}" for name, value in far.items() if not value <= CLOSE[name]]
    if beyond:
        raise MedaugError(
            f"ONNX Runtime gives different results from the {kind} ({', '.join(beyond)}); nothing is written"
        )
    described = {
        "input": "images: float32 (batch, channels, *spatial) in [0, 1]", "form": metadata.form.model_dump(),
        "outputs": _outputs_in_words(kind, spec), kind: metadata.name, "weights": metadata.weights, "differences": far,
    }  # fmt: skip
    if kind == "detector":
        described["suppression"] = plugin.nms
    elif hasattr(plugin, "threshold"):
        described["threshold"] = plugin.threshold  # of all labels together, from which a pixel is marked
    (work / f"{kind}.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    return {"files": sorted(each.name for each in work.iterdir()), "differences": far}


def _outputs_in_words(kind: str, spec: ImageSpec) -> str:
    if kind == "detector":
        return "boxes: (batch, n, 4) x_min, y_min, x_max, y_max in pixels of the input; scores: (batch, n, labels)"
    if kind == "segmenter":
        labels = ", ".join(spec.mask_names or ("lesion",))
        return f"probabilities: (batch, 1 + labels, *spatial) of the background, then of {labels}; they sum to 1"
    return f"probabilities: (batch, classes) of {', '.join(spec.class_names)}; they sum to 1"


def _written(graph: Any, spec: ImageSpec, names: Sequence[str], path: Path) -> None:
    import contextlib
    import io
    import logging
    import warnings

    import torch

    example = torch.zeros(2, spec.channels, *spec.spatial)
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                graph, (example,), str(path), input_names=["images"], output_names=list(names),
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},), dynamo=True, external_data=False,
                opset_version=OPSET, verbose=False,
            )  # fmt: skip
    finally:
        logging.getLogger("torch.onnx").setLevel(level)


def _differences(graph: Any, spec: ImageSpec, names: Sequence[str], session: Any) -> dict[str, float]:
    """Return the largest difference of each output on noise, for another batch than the example's."""
    import torch

    images = np.random.default_rng(0).random((3, spec.channels, *spec.spatial), np.float32)
    with torch.no_grad():
        given = graph(torch.from_numpy(images))
    asked = [each.numpy() for each in (given if isinstance(given, (tuple, list)) else (given,))]
    found = session.run(list(names), {"images": images})
    pairs = zip(names, asked, found, strict=True)
    return {name: float(np.abs(one - other).max(initial=0)) for name, one, other in pairs}
