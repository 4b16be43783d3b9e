"""Does a segmenter find painted lesions where their masks asked for them, the lesions of the hosts left out?

    python benchmarks/painted.py real.h5 inpaint.h5 --segmenter segmenter

Generators that paint into real slices keep what these show, and `medaug tsne --segmenter` counts a host's own lesion
with the painted one. Here the host's box, one that the real store holds to the last bit, is cut out of both masks
before they are compared. Beside it stand the held-out real images, and painted masks dealt to other images at random.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medaug_cli.metrics.segmentation import dice
from medaug_cli.runs import load_network
from medaug_cli.store import Store, open_store


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Dice of two masks."""
    return float(dice(int(first.sum()), int(second.sum()), int((first & second).sum())))


def outlined(network: Any, store: Store, indices: list[int]) -> list[np.ndarray]:
    """Return where a network marks anything in some images."""
    return [np.asarray(each) > 0 for each in network.predict(store.read([i])[0] for i in indices)]


def but_hosts(store: Store, index: int, known: set[bytes], mask: np.ndarray) -> np.ndarray:
    """Return a mask without what lies in boxes that real images have."""
    left = mask.copy()
    for box in store.boxes[index]:
        if box.astype(np.float32).tobytes() in known:
            low, high = np.floor(box[:2]).astype(int), np.ceil(box[2:]).astype(int)
            left[low[1] : high[1], low[0] : high[0]] = False
    return left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("real", type=Path)
    parser.add_argument("painted", type=Path)
    parser.add_argument("--segmenter", type=Path, required=True, help="trained on the real training images alone")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    network, _ = load_network(asked.segmenter, "segmenter")
    real, painted = open_store(asked.real), open_store(asked.painted)
    held_out = [int(i) for i in np.flatnonzero(real.splits != "train")]
    found = outlined(network, real, held_out)
    scores = [overlap(mask, real.masks[i] > 0) for i, mask in zip(held_out, found, strict=True)]
    known = {box.astype(np.float32).tobytes() for boxes in real.boxes for box in boxes}
    every = list(range(len(painted)))
    marked = outlined(network, painted, every)
    made = [but_hosts(painted, i, known, mask) for i, mask in zip(every, marked, strict=True)]
    wanted = [but_hosts(painted, i, known, painted.masks[i] > 0) for i in every]
    kept = [i for i in every if wanted[i].any()]
    drawn = [overlap(made[i], wanted[i]) for i in kept]
    others = np.random.default_rng(0).permutation(kept)
    shuffled = [overlap(made[i], wanted[j]) for i, j in zip(kept, others, strict=True)]
    print(f"held-out real images: Dice {np.mean(scores):.2f} of {len(scores)} masks")
    share = np.mean(drawn) / np.mean(scores)
    print(f"painted lesions alone: Dice {np.mean(drawn):.2f} of {len(kept)}, {share:.0%} of it")
    print(f"with the masks of others: Dice {np.mean(shuffled):.2f}")


if __name__ == "__main__":
    main()
