"""Names and paths of what is evaluated, as they stand on a command line."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from medaug_cli.errors import UsageError
from medaug_cli.files import name_of


def named_paths(arguments: Sequence[str]) -> dict[str, list[Path]]:
    """Turn ["real-only", "both=runs/7,runs/8"] into names and paths, one a seed.

    Raises UsageError where a name appears twice.
    """
    named: dict[str, list[Path]] = {}
    for argument in arguments:
        name, equals, rest = argument.partition("=")
        if not equals or Path(argument).exists():
            rest = argument
            path = Path(argument)
            name = name_of(path.resolve() if path.is_dir() else path.with_suffix(""))
        if name in named:
            raise UsageError(
                f"two systems are called {name!r}; give each its own name, as in first={rest}, or name the seeds of "
                f"one system together, as in {name}=FIRST,SECOND"
            )
        paths = [rest] if Path(rest).exists() else rest.split(",")
        if not name or not all(paths):
            raise UsageError(f"{argument}: expected NAME=PATH, NAME=PATH,PATH for the seeds of one system, or a path")
        named[name] = [Path(path) for path in paths]
    return named


def seed_names(systems: Mapping[str, Sequence[Path]]) -> dict[str, list[str]]:
    """Return the name of each seed of each system: the system's own where it has but one."""
    return {
        name: [name] if len(paths) == 1 else [f"{name}, seed {i}" for i in range(1, len(paths) + 1)]
        for name, paths in systems.items()
    }


def seeds_of(systems: Mapping[str, Sequence[Path]]) -> dict[str, Path]:
    """Return the path of each seed by its name."""
    names = seed_names(systems)
    return {each: path for name, paths in systems.items() for each, path in zip(names[name], paths, strict=True)}
