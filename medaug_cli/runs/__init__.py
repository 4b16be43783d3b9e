"""Training runs: their folders, their checkpoints, and the plugins they fit, save and load."""

from medaug_cli.runs.by_class import ByClass
from medaug_cli.runs.each_class import train_each_class
from medaug_cli.runs.exporting import export_generator, export_network
from medaug_cli.runs.fitting import Budget, Progress, RunOptions, check_capable, train_generator
from medaug_cli.runs.loading import check_detector, check_network, load_detector, load_generator, load_network
from medaug_cli.runs.metadata import GeneratorMetadata, NetworkMetadata
from medaug_cli.runs.networks import train_detector, train_network

__all__ = [
    "Budget",
    "ByClass",
    "GeneratorMetadata",
    "NetworkMetadata",
    "Progress",
    "RunOptions",
    "check_capable",
    "check_detector",
    "check_network",
    "export_generator",
    "export_network",
    "load_detector",
    "load_generator",
    "load_network",
    "train_detector",
    "train_each_class",
    "train_generator",
    "train_network",
]
