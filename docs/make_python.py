"""Write docs/python.md: the functions of medaug that programs may call, with their types, from the code itself."""

import ast
import importlib
import inspect
import textwrap
from pathlib import Path

PAGE = Path(__file__).with_name("python.md")
HEAD = """# From Python

What the commands call can be called from Python, too: options are dataclasses, results are returned or published as the
commands publish them, and what goes wrong is raised as a `MedaugError` with one sentence. Made from the code by
`python docs/make_python.py`. What a plugin imports is `medaug_cli.plugin` ([a plugin of your own](own-plugin.md)).
Names that are not listed here may change.

```python
from pathlib import Path

from medaug_cli.preprocess.pipeline import PreprocessOptions, preprocess
from medaug_cli.preprocess.recipe import Recipe

def make_store(scans: Path, boxes: Path, out: Path):
    return preprocess(PreprocessOptions(scans, out, boxes=boxes, recipe=Recipe(size=128, strip="none")))
```
"""
SHOWN = {  # heading -> module, names
    "Stores": ("medaug_cli.store", ("open_store", "Store")),
    "Pre-processing": ("medaug_cli.preprocess.pipeline", ("preprocess", "PreprocessOptions")),
    "How every scan is treated": ("medaug_cli.preprocess.recipe", ("Recipe",)),
    "Training": ("medaug_cli.runs", ("train_generator", "train_network", "RunOptions", "load_network")),
    "Drawing images": ("medaug_cli.synthesis", ("synthesize", "SynthesisOptions")),
    "Filtering": ("medaug_cli.lesion_filter", ("sift", "FilterOptions")),
    "New scans": ("medaug_cli.predicting", ("predict", "PredictOptions", "Prediction")),
    "Comparing images": ("medaug_cli.embedding", ("draw_map", "MapOptions")),
    "Studies": ("medaug_cli.study", ("run_study", "StudyOptions", "parse_arm")),
    "Hand-off": ("medaug_cli.export", ("export_store",)),
    "Checking a plugin": ("medaug_cli.testing", ("check_plugin", "check_generator", "check_detector", "check_reader")),
    "Errors": ("medaug_cli.errors", ("MedaugError", "UsageError", "BadInput", "MissingPlugin", "Interrupted")),
}


def reference() -> str:
    """Return the page."""
    parts = [HEAD]
    for heading, (module, names) in SHOWN.items():
        parts.append(f"## {heading}\n\n`from {module} import {', '.join(names)}`\n")
        parts += [f"```python\n{declared(getattr(importlib.import_module(module), name))}\n```\n" for name in names]
    return "\n".join(parts)


def declared(one: object) -> str:
    """Return a function, or a class with its fields and public methods, without what they do."""
    source = textwrap.dedent(inspect.getsource(one))  # type: ignore[arg-type]
    lines, (node,) = source.splitlines(), ast.parse(source).body
    if isinstance(node, ast.FunctionDef):
        return "\n".join(_head(node, lines))
    assert isinstance(node, ast.ClassDef)
    first = node.decorator_list[0].lineno if node.decorator_list else node.lineno
    kept = lines[first - 1 : node.body[0].end_lineno]
    for each in node.body[1:]:
        if isinstance(each, ast.FunctionDef) and not each.name.startswith("_"):
            kept += ["", *_head(each, lines)]
        elif isinstance(each, ast.AnnAssign):
            kept += lines[each.lineno - 1 : each.end_lineno]
    return "\n".join(kept)


def _head(node: ast.FunctionDef, lines: list[str]) -> list[str]:
    """Return the lines of a function up to the end of its docstring."""
    first = node.decorator_list[0].lineno if node.decorator_list else node.lineno
    documented = ast.get_docstring(node) is not None
    last = node.body[0].end_lineno if documented else node.body[0].lineno - 1
    return [line.removesuffix("  # fmt: skip") for line in lines[first - 1 : last]]


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
