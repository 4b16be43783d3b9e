"""The table of `medaug tsne`, for the terminal and below the picture."""

from medaug_cli.embedding.comparison import HELD_OUT, RealReference, SetNumbers
from medaug_cli.embedding.layout import MapReport
from medaug_cli.embedding.obedience import Obedience
from medaug_cli.tables import Cell, Table, fixed, table

FEW = 0.8  # of the share of real lesions: where fewer asked ones are found, that is said


def numbers_table(report: MapReport) -> Table:
    """Return the numbers of each set, below those of held-out real images."""
    header = ["set", "1-NN", "KID", "prec.", "recall", "dens.", "cover.", "spread", "copies"]
    rows: list[tuple[str, RealReference | SetNumbers]] = [(each.name, each) for each in report.sets]
    if report.reference is not None:
        rows.insert(0, (HELD_OUT, report.reference))
    notes = [
        f"{name}: {each.fidelity.found:.2f} of {each.fidelity.boxes} boxes show a lesion that the detector finds "
        f"({each.fidelity.shuffled:.2f} with the boxes of other images)"
        for name, each in rows if each.fidelity is not None
    ]  # fmt: skip
    best = report.reference.obedience if report.reference is not None else None
    notes += [_obedience(name, each.obedience, best) for name, each in rows if each.obedience is not None]
    notes.append(
        "1-NN: how often a nearest neighbour tells the two apart (0.5: not at all). Copies: images nearer to a "
        "training image than 99 % of held-out real images are, in the features that see most (1 % is expected). "
        "The first row is the best to hope for."
    )
    title = f"Against the real training images, features {report.features}"
    return table(title, header, [[Cell(name), *_row(each)] for name, each in rows], notes)


def of_found(report: MapReport) -> list[str]:
    """Say of each set where far fewer of its asked lesions are found than of the real ones."""
    best = report.reference.fidelity if report.reference is not None else None
    if best is None or not best.found:
        return []
    return [
        f"{each.name}: {100 * each.fidelity.found:.0f} % of asked lesions are found, {100 * best.found:.0f} % of real "
        "ones; train the generator for longer (train-gan --kimg N --resume)"
        for each in report.sets
        if each.fidelity is not None and each.fidelity.found < FEW * best.found
    ]


def _obedience(name: str, own: Obedience, best: Obedience | None) -> str:
    share = (
        "" if best is None or best is own or not best.dice else f", {own.dice / best.dice:.0%} of held-out real ones"
    )
    return (
        f"{name}: Dice {own.dice:.2f} of {own.images} masks with what the segmenter finds{share} "
        f"({own.shuffled:.2f} with the masks of other images)"
    )


def _row(each: RealReference | SetNumbers) -> list[Cell]:
    shares = [fixed(value, 2) for value in (each.precision, each.recall, each.density, each.coverage)]
    copies = each.suspicious if isinstance(each, SetNumbers) else None
    return [
        fixed(each.one_nn_accuracy, 2), Cell(f"{each.kid:.3f} ± {each.kid_error:.3f}"), *shares, fixed(each.spread),
        Cell("" if copies is None else f"{copies:.1%}"),
    ]  # fmt: skip
