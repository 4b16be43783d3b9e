"""One line of progress that fits its terminal: title, bar, share, time left, and two numbers with their names."""

import re
from collections.abc import Iterator, Sequence

FULL, EMPTY = "━", "─"
LEAST, TIGHT, MOST = 6, 3, 40  # columns of the bar
HOURS = re.compile(r"(\d+) h (\d+) min")


def progress_line(title: str, share: float | None, left: str, numbers: Sequence[str], width: int) -> str:
    """Return a line of at most `width` columns; 60 have room for all of a command's own.

    `share` is None where nobody knows how much there is to do. What does not fit is shortened: first the bar, then the
    title, then spaces and words, then the numbers.
    """
    for name, tail, least in _tails(title, percent(share), left, numbers):
        room = width - len(name) - len(tail) - 2
        if room >= least:
            return f"{name} {bar(share, min(MOST, room))} {tail}"
    return f"{title} {percent(share)}"[:width]


def _tails(title: str, share: str, left: str, numbers: Sequence[str]) -> Iterator[tuple[str, str, int]]:
    """Yield (title, what stands behind the bar, the least columns of the bar), the longest first."""
    first, plain = title.partition(" ")[0], together(numbers)
    for said in (plain, "".join(numbers[:1]), ""):
        roomy = "  ".join(part for part in (share, left, said) if part)
        short = HOURS.sub(lambda found: f"{int(found[1]) + int(found[2]) / 60:.1f} h", left)
        tight = " ".join(part for part in (share, short, said.replace(" of ", "/")) if part)
        yield from ((title, roomy, LEAST), (first, roomy, LEAST), (title, tight, LEAST), (first, tight, TIGHT))


def together(numbers: Sequence[str]) -> str:
    """Return "1,120 images, loss_d 1.56", and "233 of 647 scans in 2 min"."""
    return ", ".join(numbers[:2]).replace(", in ", " in ")


def percent(share: float | None) -> str:
    """Return " 37 %"; 100 % only at the end, and nothing where nobody knows."""
    return "" if share is None else f"{int(100 * min(max(share, 0), 1) + 1e-9):3d} %"


def bar(share: float | None, width: int) -> str:
    """Return a bar of so many columns."""
    full = 0 if share is None else int(width * min(max(share, 0), 1) + 1e-9)
    return FULL * full + EMPTY * (width - full)


def in_words(title: str, share: float | None, left: str, numbers: Sequence[str]) -> str:
    """Return a sentence for a log: `train-gan boxgan: 7 % done, 27 min left; 1,120 images, loss_d 1.56`."""
    done = "at work" if share is None else f"{percent(share).strip()} done"
    first = ", ".join(part for part in (done, left) if part)
    return f"{title}: " + "; ".join(part for part in (first, together(numbers)) if part)
