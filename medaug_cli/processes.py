"""Several processes that train one model together: who they are, and what they tell each other.

torchrun and SLURM's srun start them and say so in the environment; torch.distributed connects them.
"""

import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from medaug_cli.errors import Interrupted, MedaugError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

PATIENCE = timedelta(hours=1)  # for the first process, which alone writes, draws and validates
MEETING = 300.0  # seconds that the processes of one run may be apart when they start
QUIET = 5.0  # seconds of waiting before a word
CONNECTION = timedelta(seconds=30)
COME = "come"  # counts the processes that are there
ONE = "to train in this process alone, unset SLURM_STEP_NUM_TASKS or WORLD_SIZE"
LOOK = 0.2  # seconds between two looks whether the others have come
PORTS = (15000, 10000)  # the first that a SLURM job may be given, and how many there are


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
        error: BaseException | None = None
        if self.leads:
            try:
                result = work()
            except (Exception, Interrupted) as reason:
                error = reason
        told = error
        if error is not None and not isinstance(error, MedaugError | Interrupted):
            told = MedaugError(f"the first process: {error}")
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
def joined(device: str, say: Callable[[str], None] = lambda sentence: None) -> Iterator[Group]:
    """Connect this process with the others of its run, if torchrun or srun started several; yield the group.

    Raises MedaugError where the others do not come.
    """
    place = find_place(os.environ)
    if place is None:
        yield ALONE
        return
    import torch

    gpus = torch.cuda.device_count() if device in ("auto", "cuda") else int(device.startswith("cuda"))
    store = _meet(place, say)
    torch.distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=PATIENCE, world_size=place.world, rank=place.rank,
        store=store,
    )  # fmt: skip
    try:
        yield Group(place.rank, place.world, place.local)
    finally:
        torch.distributed.destroy_process_group()


def _meet(place: Place, say: Callable[[str], None]) -> Any:
    """Wait until all processes of a run have come together; return the torch.distributed store that connects them.

    It looks now and then, so that Ctrl-C and SIGTERM end it: torch itself would wait deaf and without a word.
    """
    begun, silent, come = time.monotonic(), True, 0
    store: Any = None
    where = f"{place.address}, port {place.port}"
    while True:
        if store is None:
            store = _reached(place)
            if store is not None:
                store.add(COME, 1)
        come = 0 if store is None else store.add(COME, 0)
        if store is not None and come >= place.world:
            store.set_timeout(PATIENCE)
            return store
        waited = time.monotonic() - begun
        if waited > MEETING:
            raise MedaugError(
                f"by the variables of torchrun or srun this is process {place.rank} of {place.world}, but after "
                f"{MEETING / 60:.0f} minutes not all of them are at {where}; start all of them, or {ONE}"
            )
        if silent and waited > QUIET:
            others = "the first process" if store is None else f"{place.world - come} more processes"
            say(f"waiting for {others} of this run at {where}, up to {MEETING / 60:.0f} minutes; {ONE}")
            silent = False
        time.sleep(LOOK)


def _reached(place: Place) -> Any:
    """Open the store of the first process, or connect with it; return None where it is not there yet."""
    from torch.distributed import DistError, PrefixStore, TCPStore

    elsewhere = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # torchrun holds it
    leads = place.rank == 0 and not elsewhere
    if not leads:
        try:
            socket.create_connection((place.address, place.port), timeout=1.0).close()  # torch complains at length
        except OSError:
            return None
    try:
        store = TCPStore(place.address, place.port, is_master=leads, timeout=CONNECTION, wait_for_workers=False)
    except (DistError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise MedaugError(f"no process can be met at {place.address}, port {place.port} ({reason})") from error
    return PrefixStore(f"medaug/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


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
