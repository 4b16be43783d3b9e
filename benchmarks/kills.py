"""Kill every writing command by SIGKILL on its way, start pairs at once, and count what was lost or mixed.

    python benchmarks/kills.py --rounds 20

Most kills fall right before one of the calls that change a file, which a dry run has counted: evenly spread over
them, so that hardly any comes before the work or after it; the rest at random times. A kill is right if what stands
there is nothing, the old result or the new one, if every input is as it was, and if the same command with --resume
(or --overwrite, where a command does not resume) then gives what an uninterrupted one gives. Of a pair of the same
line the second waits or is refused in a sentence, and the result is of one of the two. The commands run in forks of
this process with the tests' small plugins: start-up is paid once. What differs is named on stderr.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "support")]

AT_TIMES = 5  # one kill of so many falls at a random time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", nargs="*", help="Commands; default: all.")
    chosen = parser.parse_args()
    _install_small_plugins()
    _repeat_secrets()
    from every_writing_command import EVERY

    print("| command | killed at work | nothing, old or new | resumed as uninterrupted | pairs | refused | one run's |")
    print("| --- | --: | --: | --: | --: | --: | --: |")
    for name in chosen.only or EVERY:
        start = time.monotonic()
        try:
            print(_row(name, EVERY[name], chosen.rounds), flush=True)
        except AssertionError as error:
            print(f"{name} does not run: {error}", file=sys.stderr, flush=True)
        print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)


def _row(name: str, writing, rounds: int) -> str:
    """Try one command; return its row of the table."""
    kills, pairs = Counter(), Counter()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "place"
        place.mkdir()
        writing.prepare(place)
        tried = _Rounds(name, writing, place)
        tried.count_kills(rounds, kills)
        tried.count_pairs(rounds, pairs)
    return (
        f"| {name} | {kills['killed']} of {rounds} | {kills['whole']} | {kills['resumed']} | "
        f"{rounds} | {pairs['refused']} | {pairs['one']} |"
    )


def _install_small_plugins() -> None:
    from conftest import TINY

    from medaug_cli import registry

    found = registry.entry_points
    registry.entry_points = lambda group: [*found(group=group), *(one for one in TINY if one.group == group)]


def _repeat_secrets() -> None:
    """Let what is drawn from the system's entropy, as the salts of a reader study, be the same in every fork."""
    import random
    import secrets

    drawn = random.Random(0)
    secrets.token_hex = lambda size=32: drawn.randbytes(size).hex()
    secrets.randbits = drawn.getrandbits


def _warm_up(writing, place: Path) -> None:
    """Run a command in this process, so that its forks find everything loaded."""
    import contextlib

    import torch
    from typer.testing import CliRunner

    from medaug_cli.cli import app

    torch.set_num_threads(1)
    with contextlib.chdir(place):
        result = CliRunner().invoke(app, [*writing.command])
    assert result.exit_code == 0, result.exception or result.output


class _Rounds:
    """The rounds of one command in one place, which is laid anew for each."""

    def __init__(self, name: str, writing, place: Path):
        self.name, self.writing, self.place = name, writing, place
        self.fresh = shutil.copytree(place, place.with_name("fresh"))
        self.inputs = _content(place)
        _warm_up(writing, place)
        self.lay(self.fresh)
        start = time.monotonic()
        self._run()
        self.lasts = time.monotonic() - start
        self.new, self.newer = writing.results(place), shutil.copytree(place, place.with_name("newer"))
        self.old = self.older = None
        if writing.replaces:
            self.lay(self.fresh)
            self._run(*writing.other)
            self.old, self.older = writing.results(place), shutil.copytree(place, place.with_name("older"))

    def lay(self, state: Path) -> None:
        """Put what a state held in its place."""
        shutil.rmtree(self.place)
        shutil.copytree(state, self.place)

    def _run(self, *more: str) -> None:
        from forking import medaug

        code = medaug([*self.writing.command, *more], self.place)
        assert code == 0, (self.place / "said.txt").read_text(encoding="utf-8")

    def count_kills(self, rounds: int, found: Counter) -> None:
        """Kill a new run in even rounds, and one that replaces an old result in odd ones."""
        from forking import changes_of, dying, medaug

        plans = [(self.fresh, [], self.writing.again, (None, self.new))]
        if self.older is not None:
            plans.append((self.older, ["--overwrite"], "--overwrite", (self.old, self.new)))
        counts = []
        for state, more, _, _ in plans:
            self.lay(state)
            counts.append(changes_of([*self.writing.command, *more], self.place, inside=True))
        times = np.random.default_rng(0).uniform(0.05, 0.7, rounds) * self.lasts
        for i in range(rounds):
            state, more, again, right = plans[i % len(plans)]
            self.lay(state)
            at = int((i + 0.5) / rounds * counts[i % len(plans)])
            how = {"kill_after": times[i]} if i % AT_TIMES == AT_TIMES - 1 else {"prepare": dying(at, inside=True)}
            found["killed"] += medaug([*self.writing.command, *more], self.place, **how) == -9
            there = self.writing.results(self.place)
            whole = there in right and self._kept()
            found["whole"] += whole
            code = medaug([*self.writing.command, *again.split()], self.place)
            made = self.writing.results(self.place)
            fine = code == 0 and made == self.new and self._kept() and not self.writing.leftovers(self.place)
            found["resumed"] += fine
            if not whole or not fine:
                self._say(f"round {i}, {how.get('kill_after', f'change {at}')}", code, there, made)

    def count_pairs(self, rounds: int, found: Counter) -> None:
        """Start the same line twice: as it goes on, or, in odd rounds, two different runs with --overwrite."""
        from forking import together

        for i in range(rounds):
            replacing = self.older is not None and (i % 2 == 1 or self.writing.again == "--overwrite")
            self.lay(self.newer if replacing else self.fresh)
            more = ["--overwrite"] if replacing else self.writing.again.split()
            second = [*self.writing.command, *(self.writing.other if replacing else ()), *more]
            codes, said = together([*self.writing.command, *more], second, self.place)
            found["refused"] += sum(code != 0 for code in codes)
            words = [word for code, word in zip(codes, said, strict=True) if code]
            fine = 0 in codes and all("is being written by another medaug" in word for word in words)
            there = self.writing.results(self.place)
            one = fine and there in (self.new, self.old) and self._kept() and not self.writing.leftovers(self.place)
            found["one"] += one
            if not one:
                self._say(f"pair {i}, {words}", codes, there, there)

    def _kept(self) -> bool:
        there = _content(self.place)
        return all(there.get(name) == content for name, content in self.inputs.items())

    def _say(self, when: str, code, *states) -> None:
        for state in states:
            nearest = min((self.new, self.old or self.new), key=lambda right: len(_differing(state, right)))
            print(f"{self.name}, {when}: {code}, differs in {_differing(state, nearest)}", file=sys.stderr)
        said = (self.place / "said.txt").read_text(encoding="utf-8") if (self.place / "said.txt").exists() else ""
        print(f"  left {self.writing.leftovers(self.place)}; {said[-300:]}", file=sys.stderr, flush=True)


def _content(place: Path) -> dict:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*")
            if path.is_file() and not path.name.startswith("said") and ".parts" not in path.parent.name}  # fmt: skip


def _differing(one, other) -> list[str]:
    if one is None or other is None:
        return [] if one is other else ["nothing is there"]
    return [name for name in {**one, **other} if one.get(name) != other.get(name)]


if __name__ == "__main__":
    main()
