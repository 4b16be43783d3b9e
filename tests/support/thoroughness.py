"""How many examples hypothesis draws: a third of those that are thorough, all of them where that is asked for."""

import os

from hypothesis import settings

THOROUGH = bool(os.environ.get("MEDAUG_THOROUGH"))
SHARE, LEAST = 3, 8


def drawn(thorough):
    """Return how many examples are drawn for a test that is thorough with so many."""
    return thorough if THOROUGH else min(thorough, max(LEAST, thorough // SHARE))


def examples(thorough, **more):
    """Return the settings of a test that is thorough with so many examples."""
    return settings(max_examples=drawn(thorough), **more)
