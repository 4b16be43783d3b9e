"""Pieces of training loops: randomness, steps, moving averages, and what is saved and restored."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from medaug_cli.plugin import BadInput, Run

LOG_EVERY = 10  # steps
CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}  # dimensions -> how convolutions are fastest


class StepRandomness:
    """The randomness of one step, drawn from the run's seed and the images done: a resumed run repeats it."""

    def __init__(self, seed: int, done: int, device: str) -> None:
        numpy_seed, torch_seed = np.random.SeedSequence(abs(seed), spawn_key=(1, done)).spawn(2)
        self.numpy = np.random.default_rng(numpy_seed)
        self.torch = torch.Generator().manual_seed(int(torch_seed.generate_state(1, np.uint64)[0] >> 1))
        self.device = torch.device(device)

    def indices(self, weights: np.ndarray, count: int) -> np.ndarray:
        """Draw indices (count,) with these weights."""
        return self.numpy.choice(len(weights), count, p=weights)


class Trained(Protocol):
    """Networks in training, with everything that a resumed run needs."""

    steps: int

    def step(self, done: int) -> dict[str, Tensor]:
        """Take the step after `done` images; return its losses."""
        ...

    def state_dict(self, done: int) -> dict[str, Any]:
        """Return what a resumed run needs after `done` images."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> int:
        """Take up the state of `state_dict`; return how many images were done."""
        ...


def train(training: Trained, batch: int, run: Run) -> None:
    """Go on from the run's state, or begin, and take steps of `batch` images until its budget is spent."""
    done = training.load_state_dict(run.state) if run.state else 0
    while run.fraction(done) < 1:
        losses = training.step(done)
        done += batch
        if training.steps % LOG_EVERY == 0:
            run.log(done, **{name: float(value) for name, value in losses.items()})
        run.checkpoint(done, lambda: training.state_dict(done))  # noqa: B023
    run.checkpoint(done, lambda: training.state_dict(done), force=True)


def annealed(lr: float, anneal: float, fraction: float) -> float:
    """Return the step size after a fraction of a run: it falls to zero over the last share `anneal` of it.

    A run for minutes may be over, by then, when its last step begins.
    """
    return lr * min(1.0, max(0.0, 1 - fraction) / anneal) if anneal else lr


def optimizer_step(optimiser: torch.optim.Optimizer, loss: Tensor, run: Run) -> None:
    """Go one step down the mean of the processes' losses."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    trained = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    run.average(parameter.grad for parameter in trained if parameter.grad is not None)
    optimiser.step()


@torch.no_grad()
def move_average(average: nn.Module, network: nn.Module, batch: int, half_life: float) -> None:
    """Move the average of a network's weights by a batch of images; `half_life` is in images too."""
    decay = 0.5 ** (batch / max(half_life, 1e-8))
    averages: list[Tensor] = list(average.parameters())
    torch._foreach_lerp_(averages, list(network.parameters()), 1 - decay)


def place(network: nn.Module, device: str) -> None:
    """Move a network to a device, channels last as its images are, be they pictures or volumes."""
    network.to(device)
    for weight in network.parameters():
        if weight.ndim - 2 in CHANNELS_LAST:
            weight.data = weight.data.contiguous(memory_format=CHANNELS_LAST[weight.ndim - 2])


def laid_out(images: Tensor) -> Tensor:
    """Return images (b, c, *s) as a network that was placed takes them: with their channels last."""
    return images.contiguous(memory_format=CHANNELS_LAST[images.ndim - 2])


def load_weights(network: nn.Module, state: Mapping[str, Any], kind: str) -> None:
    """Copy weights into a network; raise BadInput naming the first that does not fit a network of this kind."""
    own = network.state_dict()
    for name in sorted(own.keys() | state.keys()):
        found = tuple(state[name].shape) if name in state else "nothing"
        asked = tuple(own[name].shape) if name in own else "nothing"
        if found != asked:
            raise BadInput(
                f"these weights do not fit a {kind} of these settings, labels and image size: {name} holds {found}, "
                f"expected {asked}"
            )
    network.load_state_dict(dict(state))


def load_moments(optimiser: torch.optim.Optimizer, moments: Mapping[Any, Any]) -> None:
    """Restore an optimiser's `state_dict()["state"]`, whose keys may have become text."""
    state = {int(index): value for index, value in moments.items()}
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
