"""One line of progress that fits its terminal: title, bar, share, time left, and two numbers with their names."""

from collections.abc import Sequence
from itertools import product

FULL, EMPTY = "━", "─"
LEAST, MOST = 6, 40  # columns of the bar


def progress_line(title: str, share: float | None, left: str, numbers: Sequence[str], width: int) -> str:
    """Return a line of at most `width` columns; what does not fit is shortened from the bar to the numbers.

    `share` is None where nobody knows how much there is to do. A terminal of 60 columns has room for both numbers.
    """
    percent = "    " if share is None else f"{100 * min(max(share, 0), 1):3.0f} %"
    both = ", ".join(numbers[:2])
    titles = dict.fromkeys((title, title.partition(" ")[0]))
    for said, name in product(dict.fromkeys((both, *numbers[:1], "")), titles):
        tail = "  ".join(part for part in (percent, left, said) if part.strip())
        room = width - len(name) - len(tail) - 2
        if room >= LEAST:
            return f"{name} {bar(share, min(MOST, room))} {tail}"
    return f"{title} {percent}"[:width]


def bar(share: float | None, width: int) -> str:
    """Return a bar of so many columns."""
    full = 0 if share is None else int(width * min(max(share, 0), 1) + 1e-9)
    return FULL * full + EMPTY * (width - full)


def in_words(title: str, share: float | None, left: str, numbers: Sequence[str]) -> str:
    """Return a sentence for a log: `train-gan boxgan: 7 % done, 27 min left; 1,120 images, loss_d 1.56`."""
    done = "at work" if share is None else f"{100 * min(max(share, 0), 1):.0f} % done"
    first = ", ".join(part for part in (done, left) if part)
    return f"{title}: " + "; ".join(part for part in (first, ", ".join(numbers[:2])) if part)


def duration(seconds: float) -> str:
    """Return "45 s", "27 min" or "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    return f"{hours / 24:.0f} days"
