"""Try every generator and detector on one GPU: does CUDA follow the CPU, how fast is it, what is drawn at full size?

    python benchmarks/gpu.py real.h5 --minutes 9 --out build/gpu
    python benchmarks/gpu.py real.h5 --minutes 2 --device cpu --toy

It reads a store that `medaug preprocess` has made, at best of 256x256, on this machine or another, and needs torch,
torchvision, timm, safetensors, h5py, numba, pydantic and Pillow; nothing has to be installed of medaug itself. Five
parts follow each other, each in its own time, and after each the results are written anew:
  agree      20 steps of every generator and detector on the CPU and on the device: losses, what the same weights draw
             or find; on the device a run against its like, and a resumed run against them
  precision  bf16 and fp16 against float32: last losses, images per second
  speed      training and drawing at 64, 128 and 256 pixels: images per second, peak memory in MiB, and the share of the
             fastest convolution that this device does (TFLOP/s)
  compile    drawing with torch.compile against without
  train      cpggan and boxgan at the size of the store for the minutes that are left: folders that `medaug synthesize`
             reads, and grids for the boxes of held-out patients; with --start NAME boxgan begins with those weights
Results are gpu.json, gpu.md, and in train/ a folder and a picture for each generator. The tables name what fails.
"""

# ruff: noqa: E402 (medaug is found first)
import argparse
import importlib.util
import json
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

ROOT = Path(__file__).resolve().parents[1]


def find_medaug() -> None:
    """Let Python find medaug and its plugins beside this file where they are not installed."""
    if importlib.util.find_spec("medaug_cli") and entry_points(group="medaug.generators"):
        return
    sys.path[:0] = [str(ROOT), str(ROOT / "plugins")]
    from medaug_cli import __version__

    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in entries.items()) for group, entries in groups.items()]
    about = Path(tempfile.mkdtemp()) / f"medaug-{__version__}.dist-info"
    about.mkdir()
    told = f"Metadata-Version: 2.1\nName: medaug\nVersion: {__version__}\n"
    (about / "METADATA").write_text(told, encoding="utf-8")
    (about / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    sys.path.insert(0, str(about.parent))


find_medaug()

from medaug_cli.devices import autocast, resolve_device
from medaug_cli.figures.grid import draw_grid
from medaug_cli.files import publish_text
from medaug_cli.plugin import Condition, Examples, as_drawn
from medaug_cli.registry import build, names
from medaug_cli.runs import RunOptions, load_generator, train_generator
from medaug_cli.store import Store, generator_examples, open_store
from medaug_cli.testing.trial import TrialRun, thawed

GENERATORS = ("cpggan", "pggan", "boxgan", "inpaint", "regions")
TRAINED = {"cpggan": 0.5, "boxgan": 1.0}  # generator -> share of the minutes that are left
STEPS = 20
SHARES = {"agree": 0.3, "precision": 0.1, "speed": 0.25, "compile": 0.1}  # of all minutes; `train` has the rest
DRAWN = 8
RESERVE = 8.0  # seconds for pictures at the end
PGGAN = {"latent": 128, "base": 512, "max_maps": 32, "batches": "4:8", "gp_every": 4}
NARROW = {  # what the networks are that the CPU has to keep up with
    "cpggan": PGGAN,
    "pggan": PGGAN,
    "boxgan": {"max_maps": 32},
    "inpaint": {"batch": 8, "patch": 32},
    "regions": {"batch": 8},
    "yolov3": {"backbone": "small", "width": 8, "head_width": 32, "batch": 4},
}
TOY = {
    "cpggan": {"preset": "small", "latent": 8, "max_maps": 8, "batches": "4:4"},
    "pggan": {"preset": "small", "latent": 8, "max_maps": 8, "batches": "4:4"},
    "boxgan": {"latent": 8, "max_maps": 8, "embedding": 4, "batch": 4},
    "inpaint": {"latent": 8, "width": 4, "max_maps": 8, "patch": 16, "batch": 4},
    "regions": {"latent": 8, "max_maps": 8, "side": 16, "batch": 4},
    "yolov3": {"backbone": "small", "width": 4, "head_width": 32, "batch": 2},
}
DETECTOR = {"backbone": "small", "width": 4, "pyramid": 64, "batch": 2}  # of torchvision's


class TimeUp(BaseException):
    """The time of a part is used up; nothing on the way takes it for an error."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise TimeUp within the block after so many seconds, between two operations."""

    def stop(*_: Any) -> None:
        raise TimeUp

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass
class Trial(TrialRun):
    """A trial at any precision that remembers its losses."""

    losses: list[dict[str, float]] = field(default_factory=list)

    def autocast(self) -> Any:
        return autocast(self.device, self.precision)

    def log(self, done: int, **values: float) -> None:
        self.losses.append(values)
        super().log(done, **values)


class Resized:
    """The images of a store at another size, with their boxes; masks are left out."""

    def __init__(self, data: Examples, side: int) -> None:
        self.data, self.factor = data, side / min(data.spec.spatial)
        spatial = tuple(round(length * self.factor) for length in data.spec.spatial)
        self.spec = replace(data.spec, spatial=spatial, masks=False, mask_names=())
        self.boxes = [np.asarray(boxes, np.float32) * self.factor for boxes in data.boxes]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.data, name)  # labels, patients and all else that has no size

    def __len__(self) -> int:
        return len(self.data)

    def read(self, indices: Any) -> np.ndarray:
        images = torch.from_numpy(np.ascontiguousarray(self.data.read(indices), np.float32))
        mode = {4: "bilinear", 5: "trilinear"}[images.ndim]
        antialias = {"antialias": True} if images.ndim == 4 else {}
        return F.interpolate(images, size=self.spec.spatial, mode=mode, **antialias).clamp(0, 1).numpy()

    def condition(self, index: int) -> Condition:
        own = self.data.condition(index)
        return replace(own, spatial=self.spec.spatial, boxes=self.boxes[index], mask=None)


@dataclass
class Bench:
    """The store, the device, and where results go."""

    store: Store
    device: str
    out: Path
    toy: bool
    until: float  # time.monotonic() at which all is over
    start: str | None = None  # weights that boxgan begins with
    results: dict[str, Any] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """Return the seconds that are left."""
        return self.until - time.monotonic()

    def settings(self, name: str, whole: bool = False) -> dict[str, Any]:
        """Return the settings of a network: narrow ones, or with `whole` its own."""
        if self.toy:
            return dict(TOY.get(name, DETECTOR))
        return {} if whole else dict(NARROW.get(name, DETECTOR))

    def examples(self, side: int) -> Any:
        """Return the training images at a size."""
        return Resized(generator_examples(self.store), side)

    def sync(self) -> None:
        """Wait until the device has done what it was asked for."""
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)

    def peak_memory(self, work: Callable[[], Any]) -> float | None:
        """Return the most memory in MiB that some work takes; None on a CPU."""
        if not self.device.startswith("cuda"):
            work()
            return None
        torch.cuda.reset_peak_memory_stats(self.device)
        work()
        self.sync()
        return torch.cuda.max_memory_allocated(self.device) / 2**20

    def rate(self, work: Callable[[], int], seconds: float, warm: int = 3) -> float:
        """Return how many images per second `work` does, which returns how many it has done each time."""
        for _ in range(1 if self.toy else warm):
            work()
        self.sync()
        begun, done = time.perf_counter(), 0
        while not done or time.perf_counter() - begun < seconds:
            done += work()
            self.sync()
        return done / (time.perf_counter() - begun)

    def write(self) -> None:
        """Publish what there is."""
        self.out.mkdir(parents=True, exist_ok=True)
        publish_text(self.out / "gpu.json", json.dumps(self.results, indent=1) + "\n")
        publish_text(self.out / "gpu.md", markdown(self.results))


def kind_of(name: str) -> str:
    return "generator" if name in GENERATORS else "detector"


def fitted(bench: Bench, name: str, device: str, data: Any, **run: Any) -> tuple[Any, Trial]:
    """Return a network after STEPS steps on a device, and its run."""
    plugin = build(kind_of(name), name, bench.settings(name))
    images = (plugin.batch if hasattr(plugin, "batch") else int(plugin.batches.rpartition(":")[2])) * STEPS
    trial = Trial(images if kind_of(name) == "generator" else STEPS, seed=3, device=device, **run)
    plugin.fit(data, trial)
    return plugin, trial


def answers(name: str, plugin: Any, data: Any) -> list[np.ndarray]:
    """Return what a network draws for a few boxes, or the best scores of what it finds in a few images."""
    some = range(min(DRAWN, len(data)))
    if kind_of(name) == "detector":
        return [np.sort(scores)[::-1][:5] for _, scores, _ in plugin.predict(iter(data.read(list(some))))]
    conditions = [data.condition(i) for i in some]
    return [as_drawn(x, c).image for x, c in zip(plugin.sample(conditions, some), conditions, strict=True)]


def difference(first: list[np.ndarray], second: list[np.ndarray]) -> float:
    """Return the largest difference of two lists of arrays; infinity where their shapes differ."""
    pairs = list(zip(first, second, strict=True))
    if any(a.shape != b.shape for a, b in pairs):
        return float("inf")
    return float(max((np.abs(a - b).max(initial=0) for a, b in pairs), default=0))


def agree(bench: Bench) -> Iterator[dict[str, Any]]:
    """Yield for each network how the device follows the CPU, and a resumed run an uninterrupted one."""
    side = 32 if bench.toy else 64
    data = bench.examples(side)
    for name in (*GENERATORS, *names("detector")):
        row: dict[str, Any] = {"network": name}
        begun = time.perf_counter()
        with noted(row):
            plugin, run = fitted(bench, name, "cpu", data)
            here, there = fitted(bench, name, bench.device, data)
            row["losses"] = [losses_differ(a, b) for a, b in zip(run.losses, there.losses, strict=True)]
            state = plugin.state_dict()
            loaded = [build(kind_of(name), name, bench.settings(name)) for _ in range(2)]
            for one, device in zip(loaded, ("cpu", bench.device), strict=True):
                one.load_state_dict(state, data.spec, device)
            row["answers"] = difference(*(answers(name, one, data) for one in loaded))
            assert there.saved is not None
            row["again"] = weights_differ(here, fitted(bench, name, bench.device, data)[0])
            resumed, _ = fitted(bench, name, bench.device, data, state=thawed(there.saved[1]))
            row["resumed"] = weights_differ(here, resumed)
        yield row | {"seconds": time.perf_counter() - begun}


def losses_differ(first: dict[str, float], second: dict[str, float]) -> float:
    """Return the largest difference of the losses of two runs, relative to those above 1."""
    return max(abs(value - second[name]) / max(abs(value), 1.0) for name, value in first.items())


def weights_differ(first: Any, second: Any) -> float:
    """Return the largest difference of the weights of two networks."""
    return difference(*([np.asarray(x) for x in plugin.state_dict().values()] for plugin in (first, second)))


@contextmanager
def noted(row: dict[str, Any]) -> Iterator[None]:
    """Write into a row what fails, and go on."""
    try:
        yield
    except Exception as error:
        row["failed"] = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def precision(bench: Bench) -> Iterator[dict[str, Any]]:
    """Yield the last losses and the speed of some networks at each precision."""
    data = bench.examples(32 if bench.toy else 64)
    for name in ("cpggan", "boxgan", "yolov3"):
        for kind in ("32", "bf16", "16"):
            row: dict[str, Any] = {"network": name, "precision": kind}
            with noted(row):
                begun = time.perf_counter()
                _, run = fitted(bench, name, bench.device, data, precision=kind)
                bench.sync()
                row["losses"] = {key: float(value) for key, value in run.losses[-1].items()}
                row["seconds"] = time.perf_counter() - begun
            yield row


def peak_rates(bench: Bench) -> dict[str, float]:
    """Return the most floating-point operations a second that a large convolution reaches at each precision."""
    count, maps, side = (1, 8, 16) if bench.toy else (64, 256, 64)
    found = {}
    for name, kind in {"32": torch.float32, "bf16": torch.bfloat16}.items():
        x = torch.randn(count, maps, side, side, device=bench.device, dtype=kind).contiguous(
            memory_format=torch.channels_last
        )
        w = torch.randn(maps, maps, 3, 3, device=bench.device, dtype=kind).contiguous(memory_format=torch.channels_last)
        operations = 2 * 9 * maps * maps * count * side * side
        rate = bench.rate(lambda: int(torch.conv2d(x, w, padding=1).shape[0] > 0), 0.01 if bench.toy else 0.5)  # noqa: B023
        found[name] = operations * rate
    return found


class Operations(TorchDispatchMode):
    """Count floating-point operations; torch's own counter does not stand gradients of gradients."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer, kwargs = func(*args, **(kwargs or {})), kwargs or {}
        count = flop_registry.get(func._overloadpacket)
        self.total += count(*args, **kwargs, out_val=answer) if count else 0
        return answer


class Trained:
    """A generator in training at full size, step by step."""

    def __init__(self, bench: Bench, name: str, side: int, kind: str) -> None:
        self.plugin = build("generator", name, bench.settings(name, whole=True))
        run = Trial(1e9, device=bench.device, precision=kind)  # type: ignore[arg-type]
        self.training, self.done = self.plugin._begin(bench.examples(side), run), 0
        self.name, self.stage = name, None
        if name != "boxgan":
            from medaug_plugins.cpggan.schedule import Schedule, read_batches

            self.stage = Schedule(side, read_batches(self.plugin.batches)).at_lod(0.0)

    def step(self) -> int:
        """Take a step; return its images."""
        if self.name == "boxgan":
            self.training.step(self.done)
            images = self.plugin.batch
        else:
            images = self.training.step(self.done, self.stage)[0]
        self.done += images
        return images

    def operations(self) -> float:
        """Return floating-point operations an image, mean over the steps from one gradient penalty to the next."""
        every = getattr(self.plugin, "r1_every", 0) or self.plugin.gp_every
        with Operations() as counted:
            images = sum(self.step() for _ in range(every))
        return counted.total / images


def speed(bench: Bench) -> Iterator[dict[str, Any]]:
    """Yield speed and memory of training and drawing at each size."""
    peaks = peak_rates(bench)
    for kind, rate in peaks.items():
        yield {"network": "fastest convolution", "precision": kind, "tflops": rate / 1e12}
    seconds = 0.01 if bench.toy else 2.0
    for side in (16,) if bench.toy else (64, 128, 256):
        for name in ("cpggan", "boxgan"):
            for kind in ("32",) if bench.toy else ("32", "bf16"):
                row: dict[str, Any] = {"network": name, "side": side, "precision": kind}
                with noted(row):
                    trained = Trained(bench, name, side, kind)
                    operations = trained.operations()
                    row["memory"] = bench.peak_memory(trained.step)
                    row["training"] = bench.rate(trained.step, seconds)
                    row["share"] = operations * row["training"] / peaks[kind]
                    drawer = drawing(bench, trained)
                    row["drawing_memory"] = bench.peak_memory(drawer)
                    row["drawing"] = bench.rate(drawer, seconds / 2, warm=1)
                yield row


def drawing(bench: Bench, trained: Trained, plugin: Any = None) -> Callable[[], int]:
    """Return what draws a batch of images with the average of a generator in training."""
    plugin, data = plugin or trained.plugin, trained.training.data.examples
    plugin._average, plugin._lod = trained.training.average, 0.0
    count = 4 if bench.toy else 64
    conditions = [data.condition(i % len(data)) for i in range(count)]
    return lambda: len(list(plugin.sample(conditions, range(count))))


def compiled(bench: Bench) -> Iterator[dict[str, Any]]:
    """Yield how fast images are drawn with a compiled generator and without."""
    if bench.toy:
        return
    for name in ("boxgan", "cpggan"):
        row: dict[str, Any] = {"network": name, "side": 128}
        with noted(row):
            trained = Trained(bench, name, 128, "32")
            draw = drawing(bench, trained)
            row["plain"] = bench.rate(draw, 2.0)
            average, begun = trained.training.average, time.perf_counter()
            average.forward = torch.compile(average.forward)
            draw()
            bench.sync()
            row["compiling_seconds"] = time.perf_counter() - begun
            row["compiled"] = bench.rate(draw, 2.0)
        yield row


def train(bench: Bench) -> Iterator[dict[str, Any]]:
    """Yield what generators were trained for the time that is left; their folders and grids are published."""
    held = [i for i in bench.store.indices("val") if len(bench.store.boxes[i])] or list(bench.store.indices("train"))
    chosen = np.random.default_rng(0).permutation(held)[: 4 if bench.toy else 16]
    conditions = [bench.store.condition(int(i)) for i in chosen]
    shown = list(bench.store.read(np.sort(chosen)))
    order = np.argsort(np.argsort(chosen))
    for name, share in TRAINED.items():
        row: dict[str, Any] = {"network": name, "size": "x".join(map(str, bench.store.spec.spatial))}
        with noted(row):
            minutes = max(0.01, share * (bench.left - RESERVE) / 60)
            out = bench.out / "train" / name
            start = bench.start if name == "boxgan" else None
            settings = {} if start else bench.settings(name, whole=True)
            options = RunOptions(out, settings, device=bench.device, overwrite=True)
            train_generator(bench.store.path, name, options, minutes=minutes, start=start)
            shutil.rmtree(out / "checkpoints", ignore_errors=True)  # many times as large as what is drawn with
            generator, _ = load_generator(out, bench.device)
            samples = generator.sample(conditions, range(len(conditions)))
            drawn = [as_drawn(x, c).image for x, c in zip(samples, conditions, strict=True)]
            boxes = [condition.boxes for condition in conditions]
            grid = draw_grid([*(shown[i] for i in order), *drawn], boxes * 2, len(conditions), 128)
            grid.save(out.with_suffix(".png"), optimize=True)
            row |= {"minutes": minutes, "folder": str(out), "images": images_of(out)}
        yield row


def images_of(folder: Path) -> int | None:
    """Return how many images a generator was trained on when it last said so; None of a run of a few steps."""
    log = folder / "metrics.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return int(json.loads(lines[-1])["done"]) if lines else None


PARTS: dict[str, Callable[[Bench], Iterator[dict[str, Any]]]] = {
    "agree": agree, "precision": precision, "speed": speed, "compile": compiled, "train": train,
}  # fmt: skip


def run(bench: Bench, parts: tuple[str, ...], minutes: float) -> None:
    """Take one part after the other; what a part has found stays, whatever ends it."""
    for name in parts:
        rows: list[dict[str, Any]] = []
        bench.results[name] = {"rows": rows, "ended": "in time"}
        allowed = bench.left if name == "train" else min(bench.left, SHARES[name] * minutes * 60)
        begun = time.monotonic()
        try:
            with limited(allowed):
                for row in PARTS[name](bench):
                    rows.append(row)
                    print(f"{name}: {row}", file=sys.stderr, flush=True)
        except TimeUp:
            bench.results[name]["ended"] = "out of time"
        except Exception as error:
            bench.results[name]["ended"] = f"{type(error).__name__}: {error}"
        finally:
            bench.results[name]["seconds"] = time.monotonic() - begun
            bench.write()


def markdown(results: dict[str, Any]) -> str:
    """Return the results as Markdown, a table a part."""
    lines = ["# One device", "", ", ".join(f"{k} {v}" for k, v in results["machine"].items()), ""]
    for name, part in results.items():
        if name == "machine":
            continue
        lines += [f"## {name}", "", f"{part['ended']}, {part.get('seconds', 0):.0f} s", ""]
        columns = list(dict.fromkeys(key for row in part["rows"] for key in row))
        if columns:
            lines += [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
            lines += [f"| {' | '.join(cell(row.get(column)) for column in columns)} |" for row in part["rows"]]
            lines.append("")
    return "\n".join(lines)


def cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {cell(each)}" for key, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(cell, value))
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def machine(device: str) -> dict[str, str]:
    """Return what tells one machine from another."""
    told = {"device": device, "torch": torch.__version__, "threads": str(torch.get_num_threads())}
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(device)
        told |= {"name": properties.name, "memory": f"{properties.total_memory / 2**30:.0f} GiB"}
        told |= {"CUDA": str(torch.version.cuda), "cuDNN": str(torch.backends.cudnn.version())}
    return told


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--minutes", type=float, default=9.0, help="for everything")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--toy", action="store_true", help="tiny networks and images, to try this file itself")
    parser.add_argument("--part", dest="parts", action="append", choices=tuple(PARTS), help="alone; repeatable")
    parser.add_argument("--start", metavar="NAME", help="installed weights, or a folder, that boxgan begins with")
    parser.add_argument("--out", type=Path, default=Path("build/gpu"))
    options = parser.parse_args(arguments)
    device = resolve_device(options.device)
    until = time.monotonic() + 60 * options.minutes
    store = open_store(options.store)
    bench = Bench(store, device=device, out=options.out, toy=options.toy, until=until, start=options.start)
    bench.results["machine"] = machine(device)
    run(bench, tuple(options.parts or PARTS), options.minutes)


if __name__ == "__main__":
    main()
