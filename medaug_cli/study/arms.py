"""The arms of a study: what a detector is trained on besides the real images."""

from dataclasses import dataclass

from medaug_cli import registry
from medaug_cli.errors import UsageError

BASELINE = "real-only"
FILTERED = "+filter"


@dataclass(frozen=True)
class Arm:
    """One way to train a detector; every arm takes the same real images, steps and augmentation."""

    name: str
    generator: str | None = None  # None: real images alone
    filtered: bool = False


def parse_arm(text: str) -> Arm:
    """Turn "real-only", "boxgan" or "boxgan+filter" into an arm; raise for a generator that is not installed."""
    if text == BASELINE:
        return Arm(text)
    generator = text.removesuffix(FILTERED)
    registry.find("generator", generator)
    return Arm(text, generator, text.endswith(FILTERED))


def parse_arms(texts: list[str]) -> list[Arm]:
    """Return the arms, the baseline first; raise UsageError where one is named twice or nothing is compared."""
    arms = [parse_arm(text) for text in dict.fromkeys([BASELINE, *texts])]
    if len(texts) != len(set(texts)):
        raise UsageError(f"--arm: {next(t for t in texts if texts.count(t) > 1)} is named twice")
    if len(arms) < 2:
        raise UsageError("a study compares at least one arm with real-only, as in --arm copy-paste")
    return arms
