"""What each process of a run takes of a batch, and the whole batch again where a number is of all its images.

Legend: b images of a process's share, w processes.
"""

from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from medaug_cli.plugin import Run, UsageError

Batch = TypeVar("Batch", bound=Any)


def check_shares(batch: int, run: Run) -> None:
    """Raise UsageError where the processes of a run cannot have equal shares of a batch."""
    if batch % run.world:
        raise UsageError(f"{run.world} processes cannot share a batch of {batch} equally; choose another number")


def refuse_half(name: str, run: Run) -> None:
    """Raise UsageError where a run of R1's gradients of gradients, which are not scaled, asks for precision 16."""
    if run.precision == "16":
        raise UsageError(f"{name} trains at --precision 32 or bf16; its gradient penalty overflows in 16")


def mine(batch: Batch, run: Run) -> Batch:
    """Return this process's share of what every process has drawn alike for a whole batch."""
    return cast(Batch, batch[run.rank :: run.world])


def whole(share: Tensor, run: Run) -> Tensor:
    """Return the batch (w * b, ...) that the shares (b, ...) of all processes make up.

    Every process calls this at the same time, and runs backward through it at the same time. The gradients of all
    processes' losses for an image are then summed, second-order ones too: averaged over the processes, the gradients
    of the weights are those of the mean loss.
    """
    return share if run.world == 1 else cast(Tensor, _Gather.apply(share, run))


class _Gather(torch.autograd.Function):
    """Put the shares of all processes together."""

    @staticmethod
    def forward(ctx: Any, share: Tensor, run: Run) -> Tensor:
        ctx.run = run
        batch = share.new_zeros(len(share) * run.world, *share.shape[1:])
        mine(batch, run)[:] = share * run.world
        run.average([batch])
        return batch

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return cast(Tensor, _Scatter.apply(gradients[0], ctx.run)), None


class _Scatter(torch.autograd.Function):
    """Sum the batches of all processes and take this one's share: the gradient of `_Gather`, and it is its own."""

    @staticmethod
    def forward(ctx: Any, batch: Tensor, run: Run) -> Tensor:
        ctx.run = run
        total = batch * run.world
        run.average([total])
        return mine(total, run).clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return cast(Tensor, _Gather.apply(gradients[0], ctx.run)), None
