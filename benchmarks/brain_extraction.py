"""Dice, CPU seconds and memory of the built-in brain extraction on a head whose brain is known.

    python benchmarks/brain_extraction.py [ch2.nii.gz ch2bet.nii.gz]

The first file is a head, the second its brain (zero elsewhere): Colin's head and its mask, for example, as many tools
ship them. Without files a constructed head of shells is taken, which is far easier. The volume is stripped in 3D, and
every slice of the three planes whose brain is at least a quarter of the plane's largest is stripped in 2D at 256x256.
"""

import argparse
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from medaug_cli.scans.brain import extract_brain

SIDE = 256
SHARE = 0.25  # of the plane's largest brain area
PLANES = ("axial", "coronal", "sagittal")


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / max(int(a.sum() + b.sum()), 1))


def read(head: Path, brain: Path) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """Return a head (z, y, x), its brain's mask, and the spacing in mm."""
    import SimpleITK as sitk

    scan, known = (sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS") for path in (head, brain))
    image, mask = sitk.GetArrayFromImage(scan).astype(np.float32), sitk.GetArrayFromImage(known) > 0
    if image.shape != mask.shape:
        raise SystemExit(f"{head} and {brain} have different shapes: {image.shape} and {mask.shape}")
    return image, mask, tuple(float(s) for s in scan.GetSpacing()[::-1])


def constructed() -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """Return shells of scalp, skull, fluid and brain, 2 mm."""
    shape, centre = (96, 112, 96), np.array((48, 56, 48))

    def ball(shrink: int) -> np.ndarray:
        radii = centre * 0.86 - shrink
        return sum(((g - c) / r) ** 2 for g, c, r in zip(np.indices(shape), centre, radii, strict=True)) < 1

    image = np.zeros(shape, np.float32)
    for shrink, grey in ((0, 160), (3, 15), (6, 45), (7, 110)):
        image[ball(shrink)] = grey
    return image + np.random.default_rng(0).normal(0, 3, shape).clip(0).astype(np.float32), ball(7), (2.0, 2.0, 2.0)


def slices(image: np.ndarray, mask: np.ndarray, axis: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the slices of a plane with enough brain, padded to squares of SIDE pixels."""
    areas = mask.sum(tuple(a for a in range(3) if a != axis))
    for i in np.flatnonzero(areas >= SHARE * areas.max()):
        padded = [np.zeros((SIDE, SIDE), part.dtype) for part in (image, mask)]
        for target, part in zip(padded, (image, mask), strict=True):
            plane = part.take(i, axis)[:SIDE, :SIDE]
            y, x = (SIDE - plane.shape[0]) // 2, (SIDE - plane.shape[1]) // 2
            target[y : y + plane.shape[0], x : x + plane.shape[1]] = plane
        yield padded[0], padded[1]


def main() -> None:
    """Print a line for the volume and one for each plane."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*", metavar="HEAD BRAIN")
    files = parser.parse_args().files
    image, mask, spacing = read(*files) if files else constructed()
    start = time.process_time()
    found = extract_brain(image, "brain3d", spacing)
    seconds, peak = time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    doubt = f", doubtful: {found.reason}" if found.doubtful else ""
    score = 0.0 if found.mask is None else dice(found.mask, mask)
    print(f"3D: Dice {score:.3f}, {seconds:.1f} CPU s, at most {peak:.0f} MB{doubt}")
    scores = []
    for axis, plane in enumerate(PLANES):
        results, doubtful, start = [], 0, time.process_time()
        for part, known in slices(image, mask, axis):
            stripped = extract_brain(part, "brain2d")
            doubtful += stripped.doubtful
            results.append(0.0 if stripped.mask is None else dice(stripped.mask, known))
        rate = len(results) / (time.process_time() - start)
        print(f"2D {plane}: mean Dice {np.mean(results):.3f}, {len(results)} slices, {doubtful} doubtful, "
              f"{rate:.1f} slices a CPU second")  # fmt: skip
        scores += results
    print(f"2D, all planes: mean Dice {np.mean(scores):.3f}")


if __name__ == "__main__":
    main()
