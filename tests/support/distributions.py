"""Plugins installed as distributions of their own, and the command line with them on the path."""

import importlib
import subprocess
import sys

from forking import spoken


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

    def prepare():
        sys.path[:0] = map(str, plugins)
        importlib.invalidate_caches()

    status, printed, said = spoken(arguments, folder, prepare)
    assert status == code, said + printed
    assert "Traceback" not in said
    return printed if code in (0, 1) else said
