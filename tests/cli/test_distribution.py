"""What is built for others is whole: the wheel, and the wheel of the source distribution."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hatchling.build import build_sdist, build_wheel

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build a source distribution of the checkout, and a wheel of what it unpacks to."""
    folder, here = tmp_path_factory.mktemp("built"), Path.cwd()
    try:
        os.chdir(ROOT)
        with tarfile.open(folder / build_sdist(str(folder))) as archive:
            archive.extractall(folder, filter="data")
        (source,) = (each for each in folder.iterdir() if each.is_dir())
        os.chdir(source)
        return source, folder / build_wheel(str(folder))
    finally:
        os.chdir(here)


def files_of(package):
    return {
        str(file.relative_to(package.parent))
        for file in package.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def test_the_wheel_holds_every_file_of_the_packages(built):
    held = set(zipfile.ZipFile(built[1]).namelist())
    for package in ("medaug_cli", "data_schemas", "plugins/medaug_plugins"):
        assert files_of(ROOT / package) - held == set()


def test_the_source_distribution_holds_tests_docs_and_examples(built):
    for name in ("tests/cli/test_distribution.py", "docs/README.md", "examples/demo.sh", "constraints.txt", "LICENSE"):
        assert (built[0] / name).is_file(), name


def test_an_installed_wheel_works_outside_the_clone(built, tmp_path):
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*pip, str(built[1])], check=True, capture_output=True)
    told = subprocess.run(
        [sys.executable, "-c", "import medaug_cli, runpy, sys; print(medaug_cli.__file__, file=sys.stderr); "
         "sys.argv = ['medaug', 'plugins']; from medaug_cli.cli import main; main()"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(site)}, capture_output=True, text=True, encoding="utf-8",
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert told.stderr.startswith(str(site))
    assert "boxgan" in told.stdout
