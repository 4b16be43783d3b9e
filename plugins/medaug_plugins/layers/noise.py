"""The numbers that an image is drawn from (Han et al. 2019, 2.2: normal or uniform)."""

import torch
from torch import Tensor


def draw_latents(kind: str, count: int, numbers: int, generator: torch.Generator) -> Tensor:
    """Return latent vectors (count, numbers), normal or uniform in [-1, 1]."""
    if kind == "uniform":
        return torch.rand(count, numbers, generator=generator) * 2 - 1
    return torch.randn(count, numbers, generator=generator)
