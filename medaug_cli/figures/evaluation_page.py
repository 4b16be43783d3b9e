"""The page of an evaluation: one HTML file that holds all its pictures and loads nothing."""

from base64 import b64encode
from collections.abc import Sequence

from medaug_cli.figures.pages import filled
from medaug_cli.metrics.details import details
from medaug_cli.metrics.report import Metrics
from medaug_cli.metrics.table import data_note, tables


def evaluation_html(metrics: Metrics, froc: str, overlays: Sequence[tuple[str, bytes]], overlay_note: str) -> str:
    """Return the page with the tables, the FROC (SVG text) and named overlays (PNG bytes)."""
    return filled(
        "figures/evaluation_page.html",
        title="Detection results",
        data_note=data_note(metrics),
        tables=tables(metrics),
        details=details(metrics),
        froc=b64encode(froc.encode()).decode(),
        overlays=[(name, b64encode(picture).decode()) for name, picture in overlays],
        overlay_note=overlay_note,
        version=metrics.tool_version,
    )
