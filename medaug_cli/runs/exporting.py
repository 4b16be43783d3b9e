"""Hand on what was trained: a detector to other programs, a generator to other people."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli.errors import MedaugError, UsageError
from medaug_cli.plugin import ImageSpec
from medaug_cli.results import Kind, folder_claimed, new_folder
from medaug_cli.runs.loading import load_detector, load_parts, save_joint, save_plugin
from medaug_cli.runs.metadata import NetworkMetadata

ONNX = "onnx"
OPSET = 18
EXPORT = Kind("export", "an export of a detector or generator")
CLOSE = {"boxes": 0.05, "scores": 1e-3}  # pixels, and a score: what two programs' rounding may differ by


def export_detector(folder: Path, form: str, out: Path, overwrite: bool = False) -> dict[str, Any]:
    """Publish a folder with the detector of `folder` in another form; return what is in it.

    Raises UsageError for a form that the detector's plugin does not have, MedaugError where ONNX Runtime does not
    agree with the detector.
    """
    plugin, metadata = load_detector(folder)
    forms = plugin.capabilities.exports
    if form not in forms:
        choices = ", ".join(forms) or "none"
        raise UsageError(f"--format {form}: a {metadata.name} has no such form; its choices are {choices}")
    with folder_claimed(out, EXPORT, overwrite, [folder]) as place, new_folder(place, EXPORT) as work:
        said = _onnx(plugin, metadata, work) if form == ONNX else _files(plugin.files(form), work)
    return {"out": str(out), "format": form, **said}


def export_generator(folder: Path, out: Path, overwrite: bool = False) -> dict[str, Any]:
    """Publish a folder with what may be shared of the generator in `folder`; return what is in it.

    It holds generator.safetensors and generator.json: no discriminator, from which it can be told who was in the
    training set, no training image, no digest of a patient's id, and nothing that can run code.
    Raises UsageError for a generator whose weights hold training images.
    """
    metadata, parts = load_parts(folder)
    if any(part.capabilities.keeps_images for part in parts.values()):
        raise UsageError(
            f"{folder}: the weights of {metadata.name} hold the training images, so that nothing of it can be shared "
            "where the scans may not be"
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


def _onnx(plugin: Any, metadata: NetworkMetadata, work: Path) -> dict[str, Any]:
    """Write detector.onnx, images (b, c, *s) in [0, 1] to boxes (b, n, 2*d) and scores (b, n, k), and detector.json."""
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  (torch writes ONNX by it)
    except ImportError as error:
        raise MedaugError(f"--format onnx needs the extra packages of medaug[onnx] ({error})") from error
    spec, path = metadata.form.spec(), work / "detector.onnx"
    graph = plugin.graph()
    _written(graph, spec, path)
    onnx.checker.check_model(onnx.load(path))
    far = _differences(graph, spec, onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"]))
    beyond = [f"{name} by {value:.3g}" for name, value in far.items() if not value <= CLOSE[name]]
    if beyond:
        raise MedaugError(f"ONNX Runtime gives other results than the detector ({', '.join(beyond)}); none is written")
    described = {
        "input": "images: float32 (batch, channels, *spatial) in [0, 1]", "form": metadata.form.model_dump(),
        "outputs": "boxes: (batch, n, 4) x_min, y_min, x_max, y_max in pixels of the input; scores: (batch, n, labels)",
        "suppression": plugin.nms, "detector": metadata.name, "weights": metadata.weights, "differences": far,
    }  # fmt: skip
    (work / "detector.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    return {"files": sorted(each.name for each in work.iterdir()), "differences": far}


def _written(graph: Any, spec: ImageSpec, path: Path) -> None:
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
                graph, (example,), str(path), input_names=["images"], output_names=["boxes", "scores"],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},), dynamo=True, external_data=False,
                opset_version=OPSET, verbose=False,
            )  # fmt: skip
    finally:
        logging.getLogger("torch.onnx").setLevel(level)


def _differences(graph: Any, spec: ImageSpec, session: Any) -> dict[str, float]:
    """Return the largest difference of boxes (pixels) and of scores on noise, for another batch than the example's."""
    import torch

    images = np.random.default_rng(0).random((3, spec.channels, *spec.spatial), np.float32)
    with torch.no_grad():
        asked = [each.numpy() for each in graph(torch.from_numpy(images))]
    found = session.run(["boxes", "scores"], {"images": images})
    pairs = zip(("boxes", "scores"), asked, found, strict=True)
    return {name: float(np.abs(one - other).max(initial=0)) for name, one, other in pairs}
