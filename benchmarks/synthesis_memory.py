"""Peak memory of `medaug synthesize` for 500 and for 4,000 images, and the same images drawn in four parts.

Usage: python benchmarks/synthesis_memory.py [--size 64]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from medaug_cli.store import open_store

MEDAUG = str(Path(sys.executable).with_name("medaug"))
DATA = Path(__file__).parents[1] / "examples/data"


def medaug(folder: Path, *arguments: str) -> tuple[float, float]:
    """Run a command; return its seconds and the most memory that it held, in MB."""
    start = time.monotonic()
    child = subprocess.Popen([MEDAUG, *arguments], cwd=folder, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"medaug {' '.join(arguments)} ended with status {status}")
    return time.monotonic() - start, usage.ru_maxrss / 1024


def main() -> None:
    """Print seconds and memory of each run, and the largest difference of a grey level between one run and four."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=64)
    size = str(parser.parse_args().size)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        boxes = str(DATA / "boxes.json")
        medaug(
            folder, "preprocess", str(DATA / "images"), "--boxes", boxes, "--size", size, "--strip", "none",
            "--label", "tumour",
        )  # fmt: skip
        medaug(folder, "train-gan", "real.h5", "--generator", "boxgan", "--kimg", "0.1")
        for n in (500, 4000):
            seconds, memory = medaug(folder, "synthesize", "--n", str(n), "--out", f"{n}.h5")
            print(f"{n} images of {size}x{size}: {seconds:.1f} s, at most {memory:.0f} MB")
        for part in range(4):
            medaug(
                folder, "synthesize", "--n", "4000", "--out", "parts.h5", "--num-parts", "4", "--part-id", str(part),
                "--batch", "7",
            )  # fmt: skip
        once, parts = open_store(folder / "4000.h5"), open_store(folder / "parts.h5")
        apart = np.abs(once.images.astype(int) - parts.images).max()
        print(f"drawn in four parts with another batch size: at most {apart} grey levels apart")


if __name__ == "__main__":
    main()
