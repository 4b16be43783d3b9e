"""Run the commands of a script in examples/ in this process, on toy values and with tiny networks."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template

from typer.testing import CliRunner

from medaug_cli.cli import app

EXAMPLES = Path(__file__).parents[2] / "examples"
FAST = {
    "evaluate": ("--resamples", "100"),
    "tsne": ("--perplexity", "5", "--max", "24"),
    "filter": ("--by", "none"),  # what a generator draws after three steps looks like no lesion
}
LINE = re.compile(r"^ *(?:meanwhile )?medaug (.*)$", re.MULTILINE)


def run_lines(script: str, values: Mapping[str, str], settings: Mapping[str, Sequence[str]]) -> list[str]:
    """Run every medaug command of a script with these values of its variables; return the commands' names.

    `settings` are what `--set` gives to a command's plugin, in place of the script's own of the same name.
    """
    run = []
    for line in LINE.findall((EXAMPLES / script).read_text(encoding="utf-8")):
        command, *rest = shlex.split(Template(line).substitute(values))
        rest = [word for word in rest if word not in ("--resume", "--overwrite")]
        for setting in settings.get(command, ()):
            name = setting.partition("=")[0]
            known = [i for i, word in enumerate(rest) if word.startswith(f"{name}=") and rest[i - 1] == "--set"]
            for i in known:
                rest[i] = setting
            rest += [] if known else ["--set", setting]
        result = CliRunner().invoke(app, [command, *rest, *FAST.get(command, ())])
        assert result.exit_code == 0, (line, result.exception, result.output)
        run.append(command)
    return run
