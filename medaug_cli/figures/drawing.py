"""What every drawing of matplotlib shares: names are shown as they are, and equal drawings have equal bytes."""

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from medaug_cli.tables import printable

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "medaug",
    "svg.fonttype": "none",
    "text.parse_math": False,  # a dollar in a name begins no formula
}


def quiet_matplotlib() -> Any:
    """Import matplotlib, without its words on where its caches are where there is no home to write to."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    import matplotlib

    return matplotlib


@contextmanager
def drawing(size: float = 9) -> Iterator[None]:
    """Draw in medaug's style, with letters of `size` points, while the block runs."""
    matplotlib = quiet_matplotlib()
    with matplotlib.rc_context({**STYLE, "font.size": size}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # of a name; SVG keeps its letters
        yield


def legend(owner: Any, named: Sequence[tuple[str, Any]], **how: Any) -> None:
    """Give a figure or axes a legend of names and what was drawn for them; a name may begin with an underscore."""
    made = owner.legend([handle for _, handle in named], [str(i) for i in range(len(named))], **how)
    for text, (name, _) in zip(made.get_texts(), named, strict=True):
        text.set_text(printable(name))


def as_svg(figure: Any) -> str:
    """Return a figure as SVG text."""
    target = io.BytesIO()
    figure.savefig(target, format="svg", metadata={"Date": None, "Creator": "medaug"})
    return target.getvalue().decode()
