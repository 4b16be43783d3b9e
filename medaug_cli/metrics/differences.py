"""Differences of systems as reports keep them: with interval, p, the p of the whole family, and what may be said."""

from collections.abc import Callable, Mapping, Sequence

from pydantic import Field

from medaug_cli.boxes import Strict
from medaug_cli.metrics.measures import Measure
from medaug_cli.metrics.resampling import Difference, Verdict, holm, verdict
from medaug_cli.tables import Cell, fixed

Interval = tuple[float, float]  # 95 %
EXPLORATORY = "*"
OPPOSITE: dict[Verdict, Verdict] = {"better": "worse", "worse": "better", "inconclusive": "inconclusive"}


class PairedDifference(Strict):
    """A system less another one on the same patients; of several seeds, their means."""

    difference: float
    interval: Interval  # 95 %, paired: patients are resampled, and of several seeds those of each system
    p: float = Field(ge=0, le=1)  # two-sided, the two exchanged patient by patient
    p_bootstrap: float = Field(ge=0, le=1)
    p_holm: float = Field(ge=0, le=1)  # p, corrected for the number of systems compared
    verdict: Verdict = "inconclusive"

    def cell(self, digits: int = 3) -> Cell:
        """Return the difference with its interval, signed."""
        return fixed(self.difference, digits, self.interval, sign="+")

    def said(self, primary: bool) -> Cell:
        """Return the verdict, with a mark where the measure is not the primary one; see `exploratory`."""
        return Cell(self.verdict, mark="" if primary else EXPLORATORY)

    def words(self) -> str:
        """Write the difference with its interval."""
        return str(self.cell())


def exploratory(primary: str) -> str:
    """Say what marked verdicts are worth beside those on the `primary` measure, given in words."""
    return (
        f"The primary measure is {primary}. Verdicts marked {EXPLORATORY} are exploratory: not corrected for the "
        "number of measures, of which one or another differs by chance."
    )


def of_trainings(seeds: Sequence[int], network: str) -> str:
    """Say whether intervals include what training again would change, where systems have so many seeds."""
    if min(seeds) > 1:
        return "Intervals resample the seeds of each system as well."
    return f"Intervals hold for these trained {network}s: training again with another seed changes a {network}, too."


Compared = dict[str, PairedDifference | None]


def judged(family: Sequence[Mapping[str, Difference | None]], measure: Callable[[str], Measure]) -> list[Compared]:
    """Correct the p of each number over a family of comparisons, and say what each comes to."""
    found: list[Compared] = [{} for _ in family]
    for number in family[0] if family else ():
        corrected = holm([each.get(number) for each in family])
        for compared, each, p_holm in zip(found, family, corrected, strict=True):
            compared[number] = _paired(each.get(number), p_holm, measure(number))
    return found


def _paired(own: Difference | None, p_holm: float, measure: Measure) -> PairedDifference | None:
    if own is None:
        return None
    said = verdict(own.interval, p_holm)
    return PairedDifference(
        difference=own.difference, interval=own.interval, p=own.p, p_bootstrap=own.p_bootstrap, p_holm=p_holm,
        verdict=said if measure.larger_is_better else OPPOSITE[said],
    )  # fmt: skip
