"""Run a detector over a store and write what it finds, in the pixels of the scans, for other programs."""

from medaug_cli.detecting.finding import FORMS, Found, detect

__all__ = ["FORMS", "Found", "detect"]
