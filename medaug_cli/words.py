"""Words that follow numbers, shares, and lengths of time."""


def counted(count: int, thing: str) -> str:
    """Return "1 image", "2 boxes" or "1,120 training images"."""
    several = "" if count == 1 else "es" if thing.endswith(("x", "s", "sh", "ch")) else "s"
    return f"{count:,} {thing}{several}"


def percent(share: float, digits: int = 0) -> str:
    """Return "80 %", as the tables and pages write it."""
    return f"{100 * share:.{digits}f} %"


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
