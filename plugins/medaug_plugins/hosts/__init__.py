"""Real training images that lesions are put into, for every generator that does so.

A generator that keeps a `Bank` keeps training images: share its folder only where you may share the scans.
"""

from medaug_plugins.hosts.asking import Asked, boxes_of, filled, on_host, outline, with_outlines, without_lesion
from medaug_plugins.hosts.bank import Bank, aligned, lesion_weights
from medaug_plugins.hosts.fading import surroundings
from medaug_plugins.hosts.healing import healed, lesion_free, toned

__all__ = [
    "Asked",
    "Bank",
    "aligned",
    "boxes_of",
    "filled",
    "healed",
    "lesion_free",
    "lesion_weights",
    "on_host",
    "outline",
    "surroundings",
    "toned",
    "with_outlines",
    "without_lesion",
]
