"""`python -m data_schemas` writes the schemas anew; `--check` exits 1 where a file is not what would be written."""

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

FOLDER = Path(__file__).parent
DIALECT = "https://json-schema.org/draft/2020-12/schema"
BEYOND = {  # name -> what medaug checks and no schema can say
    "boxes": "Ids are unique; a box has 4 numbers (6 where its image has a depth), each high corner exceeds its low "
    "corner, and no corner lies outside the image.",
    "coco": "A bbox has 4 numbers (6 in 3D) and no negative size; every id that is referred to exists, once.",
    "detections": "A bbox has 4 numbers (6 in 3D) and no negative size; images and categories are those of the truth.",
}
MODELS = {  # name -> module, model, what the file is
    "boxes": ("medaug_cli.boxes", "BoxesFile", "boxes.json: the boxes of a set of images"),
    "store": ("medaug_cli.store.model", "StoreInfo", "the `info` attribute of a store (.h5): what made it"),
    "folds": ("medaug_cli.store.folds", "Folds", "folds.json: in which fold each patient is tested on"),
    "filter": ("medaug_cli.lesion_filter", "FilterReport", "filter.json: why each synthetic image is kept or dropped"),
    "preprocess": ("medaug_cli.preprocess.report", "PreprocessReport", "preprocess.json: what happened to every slice"),
    "metrics": ("medaug_cli.metrics.report", "Metrics", "metrics.json: what `medaug evaluate` finds"),
    "task-metrics": ("medaug_cli.tasks.report", "TaskMetrics", "metrics.json of classifiers and segmenters"),
    "tsne": ("medaug_cli.embedding", "MapReport", "tsne.json: the map of `medaug tsne` and its numbers"),
    "study": ("medaug_cli.study", "StudyReport", "study.json: what `medaug study` finds"),
    "turing-key": ("medaug_cli.turing", "Key", "key.json of `medaug turing make`: what each image of a study is"),
    "turing-answers": ("medaug_cli.turing", "AnswerFile", "what a reader's page of `medaug turing make` exports"),
    "turing": ("medaug_cli.turing", "TuringReport", "turing.json: what `medaug turing score` finds"),
    "generator": ("medaug_cli.runs.metadata", "GeneratorMetadata", "generator.json: a trained generator"),
    "weights-card": ("medaug_cli.weights", "WeightsCard", "card.json: what is to be known of installed weights"),
    "detector": ("medaug_cli.runs.metadata", "NetworkMetadata", "detector.json: a trained detector"),
    "classifier": ("medaug_cli.runs.metadata", "NetworkMetadata", "classifier.json: a trained classifier"),
    "segmenter": ("medaug_cli.runs.metadata", "NetworkMetadata", "segmenter.json: a trained segmenter"),
    "coco": ("medaug_cli.metrics.coco_files", "TRUTH", "COCO annotations, as `medaug evaluate --truth` reads them"),
    "detections": ("medaug_cli.metrics.coco_files", "EITHER", "COCO detections, as `medaug evaluate` reads them"),
}


def schema(name: str) -> dict[str, Any]:
    """Return the schema of a file as the installed models define it."""
    module, model, title = MODELS[name]
    checked = getattr(import_module(module), model)
    found = checked.json_schema() if isinstance(checked, TypeAdapter) else checked.model_json_schema()
    comment = {"$comment": f"Checked besides: {BEYOND[name]}"} if name in BEYOND else {}
    return {"$schema": DIALECT, "$id": f"urn:medaug:schema:{name}:1", **comment, **found, "title": title}


def text(name: str) -> str:
    """Return the content of a schema's file."""
    return json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n"


def drifted() -> list[str]:
    """Return the files that are missing, out of date, or without a model."""
    wanted = {f"{name}.schema.json": text(name) for name in MODELS}
    there = {file.name: file.read_text(encoding="utf-8") for file in FOLDER.glob("*.schema.json")}
    return sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))


def main(arguments: list[str]) -> int:
    """Write the schemas, or only compare them (`--check`); return the exit code."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write("usage: python -m data_schemas [--check]\n")
        return 2
    changed = drifted()
    if arguments:
        sys.stderr.writelines(f"{name} is not what the models say; run python -m data_schemas\n" for name in changed)
        return 1 if changed else 0
    for name in changed:
        file = FOLDER / name
        model = name.removesuffix(".schema.json")
        if model in MODELS:
            file.write_text(text(model), encoding="utf-8")
        else:
            file.unlink()
        sys.stdout.write(f"{name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
