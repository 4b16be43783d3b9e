"""Write the tables of our own studies from their study.json: `python docs/make_results.py`.

They stand in docs/results/README.md and, shorter, in README.md, below the headings that `TABLES` names; all else in
those pages is written by hand.
"""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medaug_cli.files import parse_json
from medaug_cli.study.arms import BASELINE
from medaug_cli.study.power import Plan, Spread, spread_between
from medaug_cli.tables import fixed
from medaug_cli.tasks.task import measure_of, task_named

DOCS = Path(__file__).parent
README, PAGE = DOCS.parent / "README.md", DOCS / "results/README.md"
CONTROL = "copy-paste"  # the control that every study has
HALF = 0.05  # half of an interval that is to be reached
FOLDS, SEEDS = 5, 3
MOST = 10_000  # patients


@dataclass(frozen=True)
class Source:
    """Images that studies are of."""

    name: str
    patients: int  # with what a study learns from


BRAIN, CHEST, BREAST = Source("brain MR", 110), Source("chest CT", 106), Source("breast ultrasound", 431)
STUDIES = {  # folder in docs/results -> images, page, which of several, whether folds test its patients again later
    "study-128": (BRAIN, "study-128.md", "first study", True),
    "study-128-longer": (BRAIN, "study-128.md", "second study", True),
    "study-128-boxgan": (BRAIN, "study-128.md", "third study", True),
    "study-folds/all": (BRAIN, "study-folds.md", "in folds", True),
    "study-folds/few": (BRAIN, "study-folds.md", "in folds", False),
    "study-folds/longer": (BRAIN, "study-folds.md", "folds, longer", True),
    "study-folds/rough": (BRAIN, "study-folds.md", "folds, rough boxes", True),
    "study-folds/128": (BRAIN, "study-folds-128.md", "folds, 128×128", False),
    "study-folds/128-few": (BRAIN, "study-folds-128.md", "folds, 128×128", False),
    "study-classification": (BRAIN, "study-classification.md", "", False),
    "study-segmentation": (BRAIN, "study-segmentation.md", "", False),
    "study-nodules-classification": (CHEST, "study-nodules-classification.md", "first study", True),
    "study-nodules-classification/folds": (CHEST, "study-nodules-classification.md", "", False),
    "study-nodules-segmentation": (CHEST, "study-nodules-segmentation.md", "first study", True),
    "study-nodules-segmentation/folds": (CHEST, "study-nodules-segmentation.md", "", False),
    "study-breast/detection": (BREAST, "study-breast.md", "drawn for boxes", True),
    "study-breast/detection-masks": (BREAST, "study-breast.md", "", False),
    "study-breast/classification": (BREAST, "study-breast.md", "", False),
    "study-breast/segmentation": (BREAST, "study-breast.md", "", False),
}


@dataclass(frozen=True)
class Result:
    """A study at one share of the training patients; reports of older versions have what is read here, too."""

    report: dict[str, Any]
    part: dict[str, Any]
    source: Source
    page: str
    which: str
    before: bool

    @property
    def task(self) -> str:
        return str(self.report.get("task") or "detection")

    def called(self, folder: str = "") -> str:
        """Return its images and task, with a link to its page."""
        which = f", {self.which}" if self.which else ""
        return f"{self.source.name}, [{self.task}{which}]({folder}{self.page})"

    @property
    def number(self) -> str:
        return task_named(self.task).headline

    @property
    def words(self) -> str:
        return measure_of(task_named(self.task).measures, self.number).words

    @property
    def folds(self) -> int:
        return len(self.report["deals"][0]["patients"]) if self.report.get("deals") else 1

    @property
    def trained(self) -> str:
        """Return how many patients are trained on: 69, or 61 to 63."""
        each = self.part.get("each_fold") or [self.part["patients"]]
        return str(each[0]) if len(set(each)) == 1 else f"{min(each)} to {max(each)}"

    @property
    def seeds(self) -> int:
        return len(self.part["arms"][0]["seeds"])

    @property
    def generated(self) -> str:
        """Return the generated arm that validation chose, or how many folds chose which."""
        claim = self.part["claim"]
        chosen = Counter(claim.get("choices", {}).values()).most_common()
        return ", ".join(f"`{arm}` ({times})" for arm, times in chosen) or f"`{claim['arm']}`"

    @property
    def spread(self) -> Spread:
        arms = self.part["arms"]
        return spread_between(
            [arm["against"][BASELINE][self.number]["interval"] for arm in arms[1:]],
            [[values[self.number] for values in arm["seeds"].values()] for arm in arms],
            source="", tested=self.report["patients"], networks=self.folds,
        )  # fmt: skip

    def plan(self) -> Plan:
        return Plan(self.report["patients"], self.seeds, self.folds, len(self.part["arms"]) - 1)

    def beaten(self) -> list[str]:
        return [name for name, each in self.part["claim"]["ahead_of"].items() if each["verdict"] == "better"]

    def control(self) -> dict[str, Any]:
        """Return what pasted lesions change."""
        arm = next(arm for arm in self.part["arms"] if arm["arm"] == CONTROL)
        return dict(arm["against"][BASELINE][self.number])


def results() -> list[Result]:
    """Return what the published studies found."""
    return [
        Result(report, part, source, page=page, which=which, before=before)
        for folder, (source, page, which, before) in STUDIES.items()
        for report in [parse_json(DOCS / "results" / folder / "study.json")]
        for part in report["fractions"]
    ]


def found(every: Sequence[Result]) -> str:
    """Return what generated images changed, study by study."""
    header = [
        "images, task", "number", "patients trained on, tested", "folds × seeds", "generated arm",
        f"less {BASELINE}", "better than controls", f"`{CONTROL}` less {BASELINE}",
    ]  # fmt: skip
    rows = [
        [
            each.called(), each.words, f"{each.trained}, {each.report['patients']}",
            f"{each.folds if each.folds > 1 else 'one split'} × {each.seeds}", each.generated,
            said(each.part["claim"]["difference"]), f"{len(each.beaten())} of {len(each.part['claim']['ahead_of'])}",
            said(each.control()),
        ]
        for each in every
    ]  # fmt: skip
    return f"{table(header, rows)}\n\n{aim(every)}"


def aim(every: Sequence[Result]) -> str:
    """Say in how many comparisons generated images were shown to help, and on how many sets."""
    better = [each for each in every if each.part["claim"]["difference"]["verdict"] == "better"]
    sets = {each.source for each in better if len(each.beaten()) == len(each.part["claim"]["ahead_of"])}
    said = "reached" if len(sets) > 1 else "not reached"
    return (
        f"**The aim is {said}.** Shown to be better than real images alone: {len(better)} of {len(every)}; sets on "
        f"which one of these is better than every control too: {len(sets)} of {len({each.source for each in every})}."
    )


def short(every: Sequence[Result]) -> str:
    """Return the table of the README: without what later folds test again."""
    header = ["images, task", "trained on, tested", "generated arm", "less real alone"]
    rows = [
        [
            each.called("docs/results/"), f"{each.trained}, {each.report['patients']}", each.generated,
            said(each.part["claim"]["difference"]),
        ]
        for each in every if not each.before
    ]  # fmt: skip
    return table(header, rows)


def shown(every: Sequence[Result]) -> str:
    """Return what each study could have shown, and what half an interval of `HALF` takes."""
    header = [
        "images, task", "patients trained on, tested", "half of the interval, median of arms",
        "smallest difference with 80 % power", "at Holm's strictest", "spread over patients, trainings",
        f"± of all patients in {FOLDS} folds, {SEEDS} seeds", f"patients for ±{HALF:g} in {FOLDS} folds, {SEEDS} seeds",
        f"seeds for ±{HALF:g} of all patients in {FOLDS} folds",
    ]  # fmt: skip
    rows = []
    for each in every:
        plan, spread = each.plan(), each.spread
        limits = [arm["against"][BASELINE][each.number]["interval"] for arm in each.part["arms"][1:]]
        halves = sorted((high - low) / 2 for low, high in limits)
        rows.append([
            each.called(), f"{each.trained}, {each.report['patients']}",
            fixed(halves[len(halves) // 2]).text, fixed(plan.smallest(spread)).text,
            fixed(plan.smallest(spread, plan.comparisons)).text,
            f"{spread.patients:.3f}, {fixed(spread.trainings).text}",
            fixed(Plan(each.source.patients, SEEDS, FOLDS).half_width(spread)).text,
            least({n: Plan(n, SEEDS, FOLDS).half_width(spread) for n in range(FOLDS, MOST)}),
            least({s: Plan(each.source.patients, s, FOLDS).half_width(spread) for s in range(2, 100)}),
        ])  # fmt: skip
    return table(header, rows)


def least(halves: Mapping[int, float]) -> str:
    """Return the first number of patients or seeds with which half an interval is no wider than `HALF`."""
    return str(next((number for number, half in halves.items() if half <= HALF), "no number"))


def said(own: dict[str, Any]) -> str:
    """Write a difference with its interval, and its verdict where there is one."""
    verdict = "" if own["verdict"] == "inconclusive" else f" **{own['verdict']}**"
    return figure(own) + verdict


def figure(own: dict[str, Any]) -> str:
    """Write a difference with its interval: +0.026 [−0.034, +0.082]."""
    return str(fixed(own["difference"], 3, tuple(own["interval"]), sign="+")).replace("-", "−")


def differences(report: Any) -> Iterator[dict[str, Any]]:
    """Yield every difference with an interval and a verdict that a report holds, however deep."""
    if isinstance(report, dict) and {"difference", "interval", "verdict"} <= report.keys():
        yield report
    for each in report.values() if isinstance(report, dict) else report if isinstance(report, list) else ():
        yield from differences(each)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as Markdown."""
    rule = ["---"] * len(header)
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, rule, *rows])


TABLES = {  # page -> heading -> what stands below it, from its first table on to a second blank line
    README: {"## What came out": short},
    PAGE: {"## What came out": found, "## What they could have shown": shown},
}


def pages() -> Iterator[tuple[Path, str]]:
    """Yield each page with its tables as they must be."""
    every = results()
    for page, tables in TABLES.items():
        text = page.read_text(encoding="utf-8")
        for heading, made in tables.items():
            text = replaced(text, heading, made(every))
        yield page, text


def replaced(text: str, heading: str, new: str) -> str:
    """Return a page whose first table below a heading, and the aim's sentence below that, are new."""
    form = rf"(^{re.escape(heading)}$.*?)(?:^\|[^\n]*\n)+(?:\n\*\*The aim is[^\n]*\n)?"
    return re.sub(form, lambda own: f"{own[1]}{new}\n", text, count=1, flags=re.MULTILINE | re.DOTALL)


def main() -> None:
    """Write the tables; with --check compare them with those that are there, and exit with 1 where they differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a table is out of date")
    check = parser.parse_args().check
    for page, text in pages():
        if not check:
            page.write_text(text, encoding="utf-8")
        elif text != page.read_text(encoding="utf-8"):
            sys.exit(f"{page} is out of date; make it with python docs/make_results.py")


if __name__ == "__main__":
    main()
