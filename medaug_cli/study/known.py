"""Whether the images of a generator say what a task learns from: boxes, masks or classes."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from medaug_cli import registry
from medaug_cli.errors import BadInput, MedaugError, UsageError
from medaug_cli.plugin import Known, knowledge
from medaug_cli.runs.fitting import known_of
from medaug_cli.store import Store, conditions_in, kinds_apart
from medaug_cli.study.arms import EACH_CLASS
from medaug_cli.study.trials import StudyOptions

LEARNT_FROM = {"boxes": "boxes", "mask": "masks", "class": "classes"}


def refuse_unknowing(options: StudyOptions, store: Store) -> None:
    """Raise UsageError for an arm whose generator cannot say of its images what the study's task learns from.

    Raises BadInput where the store itself does not say that of any image.
    """
    if not options.task.usable(store).any():
        raise BadInput(options.task.wanting(store))
    need = options.task.needs
    for arm in options.arms:
        if arm.generator is None:
            continue
        plugin = arm.built(options.generator_settings)
        known = _known_of_each(arm.name, plugin, store) if arm.each_class else knowledge(plugin, store.spec)
        if need and need not in known:
            ways = [f"--gan-set {arm.generator}.{setting}" for setting in _ways(arm.generator, need, store)]
            if need == "class" and plugin.capabilities.learns and len(store.class_names) > 1:
                ways.append(f"--arm {arm.generator}{EACH_CLASS}")
            hint = f"; {' or '.join(ways)} makes it know them" if ways else ""
            raise UsageError(
                f"--arm {arm.name}: {arm.generator} does not know the {LEARNT_FROM[need]} of what it draws on this "
                f"store, and a {options.task.kind} learns from {LEARNT_FROM[need]}{hint}"
            )


def _known_of_each(name: str, plugin: Any, store: Store) -> set[Known]:
    """Return what generators know that are fitted on a class each; raise UsageError where there are not two classes."""
    found = kinds_apart(store, conditions_in(store, knowledge(plugin, store.spec)))
    if len(found) < 2:
        raise UsageError(
            f"--arm {name}: {store.path} has training images of {', '.join(found) or 'no class'}; expected two classes"
        )
    named: set[Known] = {"class"} if set(found) & set(store.class_names) else set()
    return {*known_of(plugin, store, found[0]), *named}


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
