"""A training run that keeps no files and watches what the plugin does with it."""

import io
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

from medaug_cli.plugin import Detections
from medaug_cli.testing.checking import CheckFailed

PATIENCE = 1000  # calls of run.fraction without progress


@dataclass
class TrialRun:
    """`medaug_cli.plugin.Run` for a budget of `budget` images or steps, with one checkpoint halfway.

    `on_checkpoint` and `on_validate` are called as the core would do it in a real run.
    """

    budget: float
    seed: int = 0
    state: Mapping[str, Any] | None = None
    device: str = "cpu"
    precision: Literal["32", "bf16", "16"] = "32"
    workers: int = 0
    rank: int = 0
    world: int = 1
    on_checkpoint: Callable[[], None] = lambda: None
    on_validate: Callable[[Callable], dict[str, float]] = lambda predict: {}
    first: int | None = None  # `done` after the first step
    done: int = 0
    logged: int = 0
    saved: tuple[int, bytes] | None = None  # the first checkpoint from half of the budget on, else the first forced one
    asked: int = -1  # the highest `done` that fraction was asked for
    seconds: float = math.inf  # after which the budget is used up, whatever was done
    out_of_time: bool = False
    keeps: bool = True  # its checkpoint; else the state is asked for and forgotten
    _idle: int = 0
    _start: float = field(default_factory=time.monotonic)

    def fraction(self, done: int) -> float:
        """Return how much of the budget is used; fail a loop that makes no progress."""
        self._idle = 0 if done > self.asked else self._idle + 1
        self.asked = max(self.asked, done)
        if self._idle > PATIENCE:
            raise CheckFailed(f"fit asks run.fraction({done}) again and again; `done` must grow with every step")
        if done and self.first is None:
            self.first = done
        self.out_of_time = time.monotonic() - self._start > self.seconds
        return 1.0 if self.out_of_time else done / self.budget

    def autocast(self) -> AbstractContextManager:
        """Return a context that does nothing: trials run at precision 32."""
        return nullcontext()

    def average(self, tensors: Iterable[Any]) -> None:
        """Do nothing: a trial has one process."""

    def log(self, done: int, **values: float) -> None:
        """Note that something was logged; fail on what is not a finite number."""
        self._at(done, "log")
        self.logged += 1
        for name, value in values.items():
            if not math.isfinite(float(value)):
                raise CheckFailed(f"fit logs {name} = {value} after {done}; a run stops at what is not a finite number")

    def checkpoint(self, done: int, state: Callable[[], dict[str, Any]], force: bool = False) -> bool:
        """Write the state as the core does where half of the budget is used, and wherever `force` asks for it."""
        self._at(done, "checkpoint")
        late, early = done / self.budget >= 0.5, self.saved is None or self.saved[0] / self.budget < 0.5
        due = late and early
        if due or (force and self.saved is None):
            content = state()
            self.saved = done, frozen(content) if self.keeps else b""
        if due or force:
            self.on_checkpoint()
        return due or force

    def validate(self, predict: Callable[[Iterable], Iterator[Detections]]) -> dict[str, float]:
        """Hand the detections to `on_validate`."""
        return self.on_validate(predict)

    def _at(self, done: int, call: str) -> None:
        if isinstance(done, bool) or not isinstance(done, int):
            raise CheckFailed(
                f"fit calls run.{call}({done}, ...) with a {type(done).__name__}; `done` is an int that counts whole "
                "images or steps"
            )
        if done < self.done:
            raise CheckFailed(f"fit calls run.{call}({done}, ...) after {self.done}; `done` must not go back")
        if self.done >= self.budget and done > self.done:
            raise CheckFailed(f"fit goes on to {done} though run.fraction({self.done}) was 1; stop when it reaches 1")
        if done and self.first is None:
            self.first = done
        self.done = done


def frozen(state: dict[str, Any]) -> bytes:
    """Return a checkpoint as bytes; fail what `weights_only=True` would not read back."""
    import torch

    if not isinstance(state, dict):
        raise CheckFailed(f"the state given to run.checkpoint is a {type(state).__name__}; expected a dict")
    buffer = io.BytesIO()
    try:
        torch.save({"state": state}, buffer)
        torch.load(io.BytesIO(buffer.getvalue()), map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:160]
        raise CheckFailed(
            "the state given to run.checkpoint cannot be read back safely: it may hold tensors, numbers, strings, "
            f"lists and dicts, no numpy arrays and no objects ({type(error).__name__}: {reason})"
        ) from error
    return buffer.getvalue()


def thawed(content: bytes) -> dict[str, Any]:
    """Return the state of a checkpoint."""
    import torch

    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)["state"]
