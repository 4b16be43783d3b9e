"""Change bytes of scans, or cut scans off, and count what comes of it: refused, the same pixels, or others.

Usage: python benchmarks/fuzz_readers.py [--cases 500] [--seed 0] [--json FILE]

Each format is written from one constructed image; then each case cuts the file off at a random place, or changes one
byte to another value, anywhere or in its first 350 bytes. A cell has refused / same / pixels / other. `pixels` are
cases in which the image has the same form and at most `--few` values differ (a changed byte of an uncompressed pixel is
one), `other` are all other differences; a volume that is moved by less than 1 % of a voxel counts as the same. Formats
with a checksum over everything must have neither; others cannot tell a changed pixel, and say so here.
"""

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PIL import Image

from medaug_cli.errors import BadInput
from medaug_cli.scans.reading import read_stored

FORMATS = (
    "nii.gz", "nii", "gzip.nrrd", "raw.nrrd", "zlib.mha", "raw.mha", "dcm", "png", "16.png", "jpg", "tif",
    "deflate.tif", "bmp",
)  # fmt: skip
OUTCOMES = ("refused", "same", "pixels", "other")
CHECKED = ("nii.gz", "png", "16.png")  # every byte that matters is under a checksum
SHAPE = (6, 40, 36)
KINDS = ("cut", "byte", "head")
HEAD = 350  # bytes: where the headers of most formats are


def write(folder: Path, form: str) -> tuple[Path, ...]:
    """Write one scan of a format; return its files, the one to change first."""
    rng = np.random.default_rng(0)
    z, y, x = np.indices(SHAPE)
    values = (300 + 200 * np.sin(x / 5 + z) * np.cos(y / 7) + rng.normal(0, 9, SHAPE)).clip(0).astype(np.int16)
    if form in ("png", "jpg", "tif", "bmp", "deflate.tif"):
        options = {"compression": "tiff_deflate"} if form.startswith("deflate") else {}
        Image.fromarray((values[2] // 4).astype(np.uint8)).save(folder / f"a.{form}", **options)
        return (folder / f"a.{form}",)
    if form == "16.png":
        Image.fromarray(values[2].astype(np.uint16)).save(folder / "a.png")
        return (folder / "a.png",)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((0.9, 0.9, 5.0))
    if form == "dcm":
        return series(folder, image)
    path = folder / f"a.{form}"
    sitk.WriteImage(image, str(path), useCompression=form in ("nii.gz", "gzip.nrrd", "zlib.mha"))
    return (path,)


def series(folder: Path, image: sitk.Image) -> tuple[Path, ...]:
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    files = []
    for z in range(image.GetDepth()):
        part = image[:, :, z]
        for tag, value in {
            "0008|0060": "MR", "0010|0020": "p", "0020|000e": "1.2.3", "0008|0018": f"1.2.3.{z}", "0020|0013": str(z),
            "0008|0016": "1.2.840.10008.5.1.4.1.1.4", "0020|0032": f"0\\0\\{5 * z}", "0020|0037": "1\\0\\0\\0\\1\\0",
            "0028|0030": "0.9\\0.9",
        }.items():  # fmt: skip
            part.SetMetaData(tag, value)
        files.append(folder / f"{(z + 2) % 6}.dcm")
        writer.SetFileName(str(files[-1]))
        writer.Execute(part)
    return tuple(sorted(files))


def changed(kind: str, content: bytes, rng: np.random.Generator) -> bytes:
    """Return content that is cut off, or with one byte changed: anywhere, or in its first HEAD bytes."""
    place = int(rng.integers(min(HEAD, len(content)) if kind == "head" else len(content)))
    if kind == "cut":
        return content[:place]
    value = (content[place] + int(rng.integers(1, 256))) % 256
    return content[:place] + bytes([value]) + content[place + 1 :]


def same_place(first, other) -> bool:
    """Tell whether voxels of two grids lie within 1 % of their width of each other."""
    if first is None or other is None:
        return first is other
    ends = np.array([[0, 0, 0], [*SHAPE[::-1]]], float)
    places = [
        ends * grid.spacing @ np.reshape(grid.direction, (3, 3)).T + grid.origin for grid in (first, other)
    ]  # fmt: skip
    return bool(np.abs(places[0] - places[1]).max() <= 0.01 * max(other.spacing))


def outcome(files: tuple[Path, ...], before, few: int) -> str:
    """Read; return `refused`, `same`, `pixels` or `other`."""
    try:
        found = read_stored(files)
    except BadInput:
        return "refused"
    if found.image.shape != before.image.shape or not same_place(found.grid, before.grid):
        return "other"
    differing = int((found.image != before.image).sum())
    return "same" if not differing else "pixels" if differing <= few else "other"


def fuzz(form: str, cases: int, seed: int = 0, few: int = 2) -> dict[str, Counter]:
    """Return kind of change -> outcome -> how often."""
    rng = np.random.default_rng([seed, len(form)])
    found: dict[str, Counter] = {kind: Counter() for kind in KINDS}
    with tempfile.TemporaryDirectory() as name:
        files = write(Path(name), form)
        content, before = files[0].read_bytes(), read_stored(files)
        for case in range(cases):
            kind = KINDS[case % len(KINDS)]
            files[0].write_bytes(changed(kind, content, rng))
            found[kind][outcome(files, before, few)] += 1
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--few", type=int, default=2)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    rows = {}
    print("| format | cut off | a byte changed anywhere | a byte changed at its beginning |")
    print("| --- | --- | --- | --- |")
    for form in FORMATS:
        found = fuzz(form, chosen.cases, chosen.seed, chosen.few)
        rows[form] = {kind: dict(counts) for kind, counts in found.items()}
        cells = [" / ".join(str(found[kind][name]) for name in OUTCOMES) for kind in KINDS]
        print(f"| {form} | {' | '.join(cells)} |", flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
