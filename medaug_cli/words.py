"""Words that follow numbers."""


def counted(count: int, thing: str) -> str:
    """Return "1 image", "2 boxes" or "1,120 training images"."""
    several = "" if count == 1 else "es" if thing.endswith(("x", "s", "sh", "ch")) else "s"
    return f"{count:,} {thing}{several}"
