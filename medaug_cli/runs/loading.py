"""Load what was trained from its folder; nothing in it can run code."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli import registry
from medaug_cli.boxes import patients_seen, safe_id
from medaug_cli.errors import BadInput
from medaug_cli.files import publish_bytes, publish_text, read_json, reading, sha256_file
from medaug_cli.runs.by_class import ByClass, joint_digest, of_one_class
from medaug_cli.runs.metadata import GeneratorMetadata, NetworkMetadata, PluginMetadata
from medaug_cli.store import Store


def save_plugin(folder: Path, kind: str, plugin: Any, metadata: dict[str, Any], half: bool = False) -> None:
    """Write `{kind}.safetensors` and `{kind}.json` into a run's folder; with `half` float32 becomes float16."""
    weights = folder / f"{kind}.safetensors"
    publish_bytes(weights, packed(plugin.state_dict(), half))
    model = GeneratorMetadata if kind == "generator" else NetworkMetadata
    described = model(weights=sha256_file(weights), **metadata)
    publish_text(folder / f"{kind}.json", json.dumps(json.loads(described.model_dump_json()), indent=1) + "\n")


def packed(state: Mapping[str, Any], half: bool = False) -> bytes:
    """Return tensors as the bytes of a safetensors file; with `half` float32 becomes float16."""
    import torch
    from safetensors.torch import save

    tensors = {name: torch.as_tensor(value).detach().cpu().contiguous() for name, value in state.items()}
    if half:
        tensors = {name: value.half() if value.dtype == torch.float32 else value for name, value in tensors.items()}
    return save(tensors)


def save_joint(folder: Path, metadata: GeneratorMetadata) -> None:
    """Write the generator.json of generators that lie in folders below, with their weights' SHA-256 as they are."""
    own = [read_json(folder / name / "generator.json", GeneratorMetadata) for name in metadata.parts.values()]
    described = metadata.model_copy(update={"weights": joint_digest(each.weights for each in own)})
    publish_text(folder / "generator.json", json.dumps(json.loads(described.model_dump_json()), indent=1) + "\n")


def load_generator(folder: Path, device: str = "cpu") -> tuple[Any, GeneratorMetadata]:
    """Return a generator ready to sample, and its metadata; of one fitted by class, all its generators as one."""
    metadata, parts = load_parts(folder, device)
    return parts[""] if "" in parts else ByClass(parts, metadata.form.spec()), metadata


def load_parts(folder: Path, device: str = "cpu") -> tuple[GeneratorMetadata, dict[str, Any]]:
    """Return the metadata of a generator and its parts by the kind of image; one that draws all kinds has none, ""."""
    metadata = read_json(_metadata_file(folder, "generator"), GeneratorMetadata)
    if not metadata.parts:
        return metadata, {metadata.draws[0] if metadata.draws else "": _load(folder, "generator", metadata, device)}
    parts, weights = {}, []
    for kind, name in metadata.parts.items():
        if safe_id(name) != name or name.startswith("."):
            raise BadInput(f"{folder / 'generator.json'} names the folder {name!r}, which does not lie in {folder}")
        own, found = load_parts(folder / name, device)
        if list(found) != [kind]:
            raise BadInput(f"{folder / name} holds no generator of {kind!r}, as {folder / 'generator.json'} says")
        parts[kind] = found[kind]
        weights.append(own.weights)
    if joint_digest(weights) != metadata.weights:
        raise BadInput(f"{folder} holds other generators than generator.json describes (SHA-256 differs)")
    return metadata, parts


def load_network(folder: Path, kind: str, device: str = "cpu") -> tuple[Any, NetworkMetadata]:
    """Return a detector, classifier or another `kind` of network ready to predict, and its metadata."""
    metadata = read_json(_metadata_file(folder, kind), NetworkMetadata)
    return _load(folder, kind, metadata, device), metadata


def load_detector(folder: Path, device: str = "cpu") -> tuple[Any, NetworkMetadata]:
    """Return a detector ready to predict, and its metadata."""
    return load_network(folder, "detector", device)


def weights_named(folder: Path, kind: str) -> str:
    """Return the hash of the weights that the JSON file of a trained network describes."""
    return read_json(_metadata_file(folder, kind), NetworkMetadata).weights


def check_detector(name: str, metadata: NetworkMetadata, store: Store, indices: np.ndarray, split: str) -> None:
    """Raise BadInput where a detector cannot be judged fairly on these images."""
    form, spec = metadata.form, store.spec
    if list(form.label_names) != list(spec.label_names):
        raise BadInput(
            f"detector {name} knows the classes {', '.join(form.label_names)}; "
            f"{store.path} has {', '.join(spec.label_names)}: they must be the same, in the same order"
        )
    check_network(f"detector {name}", metadata, store, indices, split)


def check_network(name: str, metadata: NetworkMetadata, store: Store, indices: np.ndarray, split: str) -> None:
    """Raise BadInput where a network was fitted on images of another form, or on patients of these images."""
    form, spec = metadata.form, store.spec
    if form.channels != spec.channels or tuple(form.spatial) != tuple(spec.spatial):
        raise BadInput(
            f"{name} was fitted on images of {form.channels} channels, {'x'.join(map(str, form.spatial))}; "
            f"{store.path} has {spec.channels}, {'x'.join(map(str, spec.spatial))}"
        )
    seen = patients_seen({store.patients[i] for i in indices}, metadata.training_patients)
    if seen and split != "train":
        hint = f"; it was trained in fold {metadata.fold}: --fold {metadata.fold}" if metadata.fold else ""
        raise BadInput(
            f"{name} was fitted on {len(seen)} of the patients in the {split} split of {store.path}; "
            f"evaluate on patients that it has never seen{hint}"
        )


def _metadata_file(folder: Path, kind: str) -> Path:
    if not folder.exists() and (unfinished := folder.with_name(f"{folder.name}.parts")).exists():
        raise BadInput(f"{folder} is not finished, its training is in {unfinished}; continue with --resume")
    with reading(folder):
        there = (folder / f"{kind}.json").is_file()
    if not there:
        why = f"{kind}.json is missing" if folder.exists() else "there is no such folder"
        raise BadInput(f"{folder} holds no trained {kind} ({why})")
    return folder / f"{kind}.json"


def check_whole(folder: Path, kind: str) -> None:
    """Raise BadInput where the weights of a trained folder are not those that its JSON file describes."""
    described = GeneratorMetadata if kind == "generator" else NetworkMetadata
    metadata = read_json(_metadata_file(folder, kind), described)
    parts = metadata.parts if isinstance(metadata, GeneratorMetadata) else {}
    for name in parts.values():
        check_whole(folder / name, kind)
    if not parts:
        _whole(folder, kind, metadata)


def _whole(folder: Path, kind: str, metadata: PluginMetadata) -> Path:
    weights = folder / f"{kind}.safetensors"
    if not weights.is_file():
        raise BadInput(f"{weights} does not exist")
    if sha256_file(weights) != metadata.weights:
        raise BadInput(f"{weights} is damaged or not the one that {kind}.json describes (SHA-256 differs)")
    return weights


def _load(folder: Path, kind: str, metadata: PluginMetadata, device: str) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load

    weights = _whole(folder, kind, metadata)
    plugin = registry.build(kind, metadata.name, metadata.settings)
    try:
        spec = metadata.form.spec()
        alone = isinstance(metadata, GeneratorMetadata) and metadata.draws
        plugin.load_state_dict(load(weights.read_bytes()), of_one_class(spec) if alone else spec, device)
    except (SafetensorError, RuntimeError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"{weights} does not fit the installed {kind} {metadata.name!r} ({reason})") from error
    return plugin
