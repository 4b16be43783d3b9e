"""The table of `medaug tsne`, for the terminal and below the picture."""

from collections.abc import Sequence

from medaug_cli.embedding.comparison import HELD_OUT, RealReference, SetNumbers
from medaug_cli.embedding.layout import MapReport
from medaug_cli.embedding.lesions import MEASURES, Distribution
from medaug_cli.embedding.obedience import Obedience
from medaug_cli.embedding.statistics import expected_copies, expected_coverage
from medaug_cli.tables import DASH, Cell, Table, fixed, significant, table
from medaug_cli.words import percent

FEW = 0.8  # of the share of real lesions: where fewer asked ones are found, that is said
VISIBLE = 0.02  # difference of expected coverage that is said
EASIER = 0.08  # above the share of real lesions: where more asked ones are found, that is said


def numbers_table(report: MapReport) -> Table:
    """Return the numbers of each set, below those of held-out real images."""
    header = ["set", "1-NN", "KID", "prec.", "recall", "dens.", "cover.", "spread", "AUC", "copies"]
    rows = _sets(report)
    notes = [
        f"{name}: {each.fidelity.found:.2f} of {each.fidelity.boxes} boxes show a lesion that the detector finds "
        f"({each.fidelity.shuffled:.2f} with the boxes of other images)"
        for name, each in rows if each.fidelity is not None
    ]  # fmt: skip
    best = report.reference.obedience if report.reference is not None else None
    notes += [_obedience(name, each.obedience, best) for name, each in rows if each.obedience is not None]
    which = "training" if report.reference is None else "held-out"
    notes.append(
        "1-NN: how often a nearest neighbour tells the two apart (0.5: not at all). AUC: of a linear classifier of "
        f"real {which} against these images (0.5: not told apart)."
    )
    if report.reference is not None:
        notes[-1] += (
            " Copies: images nearer to a training image than 99 % of held-out real images are, in the features that "
            f"see most ({percent(expected_copies(report.reference.held_out))} is expected in each). The first row is "
            f"the best to hope for.{_of_coverage(report.reference, rows)}"
        )
    title = f"Against the real training images, features {report.features}"
    return table(title, header, [[Cell(name), *_row(each)] for name, each in rows], notes)


def _of_coverage(real: RealReference, rows: Sequence[tuple[str, RealReference | SetNumbers]]) -> str:
    """Say what coverage is expected of sets of such sizes, where these make a difference."""
    sizes = {name: each.images if isinstance(each, SetNumbers) else each.held_out for name, each in rows}
    expected = {name: expected_coverage(real.images, size) for name, size in sizes.items()}
    if max(expected.values()) - min(expected.values()) < VISIBLE:
        return ""
    said = ", ".join(f"{share:.2f} ({name})" for name, share in expected.items())
    return f" Coverage also grows with the number of images; images like the training ones reach about {said}."


def every_table(report: MapReport) -> list[Table]:
    """Return the tables that a report has something for."""
    tables = (numbers_table(report), lesions_table(report), found_table(report))
    return [each for each in tables if each is not None]


def lesions_table(report: MapReport) -> Table | None:
    """Return how the lesions of each set look, beside the real training lesions; None where no set has boxes."""
    rows = [
        [Cell(name), Cell(f"{each.lesions.boxes:,}"), *(c for m in MEASURES for c in _spread(getattr(each.lesions, m)))]
        for name, each in _sets(report)
        if each.lesions is not None
    ]
    if not rows:
        return None
    header = ["set", "boxes", *(column for measure in MEASURES for column in (measure, "distance"))]
    notes = (
        "Median (5 to 95 %). Contrast: mean in the box less that around it. Extent: side in pixels of what is nearer "
        "to the box's core than to its surroundings. Texture: spread of fine detail in the box. Distance: the largest "
        "difference of the cumulative distribution to that of the real training lesions, 0 to 1.",
    )
    return table("Lesions at their boxes", header, rows, notes)


def found_table(report: MapReport) -> Table | None:
    """Return what share of each set's lesions is found, by size and label; None where no detector judged."""
    judged = [(name, each.fidelity) for name, each in _sets(report) if each.fidelity is not None]
    if not judged:
        return None
    first = judged[0][1]
    labels = first.labels if len(first.labels) > 1 else []
    header = ["set", "all", *(group.words() for group in first.sizes), *(group.label for group in labels)]
    rows = [
        [Cell(name), _share(own.found, own.boxes)]
        + [_share(size.sensitivity, size.boxes) for size in own.sizes]
        + [_share(label.sensitivity, label.boxes) for label in own.labels if labels]
        for name, own in judged
    ]
    notes = [
        "Share of the boxes at which the detector finds a lesion, and the number of boxes. Drawn lesions should be "
        "found as often as real ones of their size: easier ones teach a detector little."
    ]
    return table("Lesions that the detector finds", header, rows, notes)


def of_found(report: MapReport) -> list[str]:
    """Say of each set where far fewer, or more, of its asked lesions are found than of the real ones."""
    best = report.reference.fidelity if report.reference is not None else None
    if best is None or not best.found:
        return []
    said = []
    for each in report.sets:
        if each.fidelity is None:
            continue
        shares = (
            f"{each.name}: {100 * each.fidelity.found:.0f} % of asked lesions are found, {100 * best.found:.0f} % of "
            "real ones"
        )
        if each.fidelity.found < FEW * best.found:
            said.append(f"{shares}; train the generator for longer (train-gan --kimg N --resume)")
        elif each.fidelity.found > best.found + EASIER:
            said.append(f"{shares}: they are easier to find than real lesions")
    return said


def _sets(report: MapReport) -> list[tuple[str, RealReference | SetNumbers]]:
    """Return every set with its numbers, the held-out real images first."""
    rows: list[tuple[str, RealReference | SetNumbers]] = [(each.name, each) for each in report.sets]
    return rows if report.reference is None else [(HELD_OUT, report.reference), *rows]


def _spread(own: Distribution) -> list[Cell]:
    median, low, high = (significant(value).text for value in (own.median, own.low, own.high))
    return [Cell(f"{median} ({low} to {high})"), fixed(own.distance, 2)]


def _share(share: float | None, boxes: int) -> Cell:
    return Cell(DASH if share is None else f"{share:.2f} ({boxes:,})")


def _obedience(name: str, own: Obedience, best: Obedience | None) -> str:
    compared = best is not None and best is not own and best.dice
    share = f", {percent(own.dice / best.dice)} of held-out real ones" if best is not None and compared else ""
    return (
        f"{name}: Dice {own.dice:.2f} of {own.images} masks with what the segmenter finds{share} "
        f"({own.shuffled:.2f} with the masks of other images)"
    )


def _row(each: RealReference | SetNumbers) -> list[Cell]:
    shares = [fixed(value, 2) for value in (each.precision, each.recall, each.density, each.coverage)]
    copies = each.suspicious if isinstance(each, SetNumbers) else None
    return [
        fixed(each.one_nn_accuracy, 2), Cell(f"{each.kid:.3f} ± {each.kid_error:.3f}"), *shares, fixed(each.spread),
        fixed(each.auc, 2), Cell("" if copies is None else f"{copies:.1%}"),
    ]  # fmt: skip
