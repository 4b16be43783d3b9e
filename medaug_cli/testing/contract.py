"""What generators, detectors, classifiers and segmenters have in common: settings, fitting, weights, resuming."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass, replace
from itertools import islice
from typing import Any, get_type_hints

import numpy as np

from medaug_cli import registry
from medaug_cli.errors import MedaugError
from medaug_cli.plugin import GeneratorCapabilities, ImageSpec
from medaug_cli.testing.checking import CheckFailed, Checks, require
from medaug_cli.testing.examples import ConstructedExamples, constructed
from medaug_cli.testing.trial import TrialRun, thawed
from medaug_cli.words import percent

LABELS = ("lesion", "cyst")
CLASSES = ("benign", "malignant")
SIDE = {2: 32, 3: 16}
ODD = {False: {2: (24, 40), 3: (12, 20, 16)}, True: {2: (32, 64), 3: (16, 32, 16)}}  # by power_of_two
STEPS, STEPS_IF_SLOW, SLOW = 4, 2, 5.0  # seconds of one step
LOG_STEPS, LOG_SECONDS = 20, 10.0
CONDITIONS = ("none", "boxes", "mask", "label")
Use = Callable[[Any, ConstructedExamples], Any]  # draws or detects with a fitted plugin, and checks the result


@dataclass
class Subject:
    """The plugin under test: how to make one, and what to make it work on."""

    kind: str
    plugin: type | str
    settings: Mapping[str, Any]
    cls: Any = None
    budget: float = 1.0
    step: int = 1  # images, or 1

    def make(self) -> Any:
        """Return a new, unfitted plugin."""
        if isinstance(self.plugin, str):
            return registry.build(self.kind, self.plugin, self.settings)
        return self.plugin(**self.settings)

    def spec(self, channels: int | None = None, spatial: tuple[int, ...] | None = None) -> ImageSpec:
        """Return the form of the images: the first dimension and channels that the plugin is capable of."""
        able = self.cls.capabilities
        dims = 2 if 2 in able.dims else able.dims[0]
        return ImageSpec(
            channels or able.channels[0], spatial or (SIDE[dims],) * dims, LABELS, class_names=CLASSES, masks=True
        )


def check_class(checks: Checks, subject: Subject) -> bool:
    """Check everything that can be said before the plugin sees an image."""
    return (
        checks.run("loads", lambda: _loads(subject))
        and checks.run("dataclass", lambda: _fields(subject))
        and checks.run("capabilities", lambda: _capabilities(subject))
        and checks.run("settings", lambda: _settings(subject))
    )


def _loads(subject: Subject) -> str:
    cls: Any = subject.plugin
    if isinstance(cls, str):
        if subject.kind == "generator":
            fine = registry.NAME.fullmatch(cls) and cls not in registry.ARMS
            arms = ", ".join(registry.ARMS)
            require(fine, f"no study can name a generator {cls!r}: use letters, digits, . _ and -, and none of {arms}")
        cls = registry.load(subject.kind, cls)
    require(isinstance(cls, type), f"{cls!r} is not a class")
    missing = [name for name in registry.methods(subject.kind) if not callable(getattr(cls, name, None))]
    require(not missing, f"{cls.__name__} has no method {', '.join(missing)}; see medaug_cli.plugin")
    subject.cls = cls
    return f"{cls.__module__}.{cls.__qualname__} has {', '.join(registry.methods(subject.kind))}"


def _fields(subject: Subject) -> str:
    cls = subject.cls
    require(is_dataclass(cls), f"{cls.__name__} is not a dataclass; put @dataclass before the class")
    hints = get_type_hints(cls)
    own = [field for field in fields(cls) if field.init]
    for field in own:
        has_default = field.default is not MISSING or field.default_factory is not MISSING
        require(has_default, f"the setting {field.name} has no default; every plugin must work without --set")
        require(hints[field.name] is not Any, f"the setting {field.name} is of type Any; --set needs a real type")
        require(field.metadata.get("help"), f"the setting {field.name} has no help; write setting(default, help=...)")
    return f"{len(own)} settings, each with a type, a default and a line of help"


def _capabilities(subject: Subject) -> str:
    told = getattr(subject.cls, "capabilities", None)
    able = registry.capabilities_of_kind(subject.kind, told)
    if able is None:
        raise CheckFailed(f"capabilities is {type(told).__name__}; see medaug_cli.plugin for those of a {subject.kind}")
    subject.cls.capabilities = able
    require(able.dims and set(able.dims) <= set(SIDE), f"capabilities.dims is {able.dims}; expected a tuple of 2 and 3")
    positive = able.channels and all(isinstance(c, int) and c > 0 for c in able.channels)
    require(positive, f"capabilities.channels is {able.channels}; expected a tuple of positive numbers")
    if isinstance(able, GeneratorCapabilities):
        known = ", ".join(CONDITIONS)
        require(able.condition in CONDITIONS, f"capabilities.condition is {able.condition!r}; the choices are {known}")
    budget = able.default_budget
    require(budget is None or budget > 0, f"capabilities.default_budget is {budget}; expected a positive number")
    dims, channels = " or ".join(f"{d}D" for d in able.dims), ", ".join(map(str, able.channels))
    return f"{dims} images of {channels} channels"


def _settings(subject: Subject) -> str:
    values = asdict(subject.make())
    try:
        stored = json.loads(json.dumps(values, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise CheckFailed(f"the settings cannot be kept as JSON beside the weights ({error})") from error
    if isinstance(subject.plugin, str):
        again = asdict(registry.build(subject.kind, subject.plugin, stored))
        changed = [name for name in values if again[name] != values[name]]
        require(not changed, f"the setting {', '.join(changed)} is not the same after JSON; choose a plainer type")
    return "they can be kept as JSON and read back"


def fit(subject: Subject, data: ConstructedExamples, **options: Any) -> tuple[Any, TrialRun]:
    """Fit a new plugin on constructed images; return it and its run."""
    plugin = subject.make()
    run = TrialRun(**{"budget": subject.budget, **options})
    plugin.fit(data, run)
    return plugin, run


def check_fit(checks: Checks, subject: Subject, data: ConstructedExamples, use: Use, **options: Any) -> tuple | None:
    """Fit for a few steps; return the plugin and its run, or None where that failed."""
    fitted: list[tuple[Any, TrialRun]] = []

    def one_step() -> str:
        start = time.monotonic()
        plugin, run = fit(subject, data)
        _keeps_budget(run, plugin)
        subject.step = run.first or 1
        subject.budget = subject.step * (STEPS if time.monotonic() - start < SLOW else STEPS_IF_SLOW)
        return f"a step is {run.first} images" if subject.kind == "generator" else "it counts steps"

    def some_steps() -> str:
        plugin = subject.make()
        if subject.kind == "generator":  # the core draws sample pictures at each checkpoint
            options["on_checkpoint"] = lambda: use(plugin, data)
        trial = TrialRun(subject.budget, **options)
        plugin.fit(data, trial)
        _keeps_budget(trial, plugin)
        require(trial.logged or _logs_later(subject, data), f"fit never calls run.log in {LOG_STEPS} steps")
        require(trial.saved, "fit never calls run.checkpoint: training that is stopped could not go on")
        fitted.append((plugin, trial))
        return f"it stops at its budget of {subject.budget:g}, logs finite numbers, and checkpoints what reads back"

    return fitted[0] if checks.run("one step", one_step) and checks.run("fit", some_steps) else None


def _logs_later(subject: Subject, data: ConstructedExamples) -> bool:
    """Tell whether a longer run logs; one that is too slow to find out has the benefit of the doubt."""
    _, run = fit(replace(subject, budget=LOG_STEPS * subject.step), data, seconds=LOG_SECONDS)
    return run.logged > 0 or run.out_of_time


def _keeps_budget(run: TrialRun, plugin: Any) -> None:
    require(run.first, "fit never tells how far it is: call run.fraction(done), run.log and run.checkpoint")
    if isinstance(plugin.capabilities, GeneratorCapabilities) and not plugin.capabilities.learns:
        return
    share = max(run.done, run.asked) / run.budget
    require(share >= 1, f"fit stops after {percent(share)} of what was asked for; go on while run.fraction(done) < 1")


def weights(plugin: Any) -> dict[str, Any]:
    """Return what `state_dict` gives as tensors; fail what the core could not write."""
    import torch

    state = plugin.state_dict()
    require(isinstance(state, dict) and state, "state_dict returns no dict of tensors")
    for name, value in state.items():
        fine = isinstance(name, str) and isinstance(value, (torch.Tensor, np.ndarray))
        require(fine, f"state_dict holds {name!r}: {type(value).__name__}; tensors only")
    tensors = {name: torch.as_tensor(value).detach().cpu().contiguous() for name, value in state.items()}
    for name, tensor in tensors.items():
        finite = not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())
        require(finite, f"state_dict holds values that are not finite numbers in {name!r}")
    return tensors


def reloaded(subject: Subject, plugin: Any, spec: ImageSpec) -> Any:
    """Return a new plugin with the weights of a fitted one, written and read as the core does."""
    from safetensors.torch import load, save

    other = subject.make()
    other.load_state_dict(load(save(weights(plugin))), spec, "cpu")
    return other


def check_resume(subject: Subject, data: ConstructedExamples, plugin: Any, run: TrialRun) -> str:
    """Check that a run that was stopped halfway ends with the weights of one that was not."""
    import torch

    if run.saved is None:
        raise CheckFailed("there is no checkpoint to resume from")
    done, content = run.saved
    state = thawed(content)
    resumed, second = fit(subject, data, seed=run.seed, state=state, on_validate=run.on_validate, keeps=False)
    anew = second.first is not None and run.first is not None and second.first <= run.first < done
    require(not anew, f"a run resumed after {done} begins again at {second.first}: fit must go on from run.state")
    before, after = weights(plugin), weights(resumed)
    require(before.keys() == after.keys(), "a resumed run ends with other names in state_dict")
    other = [name for name in before if not torch.equal(before[name], after[name])]
    require(
        not other,
        f"a run resumed after {done} of {subject.budget:g} ends with other weights ({', '.join(other[:3])}): keep all "
        "of the training's state in the checkpoint, and derive each step's randomness from run.seed and `done`",
    )
    return f"a run resumed after {done} of {subject.budget:g} ends with the same weights to the bit"


def check_channels(subject: Subject, use: Use) -> str:
    """Check the last number of channels that the plugin says it takes, with one step of training."""
    *_, most = subject.cls.capabilities.channels
    if most == subject.spec().channels:
        return f"it takes images of {most} channels only"
    _one_step_on(subject, subject.spec(channels=most), use)
    return f"it also takes images of {most} channels"


def check_other_dims(subject: Subject, use: Use) -> str:
    """Check every other dimension that the plugin says it takes, with one step of training, saved and loaded."""
    tried = subject.spec().dims
    others = [dims for dims in subject.cls.capabilities.dims if dims != tried]
    for dims in others:
        spec = subject.spec(spatial=(SIDE[dims],) * dims)
        data = constructed(spec, seed=1)
        plugin, _ = fit(replace(subject, budget=1), data, keeps=False)
        use(plugin, data)
        use(reloaded(subject, plugin, spec), data)
    if not others:
        return f"it takes {tried}D images only"
    return f"it also takes {' and '.join(f'{dims}D' for dims in others)} images"


def check_odd_size(subject: Subject, use: Use) -> str:
    """Check that images of unequal sides are taken, or refused in a sentence."""
    able, dims = subject.cls.capabilities, subject.spec().dims
    spatial = ODD[able.power_of_two][dims]
    size = "x".join(map(str, spatial))
    try:
        _one_step_on(subject, subject.spec(spatial=spatial), use)
    except MedaugError as error:
        return f"images of {size} are refused in a sentence: {error}"
    return f"it takes images of {size}"


def _one_step_on(subject: Subject, spec: ImageSpec, use: Use) -> None:
    data = constructed(spec, seed=1)
    plugin, _ = fit(replace(subject, budget=1), data, keeps=False)
    use(plugin, data)


def check_continues(subject: Subject, plugin: Any, data: ConstructedExamples, use: Use) -> str:
    """Check that a plugin which says so goes on from weights that were loaded."""
    if not subject.cls.capabilities.continues:
        return "it begins anew with every fit"
    other = reloaded(subject, plugin, data.spec)
    other.fit(data, TrialRun(2, keeps=False))
    use(other, data)
    return "it goes on from the weights that it holds"


def check_variants(subject: Subject) -> str:
    """Check that variants set what the plugin has."""
    variants = subject.cls.capabilities.variants
    for name, settings in variants.items():
        unknown = set(settings) - {each.name for each in fields(subject.cls)}
        require(not unknown, f"the variant {name!r} sets {', '.join(sorted(unknown))}, which the plugin does not have")
    return f"variants: {', '.join(variants) or 'none'}"


def check_wrong_weights(subject: Subject, plugin: Any, spec: ImageSpec) -> str:
    """Check that weights which do not fit are refused with an error that the core can put into a sentence."""
    for state in ({}, {f"not-{name}": value for name, value in weights(plugin).items()}):
        try:
            subject.make().load_state_dict(state, spec, "cpu")
        except (MedaugError, RuntimeError, KeyError, ValueError):
            continue
        raise CheckFailed("load_state_dict takes a state without its own tensors; raise BadInput or KeyError there")
    return "weights with other names are refused"


def taken(found: Iterator, n: int, method: str) -> list[Any]:
    """Return the `n` results of an iterator; fail if there are more or fewer."""
    results = list(islice(found, n + 1))
    count = f"more than {n}" if len(results) > n else str(len(results))
    require(len(results) == n, f"{method} yields {count} results for {n} inputs; expected one each")
    return results


def upset_random_state(seed: int) -> None:
    """Change every global random state: nothing that a plugin does may depend on them."""
    import random

    import torch

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
