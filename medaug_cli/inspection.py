"""What is installed and what this machine can do: the facts behind `medaug plugins` and `medaug doctor`."""

import ast
import difflib
import os
import platform
import shutil
from collections import Counter
from dataclasses import MISSING, Field, asdict, dataclass, fields
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from medaug_cli import __version__, registry
from medaug_cli.errors import MissingPlugin
from medaug_cli.processes import cores

OPTIONAL = ("pretrained", "logs", "strippers", "onnx", "dicom-out", "cluster")  # parts that a user may leave out

State = Literal["installed", "ok", "does not load", "name clash"]


@dataclass(frozen=True)
class PluginState:
    """One installed plugin and how it fares; `installed` means that nothing wrong is seen without importing it."""

    kind: str
    name: str
    distribution: str
    version: str
    place: str  # module:class
    state: State
    reason: str = ""


def plugin_states(load: bool = False) -> list[PluginState]:
    """Return every installed plugin by kind and name, with what is wrong with it.

    Without `load` nothing is imported: name clashes, missing modules and missing requirements of a
    plugin's own file are seen, failures deeper in are not.
    """
    _missing_import.cache_clear()  # something may have been installed since
    listed = [state for kind in registry.kinds() for state in _states(kind, load)]
    broken = registry.unreadable()
    return listed + [
        PluginState("unknown", "?", distribution=name, version="?", place="", state="does not load", reason=why)
        for name, why in broken.items()
    ]


def _states(kind: str, load: bool) -> list[PluginState]:
    plugins = registry.installed(kind)
    count = Counter(plugin.name for plugin in plugins)
    return [_state(plugin, count[plugin.name] > 1, load) for plugin in plugins]


def _state(plugin: registry.Plugin, clash: bool, load: bool) -> PluginState:
    state: State = "ok" if load else "installed"
    reason = ""
    try:
        if clash:
            state = "name clash"
            registry.find(plugin.kind, plugin.name)
        elif load:
            registry.load(plugin.kind, plugin.name)
        elif reason := _missing_import(plugin.module):
            state = "does not load"
    except MissingPlugin as error:
        state, reason = ("name clash" if clash else "does not load"), str(error)
    return PluginState(
        plugin.kind,
        plugin.name,
        distribution=plugin.distribution,
        version=plugin.version,
        place=plugin.entry.value,
        state=state,
        reason=reason,
    )


@cache
def _missing_import(module: str) -> str:
    """Say which module a plugin's file needs and Python does not find; empty if none. Imports nothing."""
    places = _places(module)
    if not places:
        return f"the module {module} is not found"
    if places[0].suffix != ".py":
        return ""
    try:
        body = ast.parse(places[0].read_bytes()).body
    except (SyntaxError, ValueError, OSError) as error:
        return f"{places[0].name} cannot be read as Python: {error}"
    for top in _imported(body):
        if _spec(top) is None:
            return f"it imports {top}, which is not installed"
    return ""


def _imported(body: list[ast.stmt]) -> list[str]:
    """Return the top packages that a file imports always (not within `try`, `if` or a function)."""
    wanted = []
    for statement in body:
        if isinstance(statement, ast.Import):
            wanted += [alias.name for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
            wanted.append(statement.module)
    return [name.partition(".")[0] for name in wanted]


def _spec(top: str) -> ModuleSpec | None:
    try:
        return find_spec(top)
    except (ImportError, ValueError):
        return None


def _places(module: str) -> list[Path]:
    """Return the files or folders of a module, without importing the packages it is in."""
    top, *rest = module.split(".")
    spec = _spec(top)
    if spec is None:
        return []
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    if not rest:
        return [Path(spec.origin)] if spec.origin else folders
    roots = [folder.joinpath(*rest) for folder in folders]
    return [
        place for root in roots for place in (root / "__init__.py", root, *root.parent.glob(f"{root.name}.*"))
        if place.exists()
    ]  # fmt: skip


def chosen_kinds(name: str, kind: str | None = None) -> list[str]:
    """Return the kinds of plugin that go by a name, or the one asked for; raise MissingPlugin if there is none."""
    if kind is not None:
        return [registry.find(kind, name).kind]
    kinds = [kind for kind in registry.kinds() if name in registry.names(kind)]
    if not kinds:
        listed = {kind: registry.names(kind) for kind in registry.kinds()}
        near = difflib.get_close_matches(name, [one for names in listed.values() for one in names], 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        words = "; ".join(f"{kind}s {', '.join(names) or 'none'}" for kind, names in listed.items())
        raise MissingPlugin(f"no plugin {name!r} is installed; {hint}installed: {words}")
    return kinds


def describe_generator(folder: Path) -> dict[str, Any]:
    """Return what a trained generator's folder holds: what it was fitted on, draws, and knows of its images."""
    from medaug_cli.plugin import knowledge
    from medaug_cli.runs import load_generator
    from medaug_cli.weights import card_of

    generator, metadata = load_generator(folder)
    form = metadata.form.spec()
    card = card_of(folder)
    return {
        **({} if card is None else {"card": card.model_dump(mode="json")}),
        "folder": str(folder), "generator": metadata.name, "spatial": list(form.spatial), "channels": form.channels,
        "training_images": metadata.training_images, "images_shown": metadata.images_shown,
        "knows": sorted(knowledge(generator, form)), "labels": list(form.label_names),
        "classes": list(form.class_names), "masks_of": list(form.mask_names), "draws": list(metadata.draws),
        "folders": dict(metadata.parts), "settings": metadata.settings,
    }  # fmt: skip


def installed_weights() -> list[dict[str, Any]]:
    """Return installed weights by name, with the card of each or what is wrong with it."""
    if not registry.entry_points("medaug.weights"):
        return []  # most have none, and need not wait for what reads cards
    from medaug_cli.errors import MedaugError
    from medaug_cli.weights import card_of, named_weights, weights_folder

    found = []
    for one in named_weights().values():
        card, problem = None, ""
        try:
            card = card_of(weights_folder(one.name))
            problem = "" if card else f"it has no card ({one.place})"
        except MedaugError as error:
            problem = str(error)
        found.append({**asdict(one), "card": card and card.model_dump(mode="json"), "problem": problem})
    return found


def describe(kind: str, cls: type) -> dict[str, Any]:
    """Return a plugin class in words: its summary, capabilities and settings."""
    summary = (cls.__doc__ or "").strip().splitlines() or [""]
    able = {key: value for key, value in asdict(cls.capabilities).items() if value is not None}  # type: ignore[attr-defined]
    if kind in ("reader", "stripper"):
        able = {key: able[key] for key in ("dims", "channels") if kind == "reader" or key == "dims"}
    return {
        "kind": kind,
        "summary": summary[0],
        "capabilities": able,
        "settings": [_setting(field, get_type_hints(cls)[field.name]) for field in fields(cls) if field.init],
    }


def _setting(field: Field, kind: Any) -> dict[str, Any]:
    """Return a hyperparameter as `--set name=value` takes it."""
    default = field.default if field.default_factory is MISSING else field.default_factory()
    takes = kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind).replace("typing.", "")
    low, high, choices = (field.metadata.get(key) for key in ("minimum", "maximum", "choices"))
    if choices is not None:
        takes = " or ".join(map(str, choices))
    elif low is not None and high is not None:
        takes += f" from {low} to {high}"
    elif low is not None or high is not None:
        takes += f" of at least {low}" if high is None else f" of at most {high}"
    return {
        "name": field.name,
        "default": None if default is MISSING else default,
        "help": str(field.metadata.get("help", "")),
        "takes": takes,
        "minimum": low,
        "maximum": high,
        "choices": None if choices is None else list(choices),
    }


def machine(folder: Path) -> dict[str, Any]:
    """Return what this machine offers: Python, torch, devices, threads, memory, and the disk of `folder`."""
    from medaug_cli.plugin import API_VERSION

    return {
        "medaug": __version__,
        "plugin_api": API_VERSION,
        "python": platform.python_version(),
        "platform": platform.platform(),
        **torch_facts(),
        "cores": cores(),
        "memory": memory(),
        "disk": {"folder": str(folder.resolve()), **shutil.disk_usage(folder)._asdict()},
    }


def torch_facts() -> dict[str, Any]:
    """Return torch's version, devices and threads; or why it cannot be imported."""
    try:
        import torch
    except Exception as error:  # a broken torch is what doctor is asked about
        return {"torch": None, "torch_error": f"{type(error).__name__}: {error}", "devices": [], "threads": None}
    return {"torch": torch.__version__, "devices": devices(), "threads": torch.get_num_threads()}


def devices() -> list[dict[str, Any]]:
    """Return the devices that torch can use, the one that `--device auto` takes first."""
    import torch

    from medaug_cli.devices import has_fast_bf16, resolve_device

    names = {"cpu": platform.processor() or platform.machine()}
    names |= {f"cuda:{i}": torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}
    if torch.backends.mps.is_available():
        names["mps"] = "Apple GPU"
    first = resolve_device("auto")
    ordered = sorted(names, key=lambda device: device != first)
    return [{"device": device, "name": names[device], "fast_bf16": has_fast_bf16(device)} for device in ordered]


def memory() -> dict[str, int]:
    """Return the bytes of memory, in all and free, as far as the system tells."""
    names = {"total": "SC_PHYS_PAGES", "free": "SC_AVPHYS_PAGES"}
    known = {key: name for key, name in names.items() if name in os.sysconf_names}
    found = {key: os.sysconf(name) * os.sysconf("SC_PAGE_SIZE") for key, name in known.items()}
    table = Path("/proc/meminfo")
    if table.is_file():  # counts what caches would give back
        for line in table.read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                found["free"] = int(line.split()[1]) * 1024
    return found


def dependencies() -> list[dict[str, Any]]:
    """Return what medaug needs and what is installed: name, requirement, version (None if missing), part, ok."""
    from packaging.requirements import Requirement

    found = []
    for line in requires("medaug") or ():
        need = Requirement(line)
        part = _part(need)
        if part == "elsewhere":
            continue
        try:
            have: str | None = version(need.name)
        except PackageNotFoundError:
            have = None
        fits = have is not None and need.specifier.contains(have, prereleases=True)
        ok = fits or (have is None and part is not None)
        found.append({"name": need.name, "wants": str(need.specifier), "version": have, "part": part, "ok": ok})
    return found


def _part(need: Any) -> str | None:
    """Return the optional part that a requirement belongs to, None for all, "elsewhere" where it does not hold."""
    if need.marker is None or need.marker.evaluate({"extra": ""}):
        return None
    return next((part for part in OPTIONAL if need.marker.evaluate({"extra": part})), "elsewhere")


def diagnosis(folder: Path) -> dict[str, Any]:
    """Return everything that `medaug doctor` tells, with `problems` in words."""
    facts, needed, plugins = machine(folder), dependencies(), plugin_states(load=True)
    problems = [f"torch cannot be imported ({facts['torch_error']})"] if facts["torch"] is None else []
    problems += [
        f"{need['name']} {need['wants']} is required"
        + (f" by medaug[{need['part']}]; " if need["part"] else "; ")
        + (f"{need['version']} is installed" if need["version"] else "it is not installed")
        for need in needed
        if not need["ok"]
    ]
    problems += list(dict.fromkeys(plugin.reason for plugin in plugins if plugin.state != "ok"))
    return {
        **facts,
        "dependencies": needed,
        "plugins": [asdict(plugin) for plugin in plugins],
        "problems": problems,
    }
