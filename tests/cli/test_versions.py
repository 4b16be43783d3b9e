"""The lowest versions that are tested are those that are accepted."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_lowest_versions_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    accepted = dict(re.fullmatch(r"([A-Za-z0-9-]+)>=([0-9.]+)", line).groups() for line in project["dependencies"])
    lines = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
    lowest = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert {name.lower() for name in accepted} == {name.lower() for name in lowest}
    for name, version in accepted.items():
        (tested,) = (own for other, own in lowest.items() if other.lower() == name.lower())
        assert f"{tested}.".startswith(f"{version}."), name
