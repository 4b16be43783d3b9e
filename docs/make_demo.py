"""Write docs/demo.md from the numbers of a finished demo: `python docs/make_demo.py [FOLDER]`.

With the folder of a demo its numbers and its picture are taken into docs first, so that none is typed by hand.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from medaug_cli.embedding.layout import MapReport
from medaug_cli.embedding.tables import numbers_table
from medaug_cli.files import read_json, write_json
from medaug_cli.metrics.report import Metrics
from medaug_cli.metrics.table import tables as detection_tables
from medaug_cli.store import GeneratorOrigin, open_store
from medaug_cli.tables import Table, as_markdown
from medaug_cli.tasks.report import TaskMetrics
from medaug_cli.tasks.report import tables as task_tables
from medaug_cli.tasks.task import task_named

DOCS = Path(__file__).parent
PAGE, NUMBERS, PICTURE = DOCS / "demo.md", DOCS / "demo", "real-and-synthetic.png"
TAKEN = {  # file of a demo -> file in docs/demo
    "evaluation/metrics.json": "boxes.json",
    "classes/metrics.json": "classes.json",
    "masks/metrics.json": "masks.json",
}
TEXT = """# The demo

```sh
make demo                                       # in a clone of this repository: demo/index.html
sh examples/demo.sh FOLDER                      # where medaug is installed, from any folder and into any
sh examples/demo.sh FOLDER --from-scratch       # with generators trained from nothing: most of an hour more
```

On the slices and cubes that ship with the project, one script crops and scales, draws slices with a generator that
comes with medaug, drops what clearly lacks a tumour, trains the same small detector without and with them for as many
steps, a classifier and a segmenter on the real slices, evaluates all of them on patients that no network has seen,
draws lung nodules in 3D, and gathers pictures and numbers on one page. Two steps go on at once where neither needs the
other, and it goes on where it was stopped. Whether synthetic images help on *your* data is a question for
[a study](studies.md).

![Real (left) and synthetic (right) slices with their boxes](real-and-synthetic.png)

{seen}

{boxes}

The verdict of `medaug evaluate` on the primary measure is **{verdict}**. {patients} patients, one seed and a few
minutes of training can say no more, and that is why there is a study. How many threads add up numbers, and bfloat16
where the processor is fast in it, change the figures as another seed does.

## Classes

{classes}

## Masks

{masks}

## How far synthetic slices are from real ones

{likeness}
"""


def take(folder: Path) -> None:
    """Copy the numbers of a finished demo, and its picture, into docs."""
    NUMBERS.mkdir(exist_ok=True)
    for name, own in TAKEN.items():
        shutil.copyfile(folder / name, NUMBERS / own)
    report = read_json(folder / "tsne.json", MapReport).model_copy(update={"points": []})
    write_json(NUMBERS / "tsne.json", report.model_dump(mode="json"))
    (origin,) = open_store(folder / "kept.h5").info.generators
    write_json(NUMBERS / "generator.json", origin.model_dump(mode="json"))
    shutil.copyfile(folder / PICTURE, DOCS / PICTURE)


def page() -> str:
    """Return docs/demo.md as its numbers say."""
    boxes = read_json(NUMBERS / "boxes.json", Metrics)
    origin = read_json(NUMBERS / "generator.json", GeneratorOrigin)
    report = read_json(NUMBERS / "tsne.json", MapReport)
    change = (boxes.rows[1].against_first or {})["0.5"]["sensitivity_at_1"]
    assert change is not None
    table_1, matched, *_, differences = detection_tables(boxes)
    return TEXT.format(
        seen=_seen(origin, here=origin.training_store in boxes.data.values(), kept=report.sets[0].images),
        boxes="\n\n".join(map(as_markdown, (table_1, matched, differences))),
        verdict=change.verdict,
        patients=boxes.patients,
        classes=_of_task("classes.json"),
        masks=_of_task("masks.json"),
        likeness=_bare(numbers_table(report)),
    )


def _seen(origin: GeneratorOrigin, here: bool, kept: int) -> str:
    """Say whom the generator has seen, and how many of its slices were kept."""
    whose = "was trained on the demo's own training patients" if here else (
        f"comes with medaug and has seen {len(origin.training_patients)} patients of this set, the demo's training "
        "patients among them: so the synthetic side knows more patients"
    )  # fmt: skip
    return f"The generator {whose}; none of them is tested. {kept:,} slices were kept, and mixed 1:1 with real ones."


def _of_task(name: str) -> str:
    metrics = read_json(NUMBERS / name, TaskMetrics)
    task = task_named(metrics.task)
    return _bare(task_tables(metrics, task.measures, task.main)[0])


def _bare(table: Table) -> str:
    """Return a table without its title."""
    return as_markdown(table).partition("\n\n")[2]


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page; with --check compare it with the one that is there, and exit with 1 where they differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="a finished demo; default: the numbers in docs/demo")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the page is out of date")
    chosen = parser.parse_args(arguments)
    if chosen.folder is not None:
        take(chosen.folder)
    if not chosen.check:
        PAGE.write_text(page(), encoding="utf-8")
    elif page() != PAGE.read_text(encoding="utf-8"):
        sys.exit(f"{PAGE} is out of date; make it with python docs/make_demo.py")


if __name__ == "__main__":
    main()
