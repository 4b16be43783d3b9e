"""Train variants of BoxGAN for equal CPU time and measure obedience, variety, and memorisation.

    python benchmarks/boxgan.py [real.h5] --cpu-seconds 240 --set variety=5 --set variety=5,gamma=2 --out build/boxgan

Without a store it takes the slices that ship, at 64x64.
Each --set is one variant (its settings separated by commas; an empty one is the defaults). For each, this
prints one JSON line and writes a picture of samples:
  found      how often a small network, trained on the real training images to find boxes, has its strongest
             response inside a box that was asked for (boxes of the validation and test splits)
  found_shuffled  the same against the boxes of other images: what chance and habit give
  spread     root mean variance of pixels over samples;   spread_same_box: over samples of one box
  nearest    mean distance of samples to the nearest training image; that of held-out real images beside it
  coverage   share of held-out real images that have a sample nearer than the real images' own median nearest distance
The real images' own figures are printed first. One process, one thread: run it with OMP_NUM_THREADS=1.
"""

import argparse
import json
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medaug_cli.devices import autocast, resolve_precision
from medaug_cli.figures.grid import save_grid
from medaug_cli.plugin import Condition, box_map
from medaug_cli.registry import build
from medaug_cli.store import Store, generator_examples, open_store

FINDER_STEPS = 700


@dataclass
class TimedRun:
    """A run that ends when the process has spent its CPU time."""

    cpu_seconds: float
    seed: int = 0
    device: str = "cpu"
    precision: Any = "32"
    workers: int = 0
    state: None = None
    last: dict[str, float] = field(default_factory=dict)
    begun: float = field(default_factory=time.process_time)

    def fraction(self, done: int) -> float:
        return (time.process_time() - self.begun) / self.cpu_seconds

    def autocast(self) -> AbstractContextManager:
        return autocast(self.device, self.precision)

    def log(self, done: int, **values: float) -> None:
        self.last = {name: 0.9 * self.last.get(name, value) + 0.1 * value for name, value in values.items()}
        self.last["done"] = done

    def checkpoint(self, done: int, state: Any, force: bool = False) -> bool:
        return False

    def validate(self, predict: Any) -> dict[str, float]:
        return {}


def finder(channels: int, width: int = 32) -> nn.Module:
    """Return a network that gives a logit for each pixel of a quarter of the size: is a box there?"""

    def layer(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
        conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())

    w = width
    return nn.Sequential(
        layer(channels, w), layer(w, w, 2), layer(w, 2 * w), layer(2 * w, 4 * w, 2), layer(4 * w, 4 * w),
        layer(4 * w, 4 * w, 2), layer(4 * w, 4 * w), nn.Upsample(scale_factor=2), layer(4 * w, 4 * w),
        nn.Conv2d(4 * w, 1, 1),
    )  # fmt: skip


def train_finder(images: Tensor, maps: Tensor) -> nn.Module:
    """Train a finder on images (n, c, *s) and their box maps (n, 1, *s), flipped and shifted."""
    torch.manual_seed(0)
    network, generator = finder(images.shape[1]), torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, FINDER_STEPS)
    reach = max(1, images.shape[-1] // 12)
    for _ in range(FINDER_STEPS):
        chosen = torch.randint(len(images), (32,), generator=generator)
        both = torch.cat([images[chosen], maps[chosen]], 1)
        both = both.flip(3) if torch.rand(1, generator=generator) < 0.5 else both
        both = both.roll(torch.randint(-reach, reach + 1, (2,), generator=generator).tolist(), (2, 3))
        seen, asked = both[:, :-1], both[:, -1:]
        seen = seen * (0.9 + 0.2 * torch.rand(32, 1, 1, 1, generator=generator))
        loss = F.binary_cross_entropy_with_logits(network(seen), F.avg_pool2d(asked, 4))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return network.eval()


@torch.no_grad()
def found(network: nn.Module, images: Tensor, maps: Tensor) -> float:
    """Return the share of images whose strongest response lies in a box."""
    response = torch.cat([network(part) for part in images.split(128)]).flatten(1)
    covered = F.avg_pool2d(maps, 4).flatten(1).gather(1, response.argmax(1, keepdim=True))
    return float((covered > 0.3).float().mean())


def nearest(images: Tensor, among: Tensor, itself: bool = False) -> Tensor:
    """Return each image's root mean square distance to the nearest of others, mirrored or not, (n,)."""
    size = images[0].numel()
    distances = [torch.cdist(images.flatten(1), o.flatten(1)) for o in (among, among.flip(-1))]
    if itself:
        distances[0].fill_diagonal_(float("inf"))
        distances[1].fill_diagonal_(float("inf"))
    return torch.minimum(*distances).amin(1) / size**0.5


def root_spread(images: Tensor) -> float:
    return float(images.var(0).mean().sqrt())


class Bench:
    """The real images, a finder trained on them, and the measures."""

    def __init__(self, store: Store, cache: Path) -> None:
        self.store = store
        train, held = store.indices("train"), np.concatenate([store.indices("val"), store.indices("test")])
        held = np.array([i for i in held if len(store.boxes[i])])
        self.conditions: list[Condition] = [store.condition(int(i)) for i in held]
        self.train, self.held = (torch.from_numpy(store.read(chosen)) for chosen in (train, held))
        self.maps = self._maps(self.conditions)
        if cache.exists():
            self.finder = finder(store.spec.channels).eval()
            self.finder.load_state_dict(torch.load(cache, weights_only=True))
        else:
            self.finder = train_finder(self.train, self._maps([store.condition(int(i)) for i in train]))
            torch.save(self.finder.state_dict(), cache)
        self.limit = float(nearest(self.held, self.train).median())

    def _maps(self, conditions: list[Condition]) -> Tensor:
        return torch.from_numpy(np.stack([box_map(c.boxes, c.spatial)[None] for c in conditions]))

    def measure(self, images: Tensor) -> dict[str, float]:
        """Measure images drawn (or taken) for the held-out conditions, in their order."""
        other = self.maps.roll(len(self.maps) // 2, 0)
        return {
            "found": found(self.finder, images, self.maps), "found_shuffled": found(self.finder, images, other),
            "spread": root_spread(images), "nearest": float(nearest(images, self.train).mean()),
        }  # fmt: skip

    def variant(self, settings: dict[str, Any], cpu_seconds: float, seed: int, picture: Path) -> dict[str, Any]:
        """Train one variant and measure what it draws."""
        gan = build("generator", "boxgan", settings)
        run = TimedRun(cpu_seconds, seed, precision=resolve_precision("auto", "cpu"))
        gan.fit(generator_examples(self.store), run)
        seconds = time.process_time() - run.begun
        images = self._sample(gan, self.conditions)
        same = self._sample(gan, [self.conditions[0]] * 64)
        coverage = float((nearest(self.held, images) < self.limit).float().mean())
        rows = [*images[:48], *same[:16]]
        boxes = [c.boxes for c in self.conditions[:48]] + [self.conditions[0].boxes] * 16
        save_grid(picture, [image.numpy() for image in rows], boxes, columns=16)
        save_grid(picture.with_name(f"{picture.stem}-plain.png"), [image.numpy() for image in rows],
                  [np.zeros((0, 4), np.float32)] * len(rows), columns=16)  # fmt: skip
        figures = {"kimg": run.last.get("done", 0) / 1000, "cpu_seconds": seconds} | self.measure(images)
        figures |= {"spread_same_box": root_spread(same), "coverage": coverage}
        return {name: round(value, 3) for name, value in figures.items()} | {"losses": rounded(run.last)}

    def _sample(self, gan: Any, conditions: list[Condition]) -> Tensor:
        return torch.from_numpy(np.stack(list(gan.sample(conditions, range(len(conditions))))))


def rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in values.items()}


def settings_of(text: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in text.split(",") if part)


def shipped(folder: Path) -> Path:
    """Make a store of the slices that ship with the project; return its path."""
    data = Path(__file__).parents[1] / "examples/data"
    medaug = str(Path(sys.executable).with_name("medaug"))
    settings = ("--size", "64", "--strip", "none", "--label", "tumour", "--resume")
    scans = (str(data / "images"), "--boxes", str(data / "boxes.json"), "--out", str(folder / "real.h5"))
    subprocess.run([medaug, "preprocess", *scans, *settings], check=True)
    return folder / "real.h5"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, nargs="?")
    parser.add_argument("--set", dest="variants", action="append", help="settings of a variant, with commas between")
    parser.add_argument("--cpu-seconds", type=float, default=240)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("build/boxgan"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    store = open_store(options.store or shipped(options.out))
    bench = Bench(store, options.out / f"finder-{store.hash[:12]}.pt")
    print(json.dumps({"variant": "real, held out", **rounded(bench.measure(bench.held))}), flush=True)
    for text in options.variants or [""]:
        picture = options.out / f"{text or 'defaults'}-{options.seed}.png"
        figures = bench.variant(settings_of(text), options.cpu_seconds, options.seed, picture)
        print(json.dumps({"variant": text or "defaults", "seed": options.seed, **figures}), flush=True)


if __name__ == "__main__":
    main()
