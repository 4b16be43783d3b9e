"""Can trees tell pasted lesions from real ones by what lies around them? AUC out of fold, for each blending.

python benchmarks/seams.py cubes.h5 volumes.h5 [--n 96]

Real regions, repeated as they are, are put into whole images by `synthesize --into`, and compared with the same lesions
where they really are: both stores must be of the same scans. What is seen is how grey values and edges run from a
lesion's box outwards, in shells. 0.5 is no seam at all; beside it stands what the same trees find between two halves of
the real lesions.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from medaug_cli.runs import RunOptions, train_generator
from medaug_cli.store import Store, open_store
from medaug_cli.synthesis import SynthesisOptions, synthesize

SHELLS = ((0.0, 0.125), (0.125, 0.25), (0.25, 0.4), (0.4, 0.6))  # of a box's sides, from its edge outwards
FOLDS, TREES = 5, 300


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


def described(store: Store, chosen: list[tuple[int, int]]) -> np.ndarray:
    """Return the shells around boxes (image, box) of a store."""
    return np.stack([shells(store.read([i])[0].mean(0), store.boxes[i][k]) for i, k in chosen])


def auc(first: np.ndarray, second: np.ndarray, groups: np.ndarray, seed: int = 0) -> float:
    """Return how well trees tell two sets of features apart, by folds of groups (n + m,)."""
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupKFold

    features, truth = np.concatenate([first, second]), np.repeat([0, 1], [len(first), len(second)])
    scores = np.zeros(len(truth))
    for train, test in GroupKFold(FOLDS).split(features, truth, groups):
        trees = ExtraTreesClassifier(TREES, min_samples_leaf=3, class_weight="balanced", random_state=seed)
        scores[test] = trees.fit(features[train], truth[train]).predict_proba(features[test])[:, 1]
    return float(roc_auc_score(truth, scores))


def main() -> None:
    """Print a row for each blending."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("regions", type=Path)
    parser.add_argument("volumes", type=Path)
    parser.add_argument("--n", type=int, default=96)
    asked = parser.parse_args()
    hosts = open_store(asked.volumes)
    real = [(int(i), k) for i in hosts.indices("train", "real") for k in range(len(hosts.boxes[i]))]
    own = described(hosts, real)
    patients = np.array([hosts.patients[i] for i, _ in real])
    half = np.random.default_rng(0).random(len(real)) < 0.5
    print("| blending | real | pasted | AUC |\n| --- | --- | --- | --- |")
    halves = auc(own[half], own[~half], np.concatenate([patients[half], patients[~half]]))
    print(f"| two halves of the real | {half.sum()} | {(~half).sum()} | {halves:.2f} |")
    with tempfile.TemporaryDirectory() as place:
        gan = Path(place) / "gan"
        still = {"contrast": 0.0, "brightness": 0.0}
        train_generator(asked.regions, "duplicate", RunOptions(gan, still, device="cpu", precision="32"), kimg=0.001)
        for blending in ("poisson", "soft"):
            out = Path(place) / f"{blending}.h5"
            options = SynthesisOptions(
                n=asked.n, gan=gan, out=out, like=asked.regions, into=asked.volumes, blending=blending, jitter=0.0
            )
            store = synthesize(options)
            assert store is not None
            pasted = described(store, [(i, len(boxes) - 1) for i, boxes in enumerate(store.boxes)])
            homes = {name: hosts.patients[i] for i, name in enumerate(hosts.ids)}
            groups = np.array([homes[details["host"]] for details in store.details])
            used = {str(details["condition"]) for details in store.details}
            same = np.array([any(name.startswith(hosts.ids[i]) for name in used) for i, _ in real])
            found = auc(own[same], pasted, np.concatenate([patients[same], groups]))
            print(f"| {blending} | {same.sum()} | {len(pasted)} | {found:.2f} |", flush=True)


if __name__ == "__main__":
    main()
