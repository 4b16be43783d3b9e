"""Every command that writes: what it needs, how it is called, and which of its files must be whole."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from conftest import make_records, make_store
from forking import medaug
from PIL import Image

from medaug_cli.files import finish_publishing, restore_folder

SLOW = ("--set", "pause=0.001", "--checkpoint-seconds", "0", "--device", "cpu", "--precision", "32")
GAN = ("train-gan", "real.h5", "--generator", "tiny", "--kimg", "0.012", "--set", "amount=0.9", *SLOW, "--out", "gan")
DETECTOR = ("train-detector", "real.h5", "--detector", "tiny", "--steps", "5", *SLOW, "--out", "detector")
DRAWN = ("synthesize", "--n", "60", "--boxes", "boxes.json", "--out", "synthetic.h5")


def write_store(place):
    """Write real.h5 and boxes.json."""
    make_store(place / "real.h5", n=36)


def write_scans(place):
    """Write a folder of pictures and boxes.csv."""
    (place / "scans").mkdir()
    rows = ["image,x_min,y_min,x_max,y_max,label,patient"]
    for record in make_records(12, size=32):
        Image.fromarray(np.asarray(record.image[0])).save(place / "scans" / f"{record.id}.png")
        rows.append(",".join([f"{record.id}.png", *(str(int(x)) for x in record.boxes[0]), "lesion", record.patient]))
    (place / "boxes.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Writing:
    """A command, the files that must be of one run, and the option that makes another run of it."""

    command: tuple
    files: tuple  # below its folder; empty: every file in it
    other: tuple
    needs: tuple = ()
    again: str = "--resume"  # what goes on with a run that was killed; nothing: the same line does
    given: Callable = write_store  # what the command reads
    folder: bool = True
    report: str = ""  # a file in its folder that is published with others, when all is done
    replaces: bool = True  # whether it has --overwrite

    @property
    def out(self):
        return self.command[self.command.index("--out") + 1]

    def prepare(self, place):
        """Put into a folder what the command reads."""
        self.given(place)
        for command in self.needs:
            assert medaug(command, place) == 0, (place / "said.txt").read_text(encoding="utf-8")

    def results(self, place):
        """Return the content of the files that belong together, as a reader of medaug finds them; None without any."""
        out = place / self.out
        (restore_folder if self.folder else finish_publishing)(out)
        if self.report:
            finish_publishing(out / self.report)
        if not (out / self.report).exists():
            return None
        if not self.folder:
            return {name: read(place / name) for name in self.files}
        names = self.files or [str(path.relative_to(out)) for path in sorted(out.rglob("*")) if path.is_file()]
        return {name: read(out / name) for name in names}

    def leftovers(self, place):
        """Return the names of what should not be there after a run that ended well."""
        patterns = ("**/*.parts", "**/.*.tmp", "**/.*.publishing", "**/.*.replaced", "**/.*.lock")
        return sorted(path.name for pattern in patterns for path in place.glob(pattern))

    def clear(self, place):
        """Remove what the command has written."""
        names = [self.out, f"{self.out}.parts", *(() if self.folder else self.files)]
        for name in names:
            path = place / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def read(path):
    """Return what a file says, but for how long the run took."""
    content = path.read_bytes() if path.exists() else None
    if content is None or path.suffix == ".pt":
        return None if content is None else "a checkpoint"
    if path.name == "plan.json":
        return json.loads(content)
    if path.name == "metrics.jsonl":
        return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in
                content.splitlines()]  # fmt: skip
    return content


WRITING = {
    "preprocess": Writing(
        ("preprocess", "scans", "--boxes", "boxes.csv", "--size", "16", "--strip", "none", "--out", "real.h5"),
        ("real.h5", "boxes.json", "preprocess.json", "preprocess.html"), ("--seed", "3"), given=write_scans,
        folder=False,
    ),
    "train-gan": Writing(GAN, ("plan.json", "generator.json", "generator.safetensors"), ("--seed", "3")),
    "train-detector": Writing(DETECTOR, ("plan.json", "detector.json", "detector.safetensors"), ("--seed", "3")),
    "synthesize": Writing(DRAWN, ("synthetic.h5",), ("--seed", "3"), (GAN,), folder=False),
    "filter": Writing(
        ("filter", "synthetic.h5", "--by", "none", "--out", "kept.h5"), ("kept.h5", "filter.json", "filter.html"),
        ("--seed", "3"), (GAN, DRAWN), folder=False,
    ),
    "evaluate": Writing(
        ("evaluate", "real.h5", "detector", "--resamples", "100", "--overlays", "0", "--out", "evaluation"), (),
        ("--seed", "3"), (DETECTOR,), again="--overwrite",
    ),
    "export": Writing(("export", "gan", "--out", "shared"), (), (), (GAN,), again="--overwrite"),
    "store export": Writing(
        ("store", "export", "real.h5", "--format", "coco", "--out", "exported"), (), ("--split", "train"),
        again="--overwrite",
    ),
    "tsne": Writing(
        ("tsne", "real.h5", "synthetic.h5", "--perplexity", "5", "--max", "20", "--out", "tsne.png"),
        ("tsne.png", "tsne.json", "tsne.html"), ("--seed", "3"), (GAN, DRAWN), again="--overwrite", folder=False,
    ),
}  # fmt: skip
