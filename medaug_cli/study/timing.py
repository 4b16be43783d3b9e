"""How long a study will take, from a few steps of each plugin."""

import copy
import time
from collections.abc import Sequence
from typing import Any

from medaug_cli import registry
from medaug_cli.devices import resolve_device
from medaug_cli.plugin import knowledge
from medaug_cli.store import Store, StoreExamples, generator_examples, training_examples
from medaug_cli.study.arms import Arm
from medaug_cli.study.trials import StudyOptions
from medaug_cli.testing.trial import TrialRun

SHORT, LONG = 2, 8  # steps
IMAGES = 16  # of a generator's step, about
PATIENCE = 20.0  # seconds; where the first steps take longer, they are the measurement


def estimate(options: StudyOptions, store: Store, networks: float, generators: Sequence[Arm]) -> float:
    """Return the minutes that training takes: so many networks and the generators of these arms, one by one."""
    plugin = registry.build(options.task.kind, options.network, options.network_settings)
    budget = float(options.steps or plugin.capabilities.default_budget or 2000)
    data = training_examples(store, [], options.task.usable(store))
    seconds = networks * budget * _pace(plugin, data, 1, options.device)
    each = {str(arm.source): arm for arm in generators}
    for source, arm in sorted(each.items()):
        name = str(arm.generator)
        able = registry.generator_capabilities(name)
        if able.learns:
            plugin = arm.built(options.generator_settings)
            images = 1000 * (options.kimg or able.default_budget or 200)
            times = sum(arm.source == source for arm in generators)  # generators of a class each share one budget
            fitted_on = generator_examples(store, knowledge(plugin, store.spec))
            seconds += times * images * _pace(plugin, fitted_on, IMAGES, options.device)
    return seconds / 60


def _pace(plugin: Any, data: StoreExamples, unit: int, device: str) -> float:
    """Return the seconds of one step or image: what a longer run takes more than a shorter one, both warmed up."""
    spent, done = [], []
    for steps in (SHORT, SHORT, LONG):
        run = TrialRun(steps * unit, device=resolve_device(device))
        fresh = copy.deepcopy(plugin)  # one that is fitted would be trained further, or not at all
        begun = time.monotonic()
        fresh.fit(data, run)
        spent.append(time.monotonic() - begun)
        done.append(run.asked)
        if spent[0] > PATIENCE:  # whoever only plans must not wait for minutes; warming up counts little by now
            return spent[0] / max(1, done[0])
    return max(0.0, spent[2] - spent[1]) / max(1, done[2] - done[1])
