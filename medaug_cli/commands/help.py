"""How `medaug --help` lists the commands: in groups, each with its whole first sentence."""

from typing import Any

from typer.core import TyperCommand, TyperGroup


class InGroups(TyperGroup):
    """A group of commands whose help lists them under the `rich_help_panel` that each was registered with."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section a group, wrapped and never cut."""
        width = max(map(len, self.commands))
        panels: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            assert isinstance(command, TyperCommand | TyperGroup)
            row = (name.ljust(width), command.get_short_help_str(limit=1000))
            panels.setdefault(str(command.rich_help_panel), []).append(row)
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl(rows)
