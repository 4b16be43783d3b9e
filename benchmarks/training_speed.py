"""How fast cpggan and boxgan train and draw, against the plainest float32 version of the same networks.

    OMP_NUM_THREADS=1 python benchmarks/training_speed.py --out docs/training-speed.json

One thread, one process, the slices in examples/data. The plain version is eager float32 with PyTorch's own layout,
optimiser loop and pooling, a gradient penalty in every step, and images read from the store for every batch. The
versions take turns, so that a busy machine slows all alike; CPU seconds are counted, not the clock's.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F

from medaug_cli.devices import autocast, has_fast_bf16
from medaug_cli.plugin import Examples
from medaug_cli.registry import build
from medaug_cli.runs import RunOptions, train_generator
from medaug_cli.store import generator_examples, open_store
from medaug_cli.synthesis import SynthesisOptions, synthesize
from medaug_cli.testing.trial import TrialRun
from medaug_plugins import boxgan, cpggan
from medaug_plugins.cpggan.schedule import Stage

DATA = Path(__file__).parent.parent / "examples" / "data"
NETWORKS = {"cpggan": cpggan.networks, "boxgan": boxgan.networks}
SETTINGS: dict[str, dict[str, Any]] = {"cpggan": {"preset": "small"}, "boxgan": {}}
LAZY = {"cpggan": "gp_every", "boxgan": "r1_every"}
VERSIONS = ("plain float32", "float32", "float32, lazy penalty", "bf16", "bf16, lazy penalty")
BATCH = 16  # images of a step
TURN = 64  # images that a version sees in its turn: every lazy penalty falls due a whole number of times


class Trial(TrialRun):
    """A trial at a precision of its own."""

    def autocast(self) -> Any:
        return autocast("cpu", self.precision)


def plain_adam(*arguments: Any, **settings: Any) -> torch.optim.Optimizer:
    return ADAM(*arguments, **{**settings, "fused": False, "foreach": False})


ADAM = torch.optim.Adam


@contextmanager
def plainly(plain: bool) -> Iterator[None]:
    """Take away what makes the networks fast, apart from precision."""
    with ExitStack() as stack:
        if plain:  # the names below are looked up as they are used
            stack.enter_context(patch.object(torch, "channels_last", torch.contiguous_format))
            stack.enter_context(patch.object(torch.optim, "Adam", plain_adam))
            stack.enter_context(patch("medaug_plugins.boxgan.training.Adam", plain_adam, create=True))
            pool = lambda x, times=1: F.avg_pool2d(x, 2**times) if times else x  # noqa: E731
            stack.enter_context(patch.object(cpggan.networks, "shrink", pool))
            for dataset in (cpggan.dataset, boxgan.dataset):
                stack.enter_context(patch.object(dataset, "KEPT_NUMBERS", 0))
        yield


class Version:
    """One generator in training at full size, stepped a few times at a time."""

    def __init__(self, name: str, version: str, data: Examples, side: int) -> None:
        self.name, self.plain = name, version.startswith("plain")
        plugin = build("generator", name, SETTINGS[name])
        if not version.endswith("lazy penalty"):
            setattr(plugin, LAZY[name], 1)
        run = Trial(1e9, precision="bf16" if version.startswith("bf16") else "32")
        self.seconds, self.images = 0.0, 0
        with plainly(self.plain):
            self.training = plugin._begin(data, run)
        self.batch = plugin.batch if name == "boxgan" else BATCH
        self.stage = Stage(0.0, side, BATCH)

    def go(self, steps: int) -> None:
        """Take steps and count their images and CPU seconds."""
        with plainly(self.plain):
            begun = time.process_time()
            for _ in range(steps):
                self.images += self._step()
            self.seconds += time.process_time() - begun

    def _step(self) -> int:
        if self.name == "boxgan":
            self.training.step(self.images)
            return self.training.settings.batch
        return self.training.step(self.images, self.stage)[0]


def training_rates(name: str, data: Examples, side: int, rounds: int) -> dict[str, float]:
    """Return images a CPU second for every version, which take turns after a step that is not counted."""
    versions = {version: Version(name, version, data, side) for version in VERSIONS}
    for version in versions.values():
        version.go(1)
        version.seconds, version.images = 0.0, 0
    for _ in range(rounds):
        for version in versions.values():
            version.go(TURN // version.batch)
    return {version: each.images / each.seconds for version, each in versions.items()}


def sampling(name: str, store: Path, count: int) -> dict[str, float]:
    """Return images a CPU second of `medaug synthesize`, and the share of that time that is the network's."""
    gan, network = store.parent / name, NETWORKS[name].Generator
    train_generator(store, name, RunOptions(gan, SETTINGS[name], device="cpu"), kimg=0.064)
    spent = [0.0]
    forward = network.forward

    def timed(*arguments: Any, **named: Any) -> torch.Tensor:
        begun = time.process_time()
        images = forward(*arguments, **named)
        spent[0] += time.process_time() - begun
        return images

    with patch.object(network, "forward", timed):
        begun = time.process_time()
        synthesize(SynthesisOptions(count, gan, store.parent / f"{name}.h5", device="cpu"))
        total = time.process_time() - begun
    return {"images": count, "images a CPU second": count / total, "network share": spent[0] / total}


def prepare(folder: Path, side: int) -> Path:
    """Write the slices of examples/data at a size, as `make demo` does."""
    place = folder / str(side)
    place.mkdir()
    arguments = [DATA / "images", "--boxes", DATA / "boxes.json", "--size", side, "--strip", "none"]
    program = [sys.executable, "-c", "from medaug_cli.cli import main; main()", "preprocess"]
    subprocess.run(
        [*program, *map(str, arguments), "--label", "tumour", "--out", place / "real.h5"], check=True, cwd=place
    )
    return place / "real.h5"


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next(line.split(": ")[1] for line in lines if line.startswith("model name"))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("training-speed.json"))
    parser.add_argument("--generators", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--rounds", type=int, default=3, help="turns of each version")
    parser.add_argument("--count", type=int, default=4000, help="images to sample at the largest side")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "command": f"OMP_NUM_THREADS=1 python benchmarks/training_speed.py --rounds {chosen.rounds}",
        "torch": torch.__version__, "processor": processor(), "cores": os.cpu_count(),
        "bf16 faster than float32": has_fast_bf16("cpu"), "training": {}, "sampling": {},
    }  # fmt: skip
    if chosen.out.exists():  # what other calls have measured stays
        result = json.loads(chosen.out.read_text(encoding="utf-8")) | {"command": result["command"]}
    with tempfile.TemporaryDirectory() as folder:
        stores = {side: prepare(Path(folder), side) for side in chosen.sides}
        for name in chosen.generators:
            for side, store in stores.items():
                rates = training_rates(name, generator_examples(open_store(store)), side, chosen.rounds)
                speedups = {version: rate / rates[VERSIONS[0]] for version, rate in rates.items()}
                row = {"images a CPU second": rates, "against plain": speedups}
                result["training"][f"{name} {side}"] = row
                print(name, side, json.dumps(row, indent=1), flush=True)
            result["sampling"][name] = sampling(name, stores[max(stores)], chosen.count)
            print(name, json.dumps(result["sampling"][name]), flush=True)
    chosen.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
