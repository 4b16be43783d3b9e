"""`medaug plugins`: what is installed, what it can be told, and whether it meets the contract."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medaug_cli.commands import console, options

if TYPE_CHECKING:
    from medaug_cli.inspection import PluginState

app = typer.Typer(
    invoke_without_command=True, no_args_is_help=False, rich_markup_mode=None, pretty_exceptions_show_locals=False
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of an installed plugin.")]
Kind = Annotated[str | None, typer.Option(help="generator, detector, ..., where several plugins share that name.")]


@app.callback()
@console.answering
def plugins(
    context: typer.Context,
    load: Annotated[bool, typer.Option("--load", help="Import each plugin, and say which ones fail to load.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """List the installed plugins without importing them; check or show one by name.

    Example: medaug plugins check cpggan
    """
    if context.invoked_subcommand is not None:
        return
    from medaug_cli.inspection import installed_weights, plugin_states

    states, weights = plugin_states(load), installed_weights()
    rows = [*map(_of_plugin, states), *map(_of_weights, weights)]
    width = max((len(name) for _, name, *_ in rows), default=0)
    lines = [
        f"{kind:<10} {name:<{width}} {state:<14} {whose}" + (f"\n    {said}" if said else "")
        for kind, name, state, whose, said in rows
    ]
    text = "\n".join(lines) or "no plugin is installed"
    console.answer({"plugins": [asdict(state) for state in states], "weights": weights}, as_json, text)


def _of_plugin(state: "PluginState") -> tuple[str, str, str, str, str]:
    return state.kind, state.name, state.state, f"{state.distribution} {state.version}", state.reason


def _of_weights(one: dict[str, Any]) -> tuple[str, str, str, str, str]:
    state = "does not load" if one["problem"] else "installed"
    said = one["problem"] or f"{one['card']['draws']}; {one['card']['licence']}"
    return "weights", one["name"], state, f"{one['distribution']} {one['version']}", said


@app.command()
@console.answering
def check(
    name: Name,
    kind: Kind = None,
    settings: options.Settings = None,
    as_json: options.AsJson = False,
) -> None:
    """Import a plugin and run the contract's checks on small constructed images.

    Example: medaug plugins check cpggan --set base=64 --set latent=16
    """
    from medaug_cli.inspection import chosen_kinds
    from medaug_cli.testing import check_plugin

    kinds, chosen = chosen_kinds(name, kind), options.parse_settings(settings)
    results = {
        each: check_plugin(each, name, chosen, lambda check: console.say(f"checking {name}: {check}")) for each in kinds
    }
    lines = [
        f"{'ok    ' if one.ok else 'FAILED'} {one.name}: {one.sentence}" for each in kinds for one in results[each]
    ]
    ok = all(one.ok for each in kinds for one in results[each])
    lines.append(f"{name} meets the contract" if ok else f"{name} does not meet the contract")
    listed = [{"kind": each, **asdict(one)} for each in kinds for one in results[each]]
    console.answer({"plugin": name, "ok": ok, "checks": listed}, as_json, "\n".join(lines))
    if not ok:
        raise typer.Exit(1)


@app.command()
@console.answering
def show(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="An installed plugin or weights, or a generator's folder.")
    ],
    kind: Kind = None,
    as_json: options.AsJson = False,
) -> None:
    """Show what a plugin takes, what it can do, and each of its settings; or what a trained generator draws.

    Example: medaug plugins show yolov3
    """
    from medaug_cli import registry
    from medaug_cli.inspection import chosen_kinds, describe, describe_generator

    folder = _generator_folder(name)
    if folder is not None:
        found = describe_generator(folder)
        card = [f"  {key}: {_words(value)}" for key, value in found.get("card", {}).items() if value]
        rest = [f"{key}: {_words(value)}" for key, value in found.items() if value and key != "card"]
        console.answer(found, as_json, "\n".join([*(["card:", *card] if card else []), *rest]))
        return
    described = [describe(each, registry.load(each, name)) for each in chosen_kinds(name, kind)]
    lines = []
    for one in described:
        lines.append(f"{name}, a {one['kind']}: {one['summary']}")
        lines += [f"  {key}: {value}" for key, value in one["capabilities"].items()]
        lines += [
            f"  --set {setting['name']}={setting['default']}   {setting['help']} ({setting['takes']})"
            for setting in one["settings"]
        ]
    console.answer({"plugin": name, "kinds": described}, as_json, "\n".join(lines))


def _generator_folder(name: str) -> Path | None:
    """Return the folder of a generator: that of a path, or of installed weights; None for anything else."""
    from medaug_cli.weights import named_weights, weights_folder

    if (Path(name) / "generator.json").is_file():
        return Path(name)
    return weights_folder(name) if name in named_weights() else None


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {one}" for key, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
