"""Make a package of weights to start from: train a generator, halve its precision, write its card.

    python benchmarks/make_weights.py real.h5 --name brain-t1c-128 --minutes 300 --out build/brain-t1c-128 \
        --draws "axial T1c brain slices with a tumour, 128x128" --data "t1c-brain-tumour, 69 training patients" \
        --licence "CC BY 4.0" --source "Cheng (2017), doi 10.6084/m9.figshare.1512427" --not-for "diagnosis; ..."

It goes on where it was stopped; `--start FOLDER` begins with a trained folder. `pip install
build/brain-t1c-128/package` puts the weights where `medaug plugins` lists them and `medaug train-gan --start
brain-t1c-128` begins with them. Measures are those of `medaug tsne`. A package larger than 8 MB is refused. `--public`
packs the discriminator too, with which `--start` begins where training stopped (Adam's moments aside): it tells who was
in the training set, so it is for images that anyone may have. The weights that come with medaug are the module of such
a package, in plugins/medaug_plugins/weights.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from medaug_cli import __version__, registry
from medaug_cli.boxes import safe_id
from medaug_cli.embedding import MapOptions, compare_sets
from medaug_cli.files import parse_json
from medaug_cli.runs import RunOptions, train_generator
from medaug_cli.runs.weights import write_weights
from medaug_cli.synthesis import SynthesisOptions, synthesize
from medaug_cli.weights import WeightsCard

MOST_BYTES = 8 << 20
PYPROJECT = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{distribution}"
version = "{version}"
description = "Weights of a medaug generator: {draws}"
license = {{text = "{licence}"}}
dependencies = ["medaug>={medaug}"]

[project.entry-points."medaug.weights"]
"{name}" = "{module}"

[tool.hatch.build.targets.wheel]
packages = ["{module}"]
"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    for name in ("name", "draws", "data", "licence", "source", "not-for"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--generator", default="boxgan")
    parser.add_argument("--start", type=Path, help="a trained folder to begin with, whose time counts too")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--advise", action="append", default=[], metavar="KEY=VALUE", help="a setting for --start")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--kimg", type=float)
    parser.add_argument("--public", action="store_true", help="anyone may have the images: pack the discriminator too")
    parser.add_argument("--features", default="imagenet")
    parser.add_argument("--n", type=int, default=500, help="images that the measures are taken of; 0: none")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def trained(chosen: argparse.Namespace) -> Path:
    """Train, or go on with it."""
    settings = dict(pair.split("=", 1) for pair in chosen.settings)
    run = RunOptions(
        chosen.out / "gan", settings, chosen.seed, "cpu", "32", resume=True, checkpoint_seconds=300, announce=print
    )
    return train_generator(chosen.store, chosen.generator, run, chosen.kimg, chosen.minutes, start=chosen.start)


def measured(chosen: argparse.Namespace, folder: Path) -> tuple[dict[str, float], float | None]:
    """Return the measures of images drawn like the training ones, and the share of copies among them."""
    if not chosen.n:
        return {}, None
    drawn = chosen.out / f"drawn-{chosen.n}.h5"
    synthesize(SynthesisOptions(chosen.n, folder, drawn, like=chosen.store, seed=chosen.seed, overwrite=True))
    _, (found,) = compare_sets(
        MapOptions(chosen.store, [drawn], chosen.out / "map", features=chosen.features, most=chosen.n)
    )
    names = ("kid", "precision", "recall", "density", "coverage", "spread")
    return {name: round(getattr(found, name), 4) for name in names}, found.suspicious


def advised(chosen: argparse.Namespace) -> dict[str, float]:
    """Return the settings for runs that begin with the weights, as the generator reads them."""
    given = dict(pair.split("=", 1) for pair in chosen.advise)
    generator = registry.build("generator", chosen.generator, given)
    return {name: getattr(generator, name) for name in given}


def seconds(folder: Path) -> float:
    """Return how long training took, all sittings together."""
    log = folder / "metrics.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return float(json.loads(lines[-1])["seconds"]) if lines else 0.0


def package(chosen: argparse.Namespace, folder: Path) -> Path:
    """Write the package, and return its folder."""
    measures, copies = measured(chosen, folder)
    hours = (seconds(folder) + (seconds(chosen.start) if chosen.start else 0)) / 3600
    card = WeightsCard(
        draws=chosen.draws, data=chosen.data, licence=chosen.licence, source=chosen.source, hours=round(hours, 2),
        measures=measures, copies=copies, not_for=chosen.not_for,
        start_with=advised(chosen),
    )  # fmt: skip
    module = "medaug_weights_" + safe_id(chosen.name).replace("-", "_").replace(".", "_")
    place = chosen.out / "package"
    size = write_weights(folder, place / module, card, discriminator=chosen.public)
    if size > MOST_BYTES:
        raise SystemExit(f"{size / 2**20:.1f} MB; a package holds at most {MOST_BYTES >> 20} MB: choose fewer maps")
    (place / module / "__init__.py").write_text("", encoding="utf-8")
    text = PYPROJECT.format(
        distribution=module.replace("_", "-"), version=time.strftime("%Y.%m.%d"), draws=chosen.draws.replace('"', "'"),
        licence=chosen.licence.replace('"', "'"), medaug=__version__, name=chosen.name, module=module,
    )  # fmt: skip
    (place / "pyproject.toml").write_text(text, encoding="utf-8")
    print(f"{place}: {size / 2**20:.2f} MB, {parse_json(place / module / 'card.json')['hours']} hours")
    return place


def main() -> int:
    chosen = arguments()
    package(chosen, trained(chosen))
    return 0


if __name__ == "__main__":
    sys.exit(main())
