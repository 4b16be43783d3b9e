"""`medaug_cli.plugin.Run` made real: time, logs, checkpoints and pictures of one training run."""

import io
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np

from medaug_cli.answers import check_state
from medaug_cli.devices import Precision, autocast
from medaug_cli.errors import BadInput, MedaugError
from medaug_cli.files import named, new_file, publish_text
from medaug_cli.outlet import Outlet
from medaug_cli.plugin import Detections
from medaug_cli.processes import ALONE, Group

if TYPE_CHECKING:
    from torch import Tensor

KEEP = 2  # checkpoints
OVERFLOWS = 10  # logs in a row: at precision 16 a step that overflows is left out and the losses' scale is halved


@dataclass(frozen=True)
class Budget:
    """How long to train: images in thousands or optimiser steps, or minutes, whichever ends first."""

    units: float | None = None  # images (generators) or optimiser steps (detectors)
    minutes: float | None = None


@dataclass(frozen=True)
class Progress:
    """What a command shows while a run goes on."""

    done: int
    fraction: float
    seconds: float
    values: Mapping[str, float]


class TrainingRun:
    """One run in one folder. `on_checkpoint(done)` draws pictures; `report` shows progress.

    In a group of processes only the first writes, reports, draws and scores.
    """

    def __init__(
        self,
        folder: Path,
        device: str,
        precision: Precision,
        seed: int,
        workers: int,
        budget: Budget,
        checkpoint_seconds: float = 60.0,
        report: Callable[[Progress], None] = lambda progress: None,
        on_checkpoint: Callable[[int], None] = lambda done: None,
        score: Callable[[Callable], dict[str, float]] = lambda predict: {},
        on_fraction: Callable[[float], None] = lambda fraction: None,
        group: Group = ALONE,
    ):
        self.folder, self.device, self.precision = folder, device, precision
        self.seed, self.workers, self.budget = seed, workers, budget
        self._every, self._report, self._on_checkpoint, self._score = checkpoint_seconds, report, on_checkpoint, score
        self._on_fraction = on_fraction
        self._lost = 0  # logs in a row with a loss that is not a number
        self.group, self.rank, self.world = group, group.rank, group.world
        self.done, self._before, self.state = group.lead(self._restore)
        self._start = self._last = time.monotonic()

    def seconds(self) -> float:
        """Return the seconds this run has taken, earlier sittings included."""
        return self._before + time.monotonic() - self._start

    def fraction(self, done: int) -> float:
        """Return how much of the budget is used, 1 when it is."""
        used = [0.0]
        if self.budget.units is not None:
            used.append(done / self.budget.units)
        if self.budget.minutes is not None:
            used.append(self.group.agree(self.seconds()) / (60 * self.budget.minutes))
        self._on_fraction(max(used))
        return max(used)

    def autocast(self) -> AbstractContextManager:
        """Return torch.autocast for this run's device and precision."""
        return autocast(self.device, self.precision)

    def average(self, tensors: "Iterable[Tensor]") -> None:
        """Replace tensors by their means over the processes of this run, in place."""
        self.group.average(tensors)

    def log(self, done: int, **values: float) -> None:
        """Append numbers to metrics.jsonl and report progress; stop on a loss that is not a number."""
        self.done = done
        plain = {key: round(value, 6) for key, value in self._means(values).items()}
        lost = [key for key, value in plain.items() if not np.isfinite(value)]
        self._lost = self._lost + 1 if lost else 0
        if self._lost > (OVERFLOWS if self.precision == "16" else 0):
            raise MedaugError(
                f"training diverged: {lost[0]} is not a finite number after {done}; "
                "try a smaller learning rate (--set lr=...) or --precision 32"
            )
        plain = {key: value for key, value in plain.items() if key not in lost}
        fraction = self.fraction(done)  # all processes ask for it, since they agree on the time
        if not self.group.leads:
            return
        line = json.dumps({"done": done, "seconds": round(self.seconds(), 2), **plain})
        log = self.folder / "metrics.jsonl"
        with named(log), log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        self._report(Progress(done, min(1.0, fraction), self.seconds(), plain))

    def checkpoint(self, done: int, state: Callable[[], dict[str, Any]], force: bool = False) -> bool:
        """Let the pictures be drawn and write a checkpoint if one is due; keep the last two."""
        self.done = done
        if not self.group.agree(force or time.monotonic() - self._last >= self._every):
            return False
        self.group.lead(lambda: self._write(done, state))
        self._last = time.monotonic()
        return True

    def validate(self, predict: Callable[[Iterable[np.ndarray]], Iterator[Detections]]) -> dict[str, float]:
        """Score detections on the validation split; empty where there is none."""
        return self.group.lead(lambda: self._score(predict))

    def _means(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return numbers as means over the processes."""
        if self.world == 1:
            return {key: float(value) for key, value in values.items()}
        import torch

        means = torch.tensor([float(value) for value in values.values()], dtype=torch.float64)
        self.group.average([means])
        return dict(zip(values, means.tolist(), strict=True))

    def _write(self, done: int, state: Callable[[], dict[str, Any]]) -> None:
        import torch

        self._on_checkpoint(done)  # first: a run that is killed in between draws them again
        folder = self.folder / "checkpoints"
        folder.mkdir(exist_ok=True)
        with new_file(folder / f"{done:010d}.pt") as temporary:
            saved = {"done": done, "seconds": self.seconds(), "state": state()}
            check_state(saved["state"])
            with Outlet(temporary) as outlet:
                torch.save(saved, cast(IO[bytes], outlet))
        here = folder / f"{done:010d}.pt"
        numbered = sorted(folder.glob("*.pt"))
        own = [path for path in numbered if path.name <= here.name]
        for old in {*numbered} - {*own[-KEEP:]}:  # older ones, and newer ones that could not be gone on from
            old.unlink()

    def _restore(self) -> tuple[int, float, Mapping[str, Any] | None]:
        """Return images or steps, seconds and state of the newest checkpoint that is whole, and forget what was
        logged after it."""
        found: tuple[int, float, Mapping[str, Any] | None] = 0, 0.0, None
        faults = []
        for path in sorted((self.folder / "checkpoints").glob("*.pt"), reverse=True):
            try:
                found = _read_checkpoint(path)
                break
            except _Damaged as fault:
                faults.append(f"{path} {fault}")
        if faults and found[2] is None:
            raise BadInput(f"{faults[0]}, and no checkpoint before it can be used; start over with --overwrite")
        log = self.folder / "metrics.jsonl"
        if log.exists():
            kept = [
                line for line in log.read_text(encoding="utf-8").splitlines() if _logged(line) <= found[0] and found[2]
            ]
            publish_text(log, "".join(line + "\n" for line in kept))
        return found


def newest_checkpoint(folder: Path) -> Mapping[str, Any] | None:
    """Return the state that a finished run wrote last; None where it is not there, or damaged."""
    for path in sorted((folder / "checkpoints").glob("*.pt"), reverse=True):
        try:
            return _read_checkpoint(path)[2]
        except _Damaged:
            continue
    return None


class _Damaged(Exception):
    """Why a checkpoint cannot be used, now or later."""


def _read_checkpoint(path: Path) -> tuple[int, float, Mapping[str, Any]]:
    """Return images or steps, seconds and state; raise BadInput where the file cannot be read just now."""
    import pickle
    import zipfile

    import torch

    try:
        content = io.BytesIO(path.read_bytes())
        if zipfile.ZipFile(content).testzip() is not None:
            raise _Damaged("is damaged")
        content.seek(0)
        saved = torch.load(content, map_location="cpu", weights_only=True)
        done, seconds, state = saved["done"], saved["seconds"], saved["state"]
        if not (isinstance(done, int) and isinstance(seconds, int | float) and isinstance(state, dict)):
            raise TypeError
        return done, seconds, state
    except OSError as error:
        raise BadInput(f"{path} cannot be read now ({error.strerror or error}); nothing is removed") from error
    except (zipfile.BadZipFile, EOFError) as error:
        raise _Damaged("is damaged") from error
    except (pickle.UnpicklingError, KeyError, TypeError) as error:
        raise _Damaged("is not a checkpoint of medaug") from error
    except (RuntimeError, MemoryError, ValueError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise BadInput(f"{path} cannot be loaded now ({reason}); nothing is removed") from error


def _logged(line: str) -> float:
    try:
        return json.loads(line)["done"]
    except (ValueError, KeyError):
        return float("inf")
