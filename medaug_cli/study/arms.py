"""The arms of a study: what a detector is trained on, and how."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from medaug_cli import registry
from medaug_cli.errors import UsageError

BASELINE = "real-only"
EARLY = "early-stopped"
EARLY_SHARE = 0.5  # of the steps of every other arm
Use = Literal["mixed", "only", "pretrain"]
FORM = re.compile(r"(?P<generator>[^@+]+)(?:@(?P<ratio>[0-9.]+))?(?P<filter>\+filter)?(?:\+(?P<use>only|pretrain))?")


@dataclass(frozen=True)
class Arm:
    """One way to train a detector; every arm takes the same real images and, but for early-stopped, the same steps."""

    name: str
    generator: str | None = None  # None: real images alone
    filtered: bool = False
    ratio: float | None = None  # synthetic images a real one, where it is not the study's
    use: Use = "mixed"  # with real images, alone, or alone in the first half of the steps and not at all in the second
    variant: str | None = None  # settings that the detector names
    steps: float = 1.0  # share of the study's steps

    @property
    def learnt(self) -> bool:
        """Tell whether its images come from a generator that learns, and not from a control."""
        return self.generator is not None and registry.capabilities("generator", self.generator).learns

    @property
    def family(self) -> str:
        """Return what one arm is chosen from on validation: all arms of one generator that learns."""
        return str(self.generator) if self.learnt else self.name


def parse_arm(text: str, detector: str) -> Arm:
    """Turn "mosaic", "boxgan" or "boxgan@2+filter+pretrain" into an arm.

    Raises UsageError for a form that there is not, MissingPlugin for a generator that is not installed.
    """
    variants = registry.capabilities("detector", detector).variants
    if text == BASELINE:
        return Arm(text)
    if text == EARLY:
        return Arm(text, steps=EARLY_SHARE)
    if text in variants:
        return Arm(text, variant=text)
    found = FORM.fullmatch(text)
    if found is None or (found["ratio"] and not _positive(found["ratio"])):
        named = ", ".join((BASELINE, EARLY, *variants))
        raise UsageError(
            f"--arm {text}: {named} or a generator is wanted, with @RATIO, +filter, +only or +pretrain in this order"
        )
    registry.find("generator", found["generator"])
    ratio = float(found["ratio"]) if found["ratio"] else None
    use: Use = "only" if found["use"] == "only" else "pretrain" if found["use"] else "mixed"
    return Arm(text, found["generator"], bool(found["filter"]), ratio, use)


def _positive(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        return False


def parse_arms(texts: Sequence[str], detector: str) -> list[Arm]:
    """Return the arms, the baseline first; raise UsageError where one is named twice or nothing is compared."""
    if len(texts) != len(set(texts)):
        raise UsageError(f"--arm: {next(t for t in texts if texts.count(t) > 1)} is named twice")
    arms = [parse_arm(text, detector) for text in dict.fromkeys([BASELINE, *texts])]
    if len(arms) < 2:
        raise UsageError("a study compares at least one arm with real-only, as in --arm copy-paste")
    return arms
