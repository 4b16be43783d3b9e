"""Can trees tell pasted lesions from real ones by what lies around them? AUC out of fold, for each blending.

python benchmarks/seams.py cubes.h5 volumes.h5 [--n 96]

Real regions, repeated as they are, are put into whole images by `synthesize --into`, and compared with the same lesions
where they really are: both stores must be of the same scans. What is seen is how grey values and edges run from a
lesion's box outwards, in shells. 0.5 is no seam at all; beside it stands what the same trees find between two halves of
the real lesions, and between the real ones and the same places of the whole images before anything was put there: that
is what the choice of places gives away, whatever the blending. Folds, and the resamples behind the 95 % intervals, are
of patients.
"""

import argparse
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medaug_cli.runs import RunOptions, train_generator
from medaug_cli.store import Store, open_store
from medaug_cli.synthesis import SynthesisOptions, synthesize

SHELLS = ((0.0, 0.125), (0.125, 0.25), (0.25, 0.4), (0.4, 0.6))  # of a box's sides, from its edge outwards
FOLDS, TREES, RESAMPLES, HALVES = 5, 300, 2000, 5
BLENDINGS = ("poisson", "soft")


class Seen(NamedTuple):
    """What is seen around lesions, and whose images they lie in."""

    shells: np.ndarray  # (n, f)
    patients: np.ndarray  # (n,)

    def part(self, chosen: np.ndarray) -> "Seen":
        """Return some of them, chosen (n,) bool."""
        return Seen(self.shells[chosen], self.patients[chosen])


class Told(NamedTuple):
    """How well two sets are told apart."""

    auc: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.auc:.2f} [{self.low:.2f}, {self.high:.2f}]"


def shells(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return mean, spread and mean edge of an image (*s) in each shell around a box (2*d,), (3 * shells,)."""
    d = image.ndim
    sides = np.maximum(box[d:] - box[:d], 1e-3)
    away = np.full(image.shape, -np.inf)
    for axis, at in enumerate(np.indices(image.shape) + 0.5):
        x = d - 1 - axis
        away = np.maximum(away, np.maximum(box[x] - at, at - box[d + x]) / sides[x])
    edges = np.sqrt(sum(np.square(step) for step in np.gradient(image)))
    found: list[float] = []
    for low, high in SHELLS:
        shell = (away >= low) & (away < high)
        shell = shell if shell.sum() > 4 else away < high
        found += [image[shell].mean(), image[shell].std(), edges[shell].mean()]
    return np.array(found)


def seen(store: Store, places: list[tuple[int, np.ndarray]]) -> Seen:
    """Return what lies around boxes of images (number, box) of a store."""
    found = [shells(store.read([i])[0].mean(0), box) for i, box in places]
    return Seen(np.stack(found), np.array([store.patients[i] for i, _ in places]))


def told_apart(first: Seen, second: Seen, seed: int = 0) -> Told:
    """Return how well trees tell two sets apart, by folds of patients."""
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.model_selection import GroupKFold

    both = Seen(*(np.concatenate(parts) for parts in zip(first, second, strict=True)))
    truth = np.repeat([0, 1], [len(first.shells), len(second.shells)])
    scores = np.zeros(len(truth))
    for train, test in GroupKFold(FOLDS).split(both.shells, truth, both.patients):
        trees = ExtraTreesClassifier(TREES, min_samples_leaf=3, class_weight="balanced", random_state=seed)
        scores[test] = trees.fit(both.shells[train], truth[train]).predict_proba(both.shells[test])[:, 1]
    names, of = np.unique(both.patients, return_inverse=True)
    rng = np.random.default_rng(seed)
    times = [np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))[of] for _ in range(RESAMPLES)]
    found = [area(scores, truth, weights) for weights in times]
    return Told(area(scores, truth, np.ones(len(truth))), *np.nanquantile(found, [0.025, 0.975]))


def area(scores: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> float:
    """Return the AUC where each one counts so many times; NaN where one kind is not there."""
    above, below = scores[truth == 1][:, None], scores[truth == 0]
    wins = (above > below) + (above == below) / 2
    one, other = weights[truth == 1], weights[truth == 0]
    total = float(one.sum() * other.sum())
    return float(one @ wins @ other) / total if total else float("nan")


def halves(real: Seen) -> Told:
    """Return how well two halves of the patients are told apart, the mean of some halvings."""
    names, found = np.unique(real.patients), []
    for seed in range(HALVES):
        half = np.isin(real.patients, np.random.default_rng(seed).permutation(names)[: len(names) // 2])
        found.append(told_apart(real.part(half), real.part(~half), seed))
    return Told(*np.mean(found, 0))


def row(name: str, real: Seen, other: Seen | None, told: Told) -> str:
    """Return a row of the table."""
    return f"| {name} | {len(real.shells)} | {'' if other is None else len(other.shells)} | {told} |"


def main() -> None:
    """Print a row for each blending."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("regions", type=Path)
    parser.add_argument("volumes", type=Path)
    parser.add_argument("--n", type=int, default=96)
    asked = parser.parse_args()
    hosts = open_store(asked.volumes)
    own = [(int(i), box) for i in hosts.indices("train", "real") for box in hosts.boxes[i]]
    real, names = seen(hosts, own), {name: i for i, name in enumerate(hosts.ids)}
    print("| what lies there | real | others | AUC [95 %] |\n| --- | ---: | ---: | ---: |")
    print(row("two halves of the real ones", real, None, halves(real)), flush=True)
    with tempfile.TemporaryDirectory() as place:
        gan = Path(place) / "gan"
        still = {"contrast": 0.0, "brightness": 0.0}
        train_generator(asked.regions, "duplicate", RunOptions(gan, still, device="cpu", precision="32"), kimg=0.001)
        for blending in BLENDINGS:
            out = Path(place) / f"{blending}.h5"
            options = SynthesisOptions(
                n=asked.n, gan=gan, out=out, like=asked.regions, into=asked.volumes, blending=blending, jitter=0.0
            )
            store = synthesize(options)
            assert store is not None
            new = [(i, boxes[-1]) for i, boxes in enumerate(store.boxes)]
            at = [(names[details["host"]], box) for details, (_, box) in zip(store.details, new, strict=True)]
            used = {str(details["condition"]) for details in store.details}
            same = real.part(np.array([any(name.startswith(hosts.ids[i]) for name in used) for i, _ in own]))
            if blending == BLENDINGS[0]:
                before = seen(hosts, at)
                print(row("nothing, at the places chosen", same, before, told_apart(same, before)), flush=True)
            pasted = seen(store, new)._replace(patients=np.array([hosts.patients[i] for i, _ in at]))
            print(row(f"pasted, {blending}", same, pasted, told_apart(same, pasted)), flush=True)


if __name__ == "__main__":
    main()
