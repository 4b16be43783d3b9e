"""Training runs: their folders, their checkpoints, and the plugins they fit, save and load."""

from medaug_cli.runs.exporting import export_detector, export_generator
from medaug_cli.runs.fitting import Budget, Progress, RunOptions, check_capable, train_detector, train_generator
from medaug_cli.runs.loading import check_detector, load_detector, load_generator
from medaug_cli.runs.metadata import DetectorMetadata, GeneratorMetadata

__all__ = [
    "Budget",
    "DetectorMetadata",
    "GeneratorMetadata",
    "Progress",
    "RunOptions",
    "check_capable",
    "check_detector",
    "export_detector",
    "export_generator",
    "load_detector",
    "load_generator",
    "train_detector",
    "train_generator",
]
