"""Plugins installed as distributions of their own, and the command line with them on the path."""

import os
import subprocess
import sys

CALL = """
import sys
import typer
from medaug_cli import errors
from medaug_cli.commands.plugins import app as plugins
from medaug_cli.commands.synthesize import synthesize
from medaug_cli.commands.train_gan import train_gan
app = typer.Typer(pretty_exceptions_enable=False)
app.add_typer(plugins, name="plugins")
app.command("train-gan")(train_gan)
app.command("synthesize")(synthesize)
try:
    app()
except errors.MedaugError as error:
    sys.stderr.write(f"medaug: {error}\\n")
    sys.exit(error.exit_code)
"""


def install(target, source):
    """Install a distribution into a folder, from its source, without the network."""
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
         "--disable-pip-version-check", "--target", target, source],
        check=True, capture_output=True,
    )  # fmt: skip
    return target


def write_distribution(target, name, code, entries, group="medaug.generators"):
    """Lay a distribution into a folder as an installer would: a module and its dist-info."""
    module = name.replace("-", "_")
    info = target / f"{module}-2.0.dist-info"
    info.mkdir(parents=True)
    (target / f"{module}.py").write_text(code, encoding="utf-8")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(
        f"[{group}]\n" + "".join(f"{k} = {module}:{v}\n" for k, v in entries.items()), encoding="utf-8"
    )
    return target


def medaug(folder, *arguments, plugins=(), code=0):
    """Run the command line in a folder with plugins on the path; return stdout, or stderr where it must fail."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, plugins)),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", CALL, *map(str, arguments)],
        cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done.stdout if code in (0, 1) else done.stderr
