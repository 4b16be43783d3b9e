"""Real training slices that lesions are put into, for every generator that does so.

A generator that keeps a `Bank` keeps training images: share its folder only where you may share the scans.
"""

from medaug_plugins.hosts.asking import Asked, filled, on_host, outline, with_outlines, without_lesion
from medaug_plugins.hosts.bank import Bank, aligned
from medaug_plugins.hosts.fading import MARGIN, faded, surroundings, window
from medaug_plugins.hosts.healing import healed, lesion_free, toned

__all__ = [
    "MARGIN",
    "Asked",
    "Bank",
    "aligned",
    "faded",
    "filled",
    "healed",
    "lesion_free",
    "on_host",
    "outline",
    "surroundings",
    "toned",
    "window",
    "with_outlines",
    "without_lesion",
]
