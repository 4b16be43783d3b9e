"""Which device and which precision a run uses."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Literal, cast

from medaug_cli.errors import UsageError

Precision = Literal["32", "bf16", "16"]

FASTER = 1.2  # times, by which bfloat16 must be faster than float32 to be chosen


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
        return bool(able.get("amx_bf16")) or (bool(able.get("avx512_bf16") or able.get("bf16")) and _bf16_gains())
    return False


@cache
def _bf16_gains() -> bool:
    """Tell whether a convolution takes less time in bfloat16 than in float32.

    Some processors have instructions for bfloat16 that do half as much as those for float32, others twice as much:
    their flags are the same.
    """
    import torch

    seconds = {}
    for kind in (torch.float32, torch.bfloat16):
        images = torch.ones(4, 64, 32, 32, dtype=kind).contiguous(memory_format=torch.channels_last)
        weights = torch.ones(64, 64, 3, 3, dtype=kind).contiguous(memory_format=torch.channels_last)
        seconds[kind] = min(_seconds(lambda: torch.conv2d(images, weights, padding=1)) for _ in range(8))  # noqa: B023
    return seconds[torch.bfloat16] * FASTER < seconds[torch.float32]


def _seconds(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def resolve_precision(name: str, device: str) -> Precision:
    """Return the precision for "auto", "32", "bf16" or "16" on `device`.

    On a GPU "auto" is 32, with convolutions in TF32: on an H200 no network trained faster in bf16, and most took longer
    (docs/generators.md); what bf16 saves there is memory.
    """
    if name == "auto":
        return "bf16" if device == "cpu" and has_fast_bf16(device) else "32"
    if name not in ("32", "bf16", "16"):
        raise UsageError(f"--precision {name}: the choices are auto, 32, bf16 and 16")
    if name == "16" and not device.startswith("cuda"):
        raise UsageError(f"--precision 16 needs a cuda device, but this run uses {device}; choose bf16 or 32")
    return cast(Precision, name)


def autocast(device: str, precision: str) -> AbstractContextManager:
    """Return torch.autocast for a precision, or a context that does nothing at 32."""
    import torch

    if precision == "32":
        return nullcontext()
    kind = device.partition(":")[0]
    return torch.autocast(kind, dtype=torch.bfloat16 if precision == "bf16" else torch.float16)
