"""Join the parts of `medaug preprocess`: their stores, reports and boxes."""

from collections.abc import Sequence
from pathlib import Path

from medaug_cli.errors import UsageError
from medaug_cli.files import read_json
from medaug_cli.preprocess.report import PreprocessReport, joined
from medaug_cli.preprocess.results import beside, publish_pages, publish_report
from medaug_cli.store import Store
from medaug_cli.store.joining import join_stores


def join_parts(paths: Sequence[Path], out: Path, overwrite: bool = False) -> Store:
    """Publish one store of several; where each has a preprocess.json beside it, also the pages of them all."""
    if any(path.resolve().parent == out.resolve().parent for path in paths):
        raise UsageError(f"{out} would stand beside a part, whose boxes.json it would replace; choose another folder")
    with_reports = all(beside(path, "preprocess.json").is_file() for path in paths)

    def join_reports(parts: list[Store]) -> None:
        if with_reports:
            reports = [read_json(beside(part.path, "preprocess.json"), PreprocessReport) for part in parts]
            publish_report(out, joined(reports))

    store = join_stores(paths, out, overwrite, join_reports)
    if with_reports:
        publish_pages(out, store)
    return store
