"""Kill every writing command by SIGKILL at random moments, start pairs at once, and count what was lost or mixed.

    python benchmarks/kills.py --rounds 20

A kill is right if what stands there is nothing, the old result or the new one, and if the same command with --resume
(or --overwrite, where a command does not resume) then gives what an uninterrupted one gives. Of a pair of the same
line the second waits or is refused in a sentence, and the result is of one of the two. The commands run in forks of
this process with the tests' small plugins: start-up is paid once, so that kills fall into the work.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "support")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", nargs="*", help="Commands; default: all.")
    chosen = parser.parse_args()
    _install_small_plugins()
    from writing_commands import WRITING

    print("| command | killed | nothing, old or new | resumed as uninterrupted | pairs | refused | of one run |")
    print("| --- | --: | --: | --: | --: | --: | --: |")
    for name in chosen.only or WRITING:
        kills, pairs = Counter(), Counter()
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            WRITING[name].prepare(place)
            count_kills(WRITING[name], place, chosen.rounds, kills)
            count_pairs(WRITING[name], place, chosen.rounds, pairs)
        print(
            f"| {name} | {kills['killed']} | {kills['whole']} of {chosen.rounds} | {kills['resumed']} of "
            f"{chosen.rounds} | {chosen.rounds} | {pairs['refused']} | {pairs['one']} |",
            flush=True,
        )


def _install_small_plugins() -> None:
    from conftest import TINY

    from medaug_cli import registry

    found = registry.entry_points
    registry.entry_points = lambda group: [*found(group=group), *(one for one in TINY if one.group == group)]


def count_kills(writing, place: Path, rounds: int, found: Counter) -> None:
    """Kill a new run in even rounds, and one that replaces an old result in odd ones."""
    from forking import medaug

    whole, lasts = [], 0.0
    for other in (writing.other, ()):
        start = time.monotonic()
        assert medaug([*writing.command, *other, "--overwrite"], place) == 0
        lasts = time.monotonic() - start
        whole.append(writing.results(place))
    old, new = whole
    for i, moment in enumerate(np.random.default_rng(0).uniform(0, lasts, rounds)):
        writing.clear(place)
        replacing = i % 2 == 1
        if replacing:
            medaug([*writing.command, *writing.other], place)
        more = ["--overwrite"] if replacing else []
        found["killed"] += medaug([*writing.command, *more], place, kill_after=moment) == -9
        found["whole"] += writing.results(place) in ((old, new) if replacing else (None, new))
        again = "--overwrite" if replacing else writing.again
        ended = medaug([*writing.command, again], place) == 0
        found["resumed"] += ended and writing.results(place) == new and not writing.leftovers(place)


def count_pairs(writing, place: Path, rounds: int, found: Counter) -> None:
    """Start the same line twice: with --resume, or, in odd rounds, two different runs with --overwrite."""
    from forking import medaug, together

    whole = []
    for other in ((), writing.other):
        assert medaug([*writing.command, *other, "--overwrite"], place) == 0
        whole.append(writing.results(place))
    for i in range(rounds):
        writing.clear(place)
        replacing = i % 2 == 1 or writing.again == "--overwrite"
        if replacing:
            medaug(writing.command, place)
        more = "--overwrite" if replacing else "--resume"
        second = [*writing.command, *(writing.other if replacing else ()), more]
        codes, said = together([*writing.command, more], second, place)
        found["refused"] += sum(code != 0 for code in codes)
        words = [word for code, word in zip(codes, said, strict=True) if code]
        fine = 0 in codes and all("is being written by another medaug" in word for word in words)
        found["one"] += fine and writing.results(place) in whole and not writing.leftovers(place)


if __name__ == "__main__":
    main()
