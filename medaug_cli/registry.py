"""Find plugins by entry point, load only the one that is used, and build it from typed settings."""

import difflib
import functools
import math
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from importlib import metadata
from importlib.metadata import Distribution, EntryPoint
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from medaug_cli.errors import MedaugError, MissingPlugin, UsageError

if TYPE_CHECKING:
    from medaug_cli.plugin import Capabilities, GeneratorCapabilities, NetworkCapabilities

GROUPS = {
    "generator": "medaug.generators", "detector": "medaug.detectors", "classifier": "medaug.classifiers",
    "segmenter": "medaug.segmenters", "reader": "medaug.readers", "stripper": "medaug.strippers",
}  # fmt: skip
METHODS = {
    "generator": ("fit", "sample", "state_dict", "load_state_dict"), "reader": ("read",), "stripper": ("extract",),
}  # fmt: skip
NETWORK_METHODS = ("fit", "predict", "state_dict", "load_state_dict")  # of a detector, and of any other task's network
NO_PLUGINS = ("medaug.tasks", "medaug.features", "medaug.weights")  # groups of other things
DEFAULTS = {"generator": "cpggan", "detector": "yolov3", "classifier": "classifier", "segmenter": "segmenter"}
ARMS = ("real-only", "early-stopped", "pseudo-label")  # of every study: no generator can be called so
NAME = re.compile(r"[\w.-]+")  # of a generator that a study can name
DISABLE = "MEDAUG_DISABLE_PLUGINS"  # names, separated by commas


@dataclass(frozen=True)
class Plugin:
    """An installed plugin, not yet imported."""

    kind: str
    name: str
    distribution: str
    version: str
    entry: EntryPoint

    @property
    def module(self) -> str:
        """Return the module that holds it; raise MissingPlugin where its entry point names none."""
        try:
            return self.entry.module
        except AttributeError as error:
            raise MissingPlugin(
                f"the {self.kind} {self.name!r} of {self.distribution} has the entry point {self.entry.value!r}; "
                "expected module:Class"
            ) from error


_loaded: dict[str, Plugin] = {}  # module -> the plugin that was last loaded from it
_classes: dict[str, Plugin] = {}  # name of a class -> the plugin that was last loaded as such a class


def owner(module: str) -> Plugin | None:
    """Return the loaded plugin that a module belongs to: its own, one below it, or one beside it in its package."""
    for own, plugin in _loaded.items():
        package = own.partition(".")[0]
        shared = package in ("medaug_plugins", "medaug_cli")  # by many plugins, so that only the module tells
        home = own if shared else package
        if module == home or module.startswith(f"{home}."):
            return plugin
    return None


def owner_of_class(name: str) -> Plugin | None:
    """Return the plugin that was loaded as a class of this name."""
    return _classes.get(name)


def kinds() -> dict[str, str]:
    """Return the entry-point group of each kind of plugin: medaug's, and those of strangers' tasks.

    The networks of a task of the kind "counter" are registered in the group `medaug.counters`.
    """
    others = {entry.group for entry in _everything(tuple(sys.path))[0] if entry.group.startswith("medaug.")}
    others -= {*GROUPS.values(), *NO_PLUGINS}
    return GROUPS | {group.removeprefix("medaug.").removesuffix("s"): group for group in sorted(others)}


def group_of(kind: str) -> str:
    """Return the entry-point group of a kind of plugin; raise UsageError for one that neither medaug nor a task has."""
    group = GROUPS.get(kind, f"medaug.{kind}s")
    if kind in GROUPS or entry_points(group):
        return group
    raise UsageError(f"no kind of plugin is called {kind!r}; the kinds are {', '.join(kinds())}")


def methods(kind: str) -> tuple[str, ...]:
    """Return the methods that a plugin of a kind must have."""
    return METHODS.get(kind, NETWORK_METHODS)


def installed(kind: str) -> list[Plugin]:
    """Return the installed plugins of a kind by name, importing none of them."""
    disabled = {name.strip() for name in os.environ.get(DISABLE, "").split(",")}
    found = {}
    for entry in entry_points(group_of(kind)):
        distribution, version = about(entry)
        if entry.name not in disabled:
            found[entry.name, distribution] = Plugin(kind, entry.name, distribution, version, entry)
    return sorted(found.values(), key=lambda plugin: (plugin.name, plugin.distribution))


def about(entry: EntryPoint) -> tuple[str, str]:
    """Return the name and the version of the distribution that brings an entry point."""
    return _about(entry.dist) if entry.dist else ("unknown", "unknown")


def entry_points(group: str) -> list[EntryPoint]:
    """Return the entry points of a group, without the distributions whose list of them cannot be read."""
    return [entry for entry in _everything(tuple(sys.path))[0] if entry.group == group]


@functools.lru_cache(maxsize=2)
def _everything(path: tuple[str, ...]) -> tuple[list[EntryPoint], dict[str, str]]:
    """Return all entry points that `sys.path` leads to, and why the list of some distributions cannot be read.

    One look at every installed distribution costs a twentieth of a second or more: it is not taken again.
    """
    try:
        found: Any = metadata.entry_points()
    except Exception:
        return [entry for one in metadata.distributions() for entry in _own_entries(one)], _unreadable()
    parts = dict.values(found) if isinstance(found, dict) else [found]  # by group, before Python 3.12
    return [entry for part in parts for entry in part], {}


@functools.cache
def _about(distribution: Distribution) -> tuple[str, str]:
    """Return a distribution's name and version; each look parses its whole METADATA."""
    told = distribution.metadata
    return told["Name"], told["Version"]


def _own_entries(distribution: Distribution) -> list[EntryPoint]:
    try:
        return list(distribution.entry_points)
    except Exception:
        return []


def unreadable() -> dict[str, str]:
    """Return the distributions whose list of entry points cannot be read, and why."""
    return _everything(tuple(sys.path))[1]


def _unreadable() -> dict[str, str]:
    found = {}
    for distribution in metadata.distributions():
        try:
            list(distribution.entry_points)
        except Exception as error:
            found[str(distribution.name)] = f"its entry_points.txt cannot be read ({type(error).__name__}: {error})"
    return found


def names(kind: str) -> list[str]:
    """Return the names of the installed plugins of a kind."""
    return sorted({plugin.name for plugin in installed(kind)})


def default(kind: str) -> str:
    """Return the plugin of a kind that is used where none is named: its usual one, or the only one there is."""
    if kind in DEFAULTS:
        return DEFAULTS[kind]
    if len(names(kind)) != 1:
        raise UsageError(f"--network: choose one of {', '.join(names(kind)) or 'none: no plugin is installed'}")
    return names(kind)[0]


def find(kind: str, name: str) -> Plugin:
    """Return the one plugin of that name; raise MissingPlugin if there is none, or more than one."""
    plugins = installed(kind)
    chosen = [plugin for plugin in plugins if plugin.name == name]
    if not chosen:
        near = difflib.get_close_matches(name, [plugin.name for plugin in plugins], 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise MissingPlugin(f"no {kind} {name!r} is installed; {hint}installed: {', '.join(names(kind)) or 'none'}")
    if len(chosen) > 1:
        owners = " and ".join(plugin.distribution for plugin in chosen)
        raise MissingPlugin(f"{owners} both bring a {kind} named {name!r}; uninstall one of them")
    return chosen[0]


def load(kind: str, name: str) -> type:
    """Import a plugin and return its class; raise MissingPlugin with the reason if it does not load."""
    from medaug_cli.plugin import API_VERSION, ConditionKind  # brings numpy, which a mere listing need not wait for

    plugin = find(kind, name)
    whose = f"the {kind} {name!r} of {plugin.distribution}"
    _loaded[plugin.module] = plugin
    try:
        cls = plugin.entry.load()
    except (Exception, SystemExit) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise MissingPlugin(f"{whose} does not load ({reason})") from error
    if not (isinstance(cls, type) and is_dataclass(cls) and hasattr(cls, "capabilities")):
        raise MissingPlugin(f"{whose} is not a dataclass with capabilities")
    _classes[cls.__qualname__] = plugin
    missing = [method for method in methods(kind) if not callable(getattr(cls, method, None))]
    if missing:
        raise MissingPlugin(f"{whose} has no method {' and no method '.join(missing)}")
    told = capabilities_of_kind(kind, cls.capabilities)
    if told is None:
        raise MissingPlugin(f"{whose} has capabilities of the type {type(cls.capabilities).__name__}")
    if not (isinstance(told.dims, tuple) and told.dims and set(told.dims) <= {2, 3}):
        raise MissingPlugin(f"{whose} has capabilities.dims {told.dims!r}; expected a tuple of 2 and 3")
    conditions, chosen = get_args(ConditionKind), getattr(told, "condition", None)
    if chosen is not None and chosen not in conditions:
        raise MissingPlugin(f"{whose} has capabilities.condition {chosen!r}; the choices are {', '.join(conditions)}")
    if kind == "reader" and not isinstance(getattr(cls, "suffixes", None), tuple):
        raise MissingPlugin(f"{whose} has no tuple of suffixes")
    cls.capabilities = told
    wanted = getattr(cls, "api_version", API_VERSION)
    if wanted != API_VERSION:
        raise MissingPlugin(f"{whose} is made for plugin API {wanted}, this medaug has {API_VERSION}")
    return cls


def capabilities_of_kind(kind: str, told: object) -> "Capabilities | None":
    """Return capabilities with all that a kind of plugin says; None where they are of another kind or none at all."""
    from medaug_cli.plugin import Capabilities, GeneratorCapabilities, NetworkCapabilities

    networks = dict.fromkeys(("detector", "classifier", "segmenter"), NetworkCapabilities)
    own: type[Capabilities] = {"generator": GeneratorCapabilities, **networks}.get(kind, Capabilities)
    if isinstance(told, own):
        return told
    return own(**vars(told)) if type(told) is Capabilities else None


def capabilities(kind: str, name: str) -> "Capabilities":
    """Return what an installed plugin can work on."""
    return load(kind, name).capabilities  # type: ignore[attr-defined]


def generator_capabilities(name: str) -> "GeneratorCapabilities":
    """Return what an installed generator can do."""
    return load("generator", name).capabilities  # type: ignore[attr-defined]


def network_capabilities(kind: str, name: str) -> "NetworkCapabilities":
    """Return what an installed detector, classifier or segmenter can do."""
    return load(kind, name).capabilities  # type: ignore[attr-defined]


def build(kind: str, name: str, settings: Mapping[str, Any]) -> Any:
    """Return a plugin with its settings (text or values); raise UsageError for one it does not take."""
    cls = load(kind, name)
    try:
        hints = get_type_hints(cls)
    except Exception as error:
        raise MissingPlugin(f"the {kind} {name!r} has a setting whose type cannot be told ({error})") from error
    known = {field.name: field for field in fields(cls) if field.init}
    values = {}
    for key, value in settings.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UsageError(f"{name} has no setting {key!r}; {hint}it has {', '.join(known)}")
        values[key] = _typed(name, key, hints[key], value)
        _check_limits(name, key, values[key], known[key].metadata)
    try:
        return cls(**values)
    except MedaugError:
        raise
    except (Exception, SystemExit) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise MissingPlugin(f"the {kind} {name!r} cannot be built ({reason})") from error


def _typed(name: str, key: str, kind: Any, value: Any) -> Any:
    from pydantic import TypeAdapter, ValidationError

    if isinstance(value, str) and value.lower() == "none" and type(None) in getattr(kind, "__args__", ()):
        return None
    if isinstance(value, str) and str(kind).startswith(("tuple", "list")):
        value = [part.strip() for part in value.split(",") if part.strip()]
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"]
        raise UsageError(f"--set {key}={value}: {reason} ({name} takes {getattr(kind, '__name__', kind)})") from error


def _check_limits(name: str, key: str, value: Any, limits: Mapping[str, Any]) -> None:
    if value is None:
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"--set {key}={value}: expected a finite number")
    low, high, choices = limits.get("minimum"), limits.get("maximum"), limits.get("choices")
    if (low is not None and value < low) or (high is not None and value > high):
        expected = f"<= {high}" if low is None else f">= {low}" if high is None else f"from {low} to {high}"
        raise UsageError(f"--set {key}={value}: {name} expects a value {expected}")
    if choices is not None and value not in choices:
        raise UsageError(f"--set {key}={value}: the choices are {', '.join(map(str, choices))}")
