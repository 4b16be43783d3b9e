"""Masks: a folder of pictures or label volumes, or one of them; and masks beside boxes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medaug_cli.forms.annotations import Annotation, Note
from medaug_cli.forms.form import File, Form, Marks
from medaug_cli.scans.masks import label_names
from medaug_cli.scans.pairing import Say, pair_masks
from medaug_cli.scans.reading import Scan, suffixes

NO_SCAN = "a mask without a scan of its name, left out"
NOT_READ = "a mask in an unknown format, left out"


def _sniff(file: File) -> bool:
    return file.suffix in suffixes()


def _read(marks: Marks) -> dict[str, Annotation]:
    found, notes = read_masks(marks.path, marks.scans, marks.say)
    marks.notes += notes
    return found


def read_masks(
    path: Path, scans: Sequence[Scan], say: Say = lambda sentence: None
) -> tuple[dict[str, Annotation], list[Note]]:
    """Find the mask of each scan that has one, and what its values stand for; note masks that are left over."""
    pairs = pair_masks(path, scans, say)
    notes = [Note(NO_SCAN, place, lost=True) for place in pairs.unclaimed]
    notes += [Note(NOT_READ, place, lost=True) for place in pairs.unread]
    found = {
        name: Annotation(mask=masks[0], more_masks=masks[1:], mask_labels=label_names(masks[0]))
        for name, masks in pairs.masks.items()
    }
    return found, notes


def with_masks(
    boxes: dict[str, Annotation], path: Path, scans: Sequence[Scan], say: Say = lambda sentence: None
) -> tuple[dict[str, Annotation], list[Note]]:
    """Return annotations by boxes together with the masks of scans; a scan may have either or both."""
    masks, notes = read_masks(path, scans, say)
    both = {
        name: replace(one, mask=own.mask, more_masks=own.more_masks, mask_labels=own.mask_labels, both=True)
        for name, one in boxes.items()
        if (own := masks.get(name))
    }
    return masks | boxes | both, notes


FORM = Form(name="masks", title="a folder of masks", sniff=_sniff, read=_read)
