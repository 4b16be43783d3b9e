"""Which folder is the class of a scan, where there is one folder a class and perhaps one a patient, in any order.

Folders for files and purposes (images, train, test) are passed over. Of the others the class is the one called by a
known word for a kind, such as benign or no_tumor, and folders beside it are classes too. Without such words it is the
only level of folders, or the one that has at most half as many names as any other, as patients are more than classes.
What neither settles is refused.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from medaug_cli.errors import BadInput
from medaug_cli.preprocess.folder_names import FILES, VIEWS, is_kind, sorts
from medaug_cli.scans.reading import Scan

ADVICE = "name the classes with --classes FILE.csv"
Chains = Mapping[str, Sequence[str]]  # scan id -> the folders that may be its class, outermost first


def class_folders(scans: Sequence[Scan], source: Path) -> dict[str, str]:
    """Return the class of each scan by its id; none of a scan that lies in no such folder.

    Raises BadInput where there is no folder, or which one is the class cannot be told.
    """
    root = source if source.is_dir() else source.parent
    chains = {scan.id: chain for scan in scans if (chain := _chain(scan, root))}
    if not chains:
        raise BadInput(f"{source} has no folder for each class, as in {root}/benign/1.png; {ADVICE}")
    if any(not folder.strip() for chain in chains.values() for folder in chain):
        raise BadInput(f"{source} holds a folder with a blank name; {ADVICE}")
    if any(is_kind(folder) for chain in chains.values() for folder in chain):
        return _by_words(chains)
    return _by_counts(chains)


def _chain(scan: Scan, root: Path) -> list[str]:
    folders = scan.path.parent.relative_to(root).parts
    return [folder for folder in folders if not sorts(folder, FILES)]


def _by_words(chains: Chains) -> dict[str, str]:
    everywhere = set.intersection(*map(set, chains.values()))  # tell nothing apart
    found: dict[str, str] = {}
    places: dict[int, set[int]] = defaultdict(set)  # how many folders a scan lies in -> which of them are classes
    for scan, chain in chains.items():
        kinds = [folder for folder in chain if is_kind(folder)]
        kinds = [folder for folder in kinds if folder not in everywhere] or kinds
        if len(set(kinds)) > 1:
            raise _either(scan, kinds)
        if kinds:
            found[scan] = kinds[0]
            places[len(chain)].add(chain.index(kinds[0]))
    for scan, chain in chains.items():
        if scan not in found and len(places[len(chain)]) == 1:
            (place,) = places[len(chain)]
            found[scan] = chain[place]
    return found


def _by_counts(chains: Chains) -> dict[str, str]:
    deepest = max(chains, key=lambda scan: len(chains[scan]))
    if any(len(chain) != len(chains[deepest]) for chain in chains.values()):
        raise _either(deepest, chains[deepest])
    levels = [set(level) for level in zip(*chains.values(), strict=True)]
    telling = [k for k, names in enumerate(levels) if len(names) > 1 or not sorts(min(names), VIEWS)]
    fewest = min(telling or range(len(levels)), key=lambda k: len(levels[k]))
    if any(k != fewest and len(levels[k]) < 2 * len(levels[fewest]) for k in telling):
        raise _either(deepest, chains[deepest])
    return {scan: chain[fewest] for scan, chain in chains.items()}


def _either(scan: str, folders: Sequence[str]) -> BadInput:
    some = f"{', '.join(folders[:-1])} and {folders[-1]}"
    return BadInput(f"scan {scan} lies in the folders {some}, so its class is ambiguous; {ADVICE}")
