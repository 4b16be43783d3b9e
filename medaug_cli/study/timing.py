"""How long a study will take, from a few steps of each plugin."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from medaug_cli import registry
from medaug_cli.devices import resolve_device
from medaug_cli.plugin import knowledge
from medaug_cli.store import Store, StoreExamples, detector_examples, generator_examples
from medaug_cli.testing.trial import TrialRun

SHORT, LONG = 2, 8  # steps
IMAGES = 16  # of a generator's step, about


def estimate(
    store: Store, detector: str, detector_settings: Mapping[str, Any], steps: int | None, detectors: float,
    generators: Sequence[str], generator_settings: Mapping[str, Mapping[str, Any]], kimg: float | None, device: str,
) -> float:  # fmt: skip
    """Return the minutes that training takes: so many detectors and these generators, one after the other."""
    plugin = registry.build("detector", detector, detector_settings)
    budget = float(steps or plugin.capabilities.default_budget or 2000)
    seconds = detectors * budget * _pace(plugin, detector_examples(store, []), 1, device)
    for name in sorted(set(generators)):
        able = registry.capabilities("generator", name)
        if able.learns:
            plugin = registry.build("generator", name, generator_settings.get(name, {}))
            images = 1000 * (kimg or able.default_budget or 200)
            data = generator_examples(store, knowledge(plugin, store.spec))
            seconds += generators.count(name) * images * _pace(plugin, data, IMAGES, device)
    return seconds / 60


def _pace(plugin: Any, data: StoreExamples, unit: int, device: str) -> float:
    """Return the seconds of one step or image: what a longer run takes more than a shorter one, both warmed up."""
    spent, done = [], []
    for steps in (SHORT, SHORT, LONG):
        run = TrialRun(steps * unit, device=resolve_device(device))
        begun = time.monotonic()
        plugin.fit(data, run)
        spent.append(time.monotonic() - begun)
        done.append(run.asked)
    return max(0.0, spent[2] - spent[1]) / max(1, done[2] - done[1])
