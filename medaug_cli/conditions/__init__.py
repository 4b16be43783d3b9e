"""Conditions for synthesis: templates out of boxes.json or a store, and slightly different ones."""

from medaug_cli.conditions.templates import (
    Template,
    choose,
    condition_of,
    label_numbers,
    refuse_stretched,
    resized,
    specks,
    templates,
)

__all__ = [
    "Template",
    "choose",
    "condition_of",
    "label_numbers",
    "refuse_stretched",
    "resized",
    "specks",
    "templates",
]
