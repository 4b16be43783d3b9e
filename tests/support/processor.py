"""How much of the processor's time each test takes, with the programs that it starts: `pytest --cpu 20`."""

import os
from collections import Counter

import pytest


def spent():
    """Return the seconds of this process and of the children that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class Processor:
    """Measures the preparation, the run and the end of each test, and tells the dearest tests and files."""

    def __init__(self, most):
        self._most, self._tests = most, Counter()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        """Measure a test with its fixtures, as far as they are made or removed for it."""
        before = spent()
        try:
            return (yield)
        finally:
            self._tests[item.nodeid] += spent() - before

    def pytest_terminal_summary(self, terminalreporter):
        """Write the dearest files and tests."""
        files = Counter()
        for name, seconds in self._tests.items():
            files[name.partition("::")[0]] += seconds
        terminalreporter.section(f"processor time: {sum(files.values()):.0f} s")
        for found in (files, self._tests):
            for name, seconds in found.most_common(self._most):
                terminalreporter.write_line(f"{seconds:8.2f} s  {name}")
