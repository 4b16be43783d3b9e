"""Real training slices that lesions are put into, for every generator that does so.

A generator that keeps a `Bank` keeps training images: share its folder only where you may share the scans.
"""

from medaug_hosts.bank import Bank, aligned
from medaug_hosts.fading import MARGIN, faded, surroundings, window

__all__ = ["MARGIN", "Bank", "aligned", "faded", "surroundings", "window"]
