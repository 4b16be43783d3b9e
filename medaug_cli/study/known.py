"""Whether the images of a generator say what a task learns from: boxes, masks or classes."""

from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING

from medaug_cli import registry
from medaug_cli.errors import MedaugError, UsageError
from medaug_cli.plugin import knowledge
from medaug_cli.store import Store

if TYPE_CHECKING:
    from medaug_cli.study.running import StudyOptions

LEARNT_FROM = {"boxes": "boxes", "mask": "masks", "class": "classes"}


def refuse_unknowing(options: "StudyOptions", store: Store) -> None:
    """Raise UsageError for an arm whose generator cannot say of its images what the study's task learns from."""
    need = options.task.needs
    for arm in options.arms:
        if arm.generator is None:
            continue
        if arm.each_class:
            _check_classes(arm.name, store)
            if need == "class":
                continue
        settings = options.generator_settings.get(arm.generator, {})
        known: frozenset[str] = knowledge(registry.build("generator", arm.generator, settings), store.spec)
        if need and need not in known:
            ways = " or ".join(f"--gan-set {arm.generator}.{setting}" for setting in _ways(arm.generator, need, store))
            hint = f"; {ways} makes it know them" if ways else ""
            raise UsageError(
                f"--arm {arm.name}: {arm.generator} does not know the {LEARNT_FROM[need]} of what it draws on this "
                f"store, and a {options.task.kind} learns from {LEARNT_FROM[need]}{hint}"
            )


def _check_classes(name: str, store: Store) -> None:
    if len(store.class_names) < 2:
        raise UsageError(f"--arm {name}: {store.path} has {len(store.class_names)} classes; expected two or more")


def _ways(generator: str, need: str, store: Store) -> Iterator[str]:
    """Yield the settings, as KEY=VALUE, with which a generator knows what is needed."""
    for field in fields(registry.load("generator", generator)):  # type: ignore[arg-type]
        for choice in field.metadata.get("choices") or ():
            try:
                known: frozenset[str] = knowledge(
                    registry.build("generator", generator, {field.name: choice}), store.spec
                )
            except MedaugError:  # a choice that does not stand alone
                continue
            if need in known:
                yield f"{field.name}={choice}"
