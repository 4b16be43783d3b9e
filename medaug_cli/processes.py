"""Several processes that train one model together: who they are, and what they tell each other.

torchrun and SLURM's srun start them and say so in the environment; torch.distributed connects them.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from medaug_cli.errors import MedaugError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

PATIENCE = timedelta(hours=1)  # for the first process, which alone writes, draws and validates
PORTS = (15000, 10000)  # the first that a SLURM job may be given, and how many there are


@dataclass(frozen=True)
class Place:
    """Where a process stands among those that were started together."""

    rank: int
    world: int
    local: int  # rank on its own machine
    address: str
    port: int


@dataclass(frozen=True)
class Group:
    """The processes of one run; every method but `leads` is called by all of them, in the same order."""

    rank: int
    world: int
    local: int  # rank on its own machine

    @property
    def leads(self) -> bool:
        """Tell whether this is the process that writes and speaks."""
        return self.rank == 0

    def average(self, tensors: "Iterable[Tensor]") -> None:
        """Replace every tensor by its mean over the processes, in place."""
        if self.world == 1:
            return
        import torch

        alike: dict[Any, list[Tensor]] = {}
        for tensor in tensors:
            alike.setdefault((tensor.device, tensor.dtype), []).append(tensor)
        for parts in alike.values():
            flat = torch.cat([part.reshape(-1) for part in parts])
            torch.distributed.all_reduce(flat)
            flat /= self.world
            means = flat.split([part.numel() for part in parts])
            torch._foreach_copy_(parts, [mean.reshape(part.shape) for mean, part in zip(means, parts, strict=True)])

    def agree(self, value: T) -> T:
        """Return the first process's value in every process."""
        if self.world == 1:
            return value
        import torch

        told: list[Any] = [value if self.leads else None]
        torch.distributed.broadcast_object_list(told, device=torch.device("cpu"))
        return told[0]

    def lead(self, work: Callable[[], T]) -> T:
        """Let the first process work; return its result, or raise its error, in every process."""
        if self.world == 1:
            return work()
        result: Any = None
        error: Exception | None = None
        if self.leads:
            try:
                result = work()
            except Exception as reason:
                error = reason
        told = error if error is None or isinstance(error, MedaugError) else MedaugError(f"the first process: {error}")
        result, told = self.agree((result, told))
        if told is not None:
            raise error or told
        return result

    def check_alike(self, value: object) -> None:
        """Raise UsageError in every process if they were not all started to do the same."""
        if self.world == 1:
            return
        import torch

        values: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(values, value)
        if any(other != values[0] for other in values):
            raise UsageError("the processes of this run were started with different options; start all with the same")


ALONE = Group(0, 1, 0)


@contextmanager
def joined(device: str) -> Iterator[Group]:
    """Connect this process with the others of its run, if torchrun or srun started several; yield the group."""
    place = find_place(os.environ)
    if place is None:
        yield ALONE
        return
    import torch

    gpus = torch.cuda.device_count() if device in ("auto", "cuda") else int(device.startswith("cuda"))
    torch.distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if gpus else "gloo", f"tcp://{place.address}:{place.port}", PATIENCE,
        place.world, place.rank,
    )  # fmt: skip
    try:
        yield Group(place.rank, place.world, place.local)
    finally:
        torch.distributed.destroy_process_group()


def find_place(environment: Mapping[str, str]) -> Place | None:
    """Return this process's place among several, None if it is alone; raise UsageError if that is unclear."""
    try:
        if "WORLD_SIZE" in environment and "RANK" in environment:  # torchrun
            rank, world = int(environment["RANK"]), int(environment["WORLD_SIZE"])
            local = int(environment.get("LOCAL_RANK", rank))
            address, port = environment.get("MASTER_ADDR", "localhost"), environment.get("MASTER_PORT", "29500")
        elif "SLURM_STEP_NUM_TASKS" in environment:  # srun; the batch script itself has no such variable
            rank, world = int(environment["SLURM_PROCID"]), int(environment["SLURM_STEP_NUM_TASKS"])
            local, nodes = int(environment["SLURM_LOCALID"]), environment["SLURM_STEP_NODELIST"]
            job = 64 * int(environment["SLURM_JOB_ID"]) + int(environment.get("SLURM_STEP_ID", 0))
            address = environment.get("MASTER_ADDR") or first_host(nodes)
            port = environment.get("MASTER_PORT") or str(PORTS[0] + job % PORTS[1])
        else:
            return None
        place = Place(rank, world, local, address, int(port))
    except (KeyError, ValueError) as error:
        raise UsageError(
            f"the processes of this run cannot be counted: {error} in torchrun's or srun's variables"
        ) from error
    return place if world > 1 else None


def first_host(nodes: str) -> str:
    """Return the first of SLURM's hosts: "gpu[003-005,9],login1" is gpu003."""
    match = re.match(r"([^\[,]+)(?:\[(\w+)[^\]]*\]([^,\[]*))?", nodes)
    if match is None:
        raise ValueError(f"no host in {nodes!r}")
    return "".join(part or "" for part in match.groups())
