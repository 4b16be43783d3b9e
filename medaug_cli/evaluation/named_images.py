"""Which image of the truth a prediction is of, by its name; and which patient an image is of."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from medaug_cli.errors import BadInput
from medaug_cli.forms.annotations import Annotation
from medaug_cli.forms.naming import bare
from medaug_cli.forms.table import named_rows, read_table, tell, with_patients


class ImageNames:
    """The images of a truth; a name means the one that is called so, in full, without its suffix, or without folders.

    What fits two images is neither's name.
    """

    def __init__(self, ids: Sequence[str]):
        self._index: dict[str, int] = {}
        for call in (_last, lambda name: PurePosixPath(name).name, bare, str):
            names = [call(name) for name in ids]
            times = Counter(names)
            self._index |= {name: i for i, name in enumerate(names) if times[name] == 1}

    def find(self, name: str) -> int | None:
        """Return the index of the image that a name means, None where it means none."""
        plain = name.strip().replace("\\", "/")
        calls = (plain, bare(plain), PurePosixPath(plain).name, _last(plain))
        return next((self._index[call] for call in calls if call in self._index), None)


def _last(name: str) -> str:
    return bare(PurePosixPath(name).name)


def read_patients(path: Path, ids: Sequence[str]) -> dict[str, str]:
    """Return the patient that a CSV (image, patient) names for each image; raise BadInput where it lacks one."""
    table = read_table(path, ("image", "patient"))
    if "patient" not in table.columns:
        table = with_patients(table, "patient")  # which says what columns there are
    names = ImageNames(ids)
    found: dict[int, Annotation] = {}
    for place, name, _, row in named_rows(table):
        index = names.find(name)
        if index is not None:
            tell(item := found.setdefault(index, Annotation()), table, row, place, name)
            if item.patient is None:
                raise BadInput(f"{place}: image {name} has no patient")
    lacking = [name for i, name in enumerate(ids) if i not in found]
    if lacking:
        raise BadInput(f"{path} names no patient of the image {lacking[0]!r} ({len(lacking)} of {len(ids)} lack one)")
    return {ids[i]: str(item.patient) for i, item in found.items()}
