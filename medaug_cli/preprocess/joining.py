"""Join the parts of `medaug preprocess`: their stores, reports and boxes."""

from collections.abc import Callable, Sequence
from pathlib import Path

from medaug_cli.errors import UsageError
from medaug_cli.locks import alone
from medaug_cli.preprocess.report import joined
from medaug_cli.preprocess.results import beside, check_outputs, read_report, write_beside
from medaug_cli.store import Store, open_store
from medaug_cli.store.joining import join_stores


def join_parts(
    paths: Sequence[Path],
    out: Path,
    overwrite: bool = False,
    report: Callable[[int, int, str], None] = lambda done, of, words: None,
) -> Store:
    """Publish one store of several; where each has a preprocess.json beside it, also the pages of them all."""
    with_reports = all(_has_report(path) for path in paths)
    if with_reports and any(path.resolve().parent == out.resolve().parent for path in paths):
        raise UsageError(f"{out} would stand beside a part, whose boxes.json it would replace; choose another folder")

    def write_joined(parts: list[Store], store: Store, folder: Path) -> None:
        write_beside(store, folder, joined([read_report(part.path, part) for part in parts]))

    if not with_reports:
        return join_stores(paths, out, overwrite, report=report)
    check_outputs(out, None, overwrite, resume=False)
    with alone(beside(out, "boxes.json")):  # of one store in a folder
        check_outputs(out, None, overwrite, resume=False)
        return join_stores(paths, out, overwrite, write_joined, report)


def _has_report(path: Path) -> bool:
    """Tell whether a report stands beside a store that is its own, and not that of another store in the folder."""
    return beside(path, "preprocess.json").is_file() and open_store(path).info.command == "preprocess"
