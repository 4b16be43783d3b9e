"""Evaluate detectors on a store or on COCO files, and publish tables, curves and pictures as one folder."""

from medaug_cli.evaluation.arguments import named_paths
from medaug_cli.evaluation.folder import Request
from medaug_cli.evaluation.from_files import evaluate_files, twelve_of_files
from medaug_cli.evaluation.from_store import evaluate_store

__all__ = ["Request", "evaluate_files", "evaluate_store", "named_paths", "twelve_of_files"]
