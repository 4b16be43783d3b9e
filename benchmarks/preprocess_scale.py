"""Pre-process many constructed scans: is memory flat, and does a killed run end in the same store?

Usage: python benchmarks/preprocess_scale.py [--scans 2000] [--workers 2] [--work build/scale]

The first run goes through, while the memory of the process and its workers that no file backs (RssAnon) is looked at
every half second. The second is killed by SIGKILL, workers and all, at a third and at two thirds, and resumed; its
store must be the same to the byte.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

SHAPE = (8, 64, 64)


def construct(folder: Path, count: int) -> None:
    """Write volumes of a textured ball with a lesion, and their masks, a folder a patient."""
    z, y, x = np.indices(SHAPE)
    ball = ((y - 32) / 28) ** 2 + ((x - 32) / 24) ** 2 < 1
    for k in range(count):
        rng = np.random.default_rng(k)
        at = rng.integers(16, 40, 2)
        lesion = (abs(z - 4) < 2) & (abs(y - at[0]) < 5) & (abs(x - at[1]) < 5)
        values = np.where(ball, 300 + rng.normal(0, 20, SHAPE), 0) + 400 * lesion
        place = folder / f"p{k:05d}"
        place.mkdir(parents=True)
        for name, array in (("scan", values.astype(np.int16)), ("mask", lesion.astype(np.uint8))):
            image = sitk.GetImageFromArray(array)
            image.SetSpacing((1.0, 1.0, 4.0))
            sitk.WriteImage(image, str(place / f"{name}.nii.gz"))


def command(scans: Path, out: Path, workers: int, *more: str) -> list[str]:
    program = [sys.executable, "-c", "from medaug_cli.cli import main; main()", "preprocess"]
    return [
        *program, str(scans), "--masks", str(scans), "--out", str(out), "--size", "128", "--strip", "none", "--denoise",
        "none", "--workers", str(workers), *more,
    ]  # fmt: skip


def family(pid: int) -> list[int]:
    """Return a process and all that it began."""
    found, looked = [pid], 0
    while looked < len(found):
        for task in Path(f"/proc/{found[looked]}/task").glob("*/children"):
            found += [int(child) for child in task.read_text(encoding="utf-8").split()]
        looked += 1
    return found


def anonymous(pids: list[int]) -> float:
    """Return megabytes of memory that no file backs."""
    total = 0
    for pid in pids:
        try:
            for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
                total += int(line.split()[1]) if line.startswith("RssAnon") else 0
        except OSError:
            continue
    return total / 1024


def finished(out: Path) -> int:
    """Return how many scans are on the disk."""
    parts = out.with_name(f"{out.name}.parts")
    count = 0
    for file in parts.glob("*.units.json"):
        try:
            count += len(json.loads(file.read_text(encoding="utf-8"))["units"])
        except (OSError, ValueError):
            continue
    return count


def watched(arguments: list[str], out: Path) -> list[tuple[int, float]]:
    """Run; return (scans on the disk, megabytes) every half second."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    seen = []
    while process.poll() is None:
        seen.append((finished(out), anonymous(family(process.pid))))
        time.sleep(0.5)
    assert process.returncode == 0, process.returncode
    return seen


def killed(arguments: list[str], out: Path, at: int) -> int:
    """Run until `at` scans are on the disk, then kill; return how many there were."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    while finished(out) < at and process.poll() is None:
        time.sleep(0.05)
    for pid in family(process.pid):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    return finished(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("build/preprocess-scale"))
    chosen = parser.parse_args()
    shutil.rmtree(chosen.work, ignore_errors=True)
    scans, first, second = chosen.work / "scans", chosen.work / "first/real.h5", chosen.work / "second/real.h5"
    construct(scans, chosen.scans)
    began = time.monotonic()
    seen = watched(command(scans, first, chosen.workers), first)
    print(f"{chosen.scans} scans of {SHAPE}, {chosen.workers} workers: {time.monotonic() - began:.0f} s")
    for share in (0.1, 0.25, 0.5, 0.75, 0.95):
        near = [size for count, size in seen if abs(count - share * chosen.scans) <= 0.04 * chosen.scans]
        print(f"{share:.0%} done: {max(near, default=float('nan')):.0f} MB in all processes")
    print(f"most at any time: {max(size for _, size in seen):.0f} MB")
    for share in (1 / 3, 2 / 3):
        count = killed(command(scans, second, chosen.workers, "--resume"), second, int(share * chosen.scans))
        print(f"killed with {count} scans on the disk")
    subprocess.run(command(scans, second, chosen.workers, "--resume"), check=True, stdout=subprocess.DEVNULL)
    for name in ("real.h5", "boxes.json", "preprocess.json", "preprocess.html"):
        same = first.with_name(name).read_bytes() == second.with_name(name).read_bytes()
        print(f"{name}: {'the same to the byte' if same else 'DIFFERENT'}")


if __name__ == "__main__":
    main()
