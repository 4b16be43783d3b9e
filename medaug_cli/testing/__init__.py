"""The plugin contract as runnable checks, for authors of plugins and for `medaug plugins check`.

from medaug_cli.testing import check_generator
for result in check_generator(Blobs):
    assert result.ok, result.sentence
"""

from collections.abc import Callable, Mapping
from typing import Any

from medaug_cli import registry
from medaug_cli.errors import UsageError
from medaug_cli.testing.checking import CheckFailed, Result
from medaug_cli.testing.detectors import check_detector
from medaug_cli.testing.examples import ConstructedExamples, constructed
from medaug_cli.testing.generators import check_generator
from medaug_cli.testing.readers import check_reader
from medaug_cli.testing.strippers import check_stripper
from medaug_cli.testing.trial import TrialRun
from medaug_cli.testing.whole_images import check_classifier, check_network, check_segmenter

__all__ = [
    "CheckFailed",
    "ConstructedExamples",
    "Result",
    "TrialRun",
    "check_classifier",
    "check_detector",
    "check_generator",
    "check_network",
    "check_plugin",
    "check_reader",
    "check_segmenter",
    "check_stripper",
    "constructed",
]

CHECKS = {
    "generator": check_generator, "detector": check_detector, "classifier": check_classifier,
    "segmenter": check_segmenter, "reader": check_reader, "stripper": check_stripper,
}  # fmt: skip


def check_plugin(
    kind: str,
    plugin: type | str,
    settings: Mapping[str, Any] | None = None,
    report: Callable[[str], None] = lambda name: None,
) -> list[Result]:
    """Run the checks of a kind of plugin on a class or the name of an installed one."""
    if kind not in CHECKS and kind not in registry.kinds():
        raise UsageError(f"{kind!r} is not a kind of plugin; choose one of {', '.join(registry.kinds())}")
    return CHECKS[kind](plugin, settings, report) if kind in CHECKS else check_network(kind, plugin, settings, report)
