"""Do networks of the same settings learn as well as they did at the last release? Ten seeds a task, as distributions.

    OMP_NUM_THREADS=1 python benchmarks/steady.py --work steady              # train, and compare with what is kept
    OMP_NUM_THREADS=1 python benchmarks/steady.py --work steady --keep 0.2.0  # keep the numbers under that name

One number of one seed says little: real images alone gave 0.404 and 0.466 in two studies of the same settings, and
seeds alone can do that. A small fixed run on the slices in examples/data is repeated with every seed. Beside the kept
numbers stand the difference of the means, its 95 % interval (Welch 1947), and p by exchange of all seeds; a task whose
p is below 0.01 ends in exit code 1. Test patients are looked at as often as this runs: it guards the code, it finds
nothing about images.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from medaug_cli import __version__
from medaug_cli.files import canonical, write_json
from medaug_cli.metrics.resampling import point
from medaug_cli.preprocess.pipeline import preprocess
from medaug_cli.preprocess.plan import PreprocessOptions
from medaug_cli.preprocess.recipe import Recipe
from medaug_cli.runs import RunOptions, load_network
from medaug_cli.runs.networks import train_network
from medaug_cli.store import Store, open_store
from medaug_cli.tables import as_markdown, fixed, probability, table
from medaug_cli.tasks.task import task_named

HERE = Path(__file__).resolve().parent
DATA = HERE.parent / "examples" / "data"
KEPT = HERE / "steady.json"
ALARM = 0.01

SMALL = {"width": "8", "lr": "0.002", "warm_up": "30", "ema": "0.98", "validations": "5"}
RUNS: dict[str, tuple[str, int, dict[str, str]]] = {  # task -> network, steps, settings
    "detection": (
        "yolov3",
        300,
        {
            "backbone": "small",
            "width": "8",
            "head_width": "64",
            "zoom_input": "2",
            "assignment": "aligned",
            "lr": "0.003",
            "box_weight": "3",
        },
    ),
    "classification": ("classifier", 200, SMALL),
    "segmentation": ("segmenter", 150, SMALL),
}


Numbers = dict[str, list[float]]  # of each seed


def slices(work: Path) -> Store:
    """Return the store of the shipped slices, made once."""
    place = work / "real.h5"
    if not place.exists():
        work.mkdir(parents=True, exist_ok=True)
        recipe = Recipe(size=64, strip="none")
        given = {"boxes": DATA / "boxes.json", "masks": DATA / "masks", "classes": str(DATA / "classes.csv")}
        preprocess(PreprocessOptions(DATA / "images", place, recipe=recipe, **given))
    return open_store(place)


def run(task_name: str, store: Store, seed: int, work: Path) -> dict[str, float]:
    """Return what a network of a seed reaches on the test patients: the numbers that its task compares."""
    asked = hashlib.sha256(canonical([__version__, RUNS[task_name]]).encode()).hexdigest()[:8]
    place = work / f"{task_name}-{asked}"  # other settings, or another release, are trained anew
    kept = place / f"seed{seed}.json"
    if kept.is_file():
        return json.loads(kept.read_text(encoding="utf-8"))
    task, (name, steps, settings) = task_named(task_name), RUNS[task_name]
    out = place / f"seed{seed}"
    train_network(task, store.path, name, RunOptions(out, settings, seed, device="cpu", resume=True), steps=steps)
    network, _ = load_network(out, task.kind)
    test = np.flatnonzero(task.usable(store) & (store.splits == "test"))
    answers = task.answers(store, test, list(network.predict(store.read([int(i)])[0] for i in test)))
    reached = point(answers, len({store.patients[i] for i in test}))
    numbers = {key: reached[key] for key in task.main}
    write_json(kept, numbers)
    print(task_name, seed, f"{task.headline} {numbers[task.headline]:.3f}", file=sys.stderr, flush=True)
    return numbers


def exchanged(now: np.ndarray, before: np.ndarray, times: int = 20000) -> float:
    """Return p of a difference of means at least as large where seeds are exchanged between the two at random."""
    both, size = np.concatenate([now, before]), len(now)
    random = np.random.default_rng(0)
    mixed = random.permuted(np.tile(both, (times, 1)), axis=1)
    gaps = np.abs(mixed[:, :size].mean(1) - mixed[:, size:].mean(1))
    seen = abs(now.mean() - before.mean())
    return float((1 + (gaps >= seen - 1e-12).sum()) / (1 + times))


def welch(now: np.ndarray, before: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two means whose spreads may differ."""
    low, high = stats.ttest_ind(now, before, equal_var=False).confidence_interval(0.95)
    return float(low), float(high)


def compared(task_name: str, now: Numbers, kept: dict[str, dict[str, Numbers]]) -> tuple[str, float]:
    """Return a table of a task's numbers beside those of the last release, and p of its headline."""
    last = next((name for name in reversed(kept) if task_name in kept[name]), None)
    headline, worst, rows = task_named(task_name).headline, 1.0, []
    for key, values in now.items():
        mine = np.array(values)
        row = [key, fixed(mine.mean()), fixed(mine.std(ddof=1))]
        if last is not None and key in kept[last][task_name]:
            other = np.array(kept[last][task_name][key])
            p = exchanged(mine, other)
            gap = fixed(mine.mean() - other.mean(), limits=welch(mine, other), sign="+")
            row += [fixed(other.mean()), fixed(other.std(ddof=1)), gap, probability(p)]
            worst = p if key == headline else worst
        rows.append(row)
    header = ["", "mean", "spread over seeds"]
    header += [] if last is None else [f"mean in {last}", f"spread in {last}", "difference", "p"]
    seeds = len(next(iter(now.values())))
    return as_markdown(table(f"{task_name}, {seeds} seeds", header, rows)), worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder; seeds that are done are not trained again")
    parser.add_argument("--tasks", nargs="+", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--keep", metavar="RELEASE", help="write the numbers into steady.json under this name")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    store = slices(asked.work)
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else {}
    now: dict[str, Numbers] = {}
    alarms = []
    for name in asked.tasks:
        each = [run(name, store, seed, asked.work) for seed in range(asked.seeds)]
        now[name] = {key: [round(numbers[key], 6) for numbers in each] for key in each[0]}
        text, p = compared(name, now[name], kept)
        print(text, end="\n\n", flush=True)
        alarms += [name] if p < ALARM else []
    if asked.keep:
        write_json(KEPT, kept | {asked.keep: kept.get(asked.keep, {}) | now})
    if alarms:
        sys.exit(f"changed by more than seeds explain (p < {ALARM}): {', '.join(alarms)}")


if __name__ == "__main__":
    main()
