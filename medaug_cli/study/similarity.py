"""How like real images the synthetic ones of an arm are, and how near they come to their training images."""

from pathlib import Path

from medaug_cli.embedding import LEAST, MapOptions, SetNumbers, compare_sets
from medaug_cli.files import read_json, write_json
from medaug_cli.store import Store, open_store
from medaug_cli.study.analysis import Picture, Pictures

FEATURES = ("pixels", "texture")  # one alone misses what the other sees
MOST = 500  # images of each set


def pictures(real: Store, synthetic: Path, seed: int) -> list[Picture]:
    """Compare a synthetic store with the real training images in two feature spaces; kept beside the store.

    Nothing is returned where there are too few images for a comparison.
    """
    drawn = open_store(synthetic)
    if min(len(drawn), len(real.indices("train", "real", unannotated=True))) < LEAST:
        return []
    path = synthetic.with_name(f"{synthetic.stem}-{drawn.hash[:12]}-{real.hash[:12]}-{seed}-similarity.json")
    if not path.exists():
        measured = Pictures(pictures=[_picture(real.path, synthetic, name, seed) for name in FEATURES])
        write_json(path, measured.model_dump(mode="json"))
    return read_json(path, Pictures).pictures


def _picture(real: Path, synthetic: Path, features: str, seed: int) -> Picture:
    options = MapOptions(real, [synthetic], synthetic, features=features, most=MOST, seed=seed)
    reference, numbers = compare_sets(options)
    own: SetNumbers = numbers[0]
    return Picture(
        features=features, images=own.images, kid=own.kid, kid_of_real=None if reference is None else reference.kid,
        coverage=own.coverage, coverage_of_real=None if reference is None else reference.coverage,
        memorisation_ratio=own.memorisation_ratio, suspicious=own.suspicious,
        nearest=[(pair.synthetic, pair.real) for pair in own.nearest],
    )  # fmt: skip
