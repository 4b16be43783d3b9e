"""One network's optimiser, with what half precision and several processes require."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medaug_cli.plugin import Run

FIRST_SCALE = 1024.0  # of a loss at precision 16; it grows and shrinks from there


class ScaledAdam:
    """Adam (Karras et al. 2018, A.1) for one network.

    At precision 16 losses are scaled so that small gradients survive; a step whose gradients overflow is left out
    and the scale halved, for this network alone. Among several processes gradients are averaged while they are still
    scaled: all see the same overflow and take the same step.
    """

    def __init__(self, network: nn.Module, run: Run, lr: float) -> None:
        self.network, self.run, self.lr = network, run, lr
        device = torch.device(run.device)
        self.scaler = torch.amp.GradScaler(device.type, FIRST_SCALE, enabled=run.precision == "16")
        self.one = torch.ones((), device=device)
        self.restart()

    def restart(self) -> None:
        """Forget the moments of the gradients."""
        self.adam = torch.optim.Adam(self.network.parameters(), self.lr, (0.0, 0.99), 1e-8, fused=True)

    def set_lr(self, lr: float) -> None:
        """Set the learning rate from now on."""
        self.lr = self.adam.param_groups[0]["lr"] = lr

    def scale(self) -> Tensor:
        """Return the factor that losses are multiplied by, 1 except at precision 16."""
        return self.scaler.scale(self.one)

    def step(self, loss: Tensor) -> None:
        """Go one step down the mean of the processes' losses."""
        self.adam.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.run.average(p.grad for p in self.network.parameters() if p.grad is not None)
        self.scaler.step(self.adam)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """Return the moments and the scale."""
        return {"moments": self.adam.state_dict()["state"], "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict`, whose keys may have become text."""
        self.restart()
        moments = {int(index): value for index, value in state["moments"].items()}
        self.adam.load_state_dict({**self.adam.state_dict(), "state": moments})
        if state["scaler"]:
            self.scaler.load_state_dict(dict(state["scaler"]))
