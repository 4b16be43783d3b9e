"""How `medaug --help` lists the commands: in groups, each with its whole first sentence."""

from typing import Any

from typer.core import TyperGroup


class InGroups(TyperGroup):
    """A group of commands whose help lists them under the `rich_help_panel` that each was registered with."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section a group, wrapped and never cut."""
        width = max(map(len, self.commands))
        for panel in dict.fromkeys(command.rich_help_panel for command in self.commands.values()):
            with formatter.section(panel):
                formatter.write_dl(
                    [
                        (name.ljust(width), command.get_short_help_str(limit=1000))
                        for name, command in self.commands.items()
                        if command.rich_help_panel == panel
                    ]
                )
