"""The commands of `medaug`, in groups: each is built when it is asked for, and help lists them all."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from medaug_cli.commands.console import answering

Groups = Mapping[str, Mapping[str, Callable[..., None] | typer.Typer]]
Built = TyperCommand | TyperGroup


class Commands(Mapping[str, Built]):
    """Commands by name; to build one from its options takes milliseconds, to build all of them a tenth of a second."""

    def __init__(self, groups: Groups):
        self._panels = {name: panel for panel, commands in groups.items() for name in commands}
        self._groups = groups
        self._built: dict[str, Built] = {}

    def __getitem__(self, name: str) -> Built:
        if name not in self._built:
            panel = self._panels[name]
            self._built[name] = _built(name, self._groups[panel][name], panel)
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._panels)

    def __len__(self) -> int:
        return len(self._panels)


def _built(name: str, command: Callable[..., None] | typer.Typer, panel: str) -> Built:
    alone = typer.Typer(rich_markup_mode=None, pretty_exceptions_show_locals=False)
    if isinstance(command, typer.Typer):
        alone.add_typer(command, name=name, rich_help_panel=panel)
    else:
        alone.command(name, rich_help_panel=panel)(answering(command))
    made = get_group(alone).commands[name]
    assert isinstance(made, Built)
    return made


class InGroups(TyperGroup):
    """The commands of `groups`, which help lists group by group."""

    groups: ClassVar[Groups]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands: Any = Commands(self.groups)

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names, in order."""
        return list(self.commands)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section a group, wrapped and never cut."""
        width = max(map(len, self.commands))
        for panel, names in self.groups.items():
            rows = [(name.ljust(width), self.commands[name].get_short_help_str(limit=1000)) for name in names]
            with formatter.section(panel):
                formatter.write_dl(rows)
