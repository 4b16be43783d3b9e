"""Which device and which precision a run uses."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal, cast

from medaug_cli.errors import UsageError

Precision = Literal["32", "bf16", "16"]


def resolve_device(name: str, local: int = 0) -> str:
    """Return a usable torch device for "auto", "cpu", "cuda", "cuda:1" or "mps".

    `local` is the rank of this process on its machine: processes that train together take a GPU each.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return f"cuda:{local % torch.cuda.device_count()}"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, number = name.partition(":")
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if kind not in available:
        raise UsageError(f"--device {name}: the choices are auto, cpu, cuda, cuda:0 (1, ...) and mps")
    if not available[kind]:
        raise UsageError(f"--device {name}: this machine has no {kind} device that torch can use")
    if kind == "cuda" and number and not (number.isdigit() and int(number) < torch.cuda.device_count()):
        raise UsageError(f"--device {name}: this machine has cuda:0 to cuda:{torch.cuda.device_count() - 1}")
    return f"cuda:{local % torch.cuda.device_count()}" if name == "cuda" else name


def has_fast_bf16(device: str) -> bool:
    """Tell whether bfloat16 is done in hardware on `device`."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device == "cpu":
        able = torch.cpu.get_capabilities()
        return bool(able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16"))
    return False


def resolve_precision(name: str, device: str) -> Precision:
    """Return the precision for "auto", "32", "bf16" or "16" on `device`."""
    if name == "auto":
        return "bf16" if has_fast_bf16(device) else "32"
    if name not in ("32", "bf16", "16"):
        raise UsageError(f"--precision {name}: the choices are auto, 32, bf16 and 16")
    if name == "16" and not device.startswith("cuda"):
        raise UsageError(f"--precision 16 needs a cuda device, this run uses {device}; choose bf16 or 32")
    return cast(Precision, name)


def autocast(device: str, precision: str) -> AbstractContextManager:
    """Return torch.autocast for a precision, or a context that does nothing at 32."""
    import torch

    if precision == "32":
        return nullcontext()
    kind = device.partition(":")[0]
    return torch.autocast(kind, dtype=torch.bfloat16 if precision == "bf16" else torch.float16)
