"""What a run of `medaug preprocess` will do: which scans, whose, in which split, by which recipe."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from medaug_cli import __version__
from medaug_cli.brain.extraction import check_stripper_choice
from medaug_cli.brain.files import masks_folder, with_brain_masks
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import names_of, sha256_file
from medaug_cli.forms.annotations import Annotation, Note, sentences
from medaug_cli.forms.policy import LESION
from medaug_cli.forms.reading import AnnotationSet, holds_masks, read_annotations, with_masks
from medaug_cli.preprocess import advice
from medaug_cli.preprocess.classes import (
    FOLDERS,
    check_classes,
    classes_file,
    classes_of,
    hint,
    one_spelling,
    spelt_alike,
    with_classes,
)
from medaug_cli.preprocess.looking import doubted_masks, without_needless_stripping
from medaug_cli.preprocess.patients import find_patients
from medaug_cli.preprocess.presets import are_sided, without_needless_window
from medaug_cli.preprocess.pseudonyms import read_key, renamed_patients, renamed_scans
from medaug_cli.preprocess.recipe import Recipe, check_recipe
from medaug_cli.preprocess.splits import split_scans, warnings_of_splits
from medaug_cli.scans.masks import IGNORED
from medaug_cli.scans.reading import PLAIN, Pixels, Reading, Scan, read_pixels
from medaug_cli.scans.survey import Found, LeftOut, of_one_kind, survey
from medaug_cli.store import NORMAL, StoreInfo
from medaug_cli.store.folds import OF_TRAINING
from medaug_cli.store.model import EXTERNAL, REAL
from medaug_cli.words import counted

MOST_NAMES = 255  # of the values of stored masks, which are bytes
SKIPPED = "lesions of a scan that cannot be read are left out"
NAME = r"[A-Za-z0-9._-]{1,64}"  # of where external scans come from


@dataclass(frozen=True)
class PreprocessOptions:
    """What `medaug preprocess` takes."""

    scans: Path
    out: Path
    boxes: Path | None = None
    masks: Path | None = None
    classes: str | None = None  # of whole images: "folders", or a CSV file
    normals: bool = False  # scans without annotation show no lesion
    unannotated: bool = False  # keep scans without annotation, for their appearance only
    external: str | None = None  # where the scans come from, if they are not of the data set itself
    split: str | None = None  # shares, or a CSV file; the annotation's own where it has one
    recipe: Recipe = field(default_factory=Recipe)
    reader: str | None = None
    modality: str | None = None
    keep_going: bool = False
    reading: Reading = PLAIN
    box_mode: str | None = None  # of a data list
    patient_column: str | None = None  # of a CSV
    box_columns: str | None = None  # of a CSV: prefix of x_min and the others, such as rough, or train:rough
    key: Path | None = None  # for pseudonyms
    num_parts: int = 1
    part_id: int = 0
    seed: int = 0
    workers: int = 0
    resume: bool = False
    overwrite: bool = False
    dry_run: bool = False
    strict: bool = False  # refuse to drop or repair an annotated lesion
    report: Callable[[float, str], None] = lambda share, note: None
    announce: Callable[[str], None] = lambda sentence: None
    advise: Callable[[str], None] = lambda sentence: None  # hears, at the end, what you may want to change


@dataclass(frozen=True)
class Plan:
    """What a run will do, settled before any scan is processed."""

    scans: list[Scan]
    annotations: dict[str, Annotation]
    patients: dict[str, str]  # scan id -> patient
    splits: dict[str, str]  # patient -> split
    by_patient: bool
    recipe: Recipe
    info: StoreInfo
    units: range  # the scans of this part
    left_out: list[LeftOut]
    notes: list[Note]  # on the annotations as a whole; each annotation has its own
    unannotated: frozenset[str] = frozenset()  # scans that nobody looked at for lesions
    source: str = REAL  # of every image
    sentences: tuple[str, ...] = ()  # what will be done, and what a person should know of patients and splits
    advice: tuple[str, ...] = ()  # what to change, so far as it is known before any scan is treated

    def class_of(self, scan: Scan, region: str | None = None) -> str | None:
        """Return the class of a scan as a whole, and so of each of its slices; None where it is not known.

        Where regions without a lesion are taken too, `region` is NORMAL or the label of a region's lesion. The former
        are a class of their own, and the latter are classes where scans have none.
        """
        told = self.annotations[scan.id].image_class if scan.id in self.annotations else None
        if not self.recipe.normal_regions or region is None:
            return told
        by_label = not _class_names(self.annotations)
        return region if region == NORMAL or by_label else told


def plan_of(options: PreprocessOptions) -> Plan:
    """Settle what a run will do; raise UsageError or BadInput where that cannot be."""
    check_recipe(options.recipe)
    _check_kinds(options)
    found = _found(options)
    scans = found.scans
    if _lacks_annotations(options) and not any(scan.image_class is not None for scan in scans):
        raise UsageError(
            "give the annotations with --boxes, --masks or both, or the images' classes with --classes; "
            "or take scans without annotation with --unannotated"
        )
    damaged = _damaged(options, found)
    read = _annotations(options, scans, damaged)
    told = classes_of(
        options.classes,
        [*scans, *damaged],
        options.scans,
        patient_column=None if options.boxes is not None else options.patient_column,
        say=options.announce,
    )
    for scan in damaged:
        told.pop(scan.id, None)
    annotations, spellings = one_spelling(with_classes(read.scans, told, options.classes))
    for sentence in sentences(read.notes):
        options.announce(sentence)
    if options.strict and (lost := [note for note in read.notes if note.lost]):
        raise BadInput(f"--strict: {sentences(lost)[0]}")
    scans, other_kind = of_one_kind(scans, annotations, options.announce)
    if options.recipe.volume is not None and not scans[0].volume:
        raise UsageError(f"--volumes takes volumes; {scans[0].relative} is a picture")
    of_classes = check_classes(options.classes, scans, annotations, options.unannotated)
    others = [scan.id for scan in scans if scan.id not in read.scans]
    if options.normals or options.unannotated:
        annotations |= {name: Annotation() for name in others if name not in annotations}
    unannotated = frozenset(name for name in others if name in annotations and not options.normals)
    chosen = [scan for scan in scans if scan.id in annotations]
    if not chosen:
        raise BadInput(
            f"none of the {len(scans)} scans in {options.scans} is annotated; "
            "take them without annotation with --unannotated, or as free of lesions with --normals"
        )
    unknown = unannotated - told.keys()
    first = _readable(options, chosen)
    recipe, unwindowed = without_needless_window(_completed(options, first[1], annotations), first[1])
    recipe, unstripped = without_needless_stripping(recipe, chosen)
    patients = find_patients(scans, annotations, _folders_of_classes(options, annotations))
    splits = dict.fromkeys((patients.of[scan.id] for scan in chosen), "train")
    if options.external is None:
        splits = split_scans(
            chosen,
            annotations,
            patients.of,
            wanted=options.split,
            source=options.boxes or options.classes,
            seed=options.seed,
            added=others if not any(one.split for one in told.values()) else set(others) - told.keys(),
            unannotated=unknown,
        )
    if (options.box_columns or "").startswith(OF_TRAINING):
        _judge_by_others(
            options,
            scans,
            damaged,
            annotations=annotations,
            splits={scan.id: splits[patients.of[scan.id]] for scan in chosen},
        )
    looked_at = [scan for scan in chosen if scan.id not in unknown]  # the others are for training alone
    names = {recipe.label} if recipe.label else _label_names(annotations)
    plan = Plan(
        scans=scans,
        annotations=annotations,
        patients=patients.of,
        splits=splits,
        by_patient=not patients.nameless(chosen),
        recipe=recipe,
        info=_info(options, recipe, sorted(map(str, names)), _classes(recipe, annotations, names)),
        units=_part(options, [i for i, scan in enumerate(scans) if scan.id in annotations], len(scans)),
        left_out=[
            *found.left_out,
            *other_kind,
            *(LeftOut(note.place, note.what, used=not note.leaves_out) for note in read.notes),
        ],
        notes=read.notes,
        unannotated=unannotated,
        source=REAL if options.external is None else f"{EXTERNAL}{options.external}",
        sentences=(
            f"{_taken(options, len(scans), others, annotations)}, {patients.words(chosen)}; "
            f"{_form(recipe, chosen[0])}: {options.out}",
            *unwindowed,
            *unstripped,
            *of_classes,
            *spellings,
            *spelt_alike(names),
            *(patients.warnings(looked_at) if looked_at else ()),
            *([] if of_classes else hint(patients.sorting)),
            *(
                warnings_of_splits(splits, options.split, patients.words(looked_at))
                if looked_at and options.external is None
                else ()
            ),
            *([] if options.external is None else [f"all of it is external ({options.external}): for training only"]),
        ),
    )
    unread = 0 if _marks(options) else found.masks
    return _renamed(
        options,
        replace(plan, advice=tuple(_advice(options, plan, *first, unread=unread, nameless=patients.nameless(chosen)))),
    )


def _advice(
    options: PreprocessOptions, plan: Plan, scan: Scan, pixels: Pixels, *, unread: int, nameless: int
) -> list[str]:
    """Say what a person may want to change, by a plan and its first scan; in a dry run brain masks are tried, too."""
    chosen = [one for one in plan.scans if one.id in plan.annotations]
    nameless = 0 if options.dry_run else nameless  # which has just said so
    masks = doubted_masks(plan.recipe, chosen) if options.dry_run else (0, 0)
    return [
        *advice.of_masks(*masks, of_few=True),
        *advice.of_patients(nameless, len(chosen), options.boxes, options.classes, options.patient_column),
        *advice.of_left_out(plan.scans, plan.annotations, options.boxes is None and options.masks is None),
        *advice.of_unread_masks(unread, options.scans),
        *advice.of_width(plan.recipe, scan, pixels),
        *advice.of_enlargement(plan.recipe, scan, pixels),
    ]


def _found(options: PreprocessOptions) -> Found:
    """Return the scans, with the brain masks that somebody else made, and what is left out."""
    brains = masks_folder(options.recipe.strip)
    if brains is None:
        check_stripper_choice(options.recipe.strip, options.recipe.strip_settings)
    found = survey(
        options.scans,
        say=options.announce,
        reader=options.reader,
        modality=options.modality,
        keep_going=options.keep_going,
        marks=_marks(options),
        reading=replace(options.reading, spacing=options.recipe.spacing),
    )
    return found if brains is None else replace(found, scans=with_brain_masks(brains, found.scans, options.announce))


def _marks(options: PreprocessOptions) -> list[Path]:
    """Return the files and folders of masks, of lesions or brains, that are given."""
    marks = [path for path in (options.masks, masks_folder(options.recipe.strip)) if path is not None]
    return marks + ([options.boxes] if options.boxes is not None and holds_masks(options.boxes) else [])


def _taken(options: PreprocessOptions, total: int, others: Sequence[str], annotations: dict[str, Annotation]) -> str:
    """Say how many scans are annotated, with what, and as what the `others` are taken that have no box or mask."""
    classed = {scan for scan, one in annotations.items() if one.image_class is not None}
    if not classed and len(others) == total:
        return f"{counted(total, 'scan')} taken as {'normal' if options.normals else 'unannotated'}"
    if not classed:
        said = f"{total - len(others)} of {total} scans are annotated"
    elif options.boxes is None and options.masks is None:
        said = f"{len(classed)} of {total} scans have a class"
    else:
        said = f"{total - len(others)} of {total} scans have boxes or masks, {len(classed)} a class"
    added = [scan for scan in others if options.normals or scan not in classed]
    if not added or not (options.normals or options.unannotated):
        return said
    return f"{said}, {len(added)} taken as {'normal' if options.normals else 'unannotated'}"


def _folders_of_classes(options: PreprocessOptions, annotations: dict[str, Annotation]) -> dict[str, str]:
    """Return scan id -> the class that a folder may be called by; a number in a CSV names no folder."""
    return {
        scan: one.image_class
        for scan, one in annotations.items()
        if one.image_class is not None and (options.classes == FOLDERS or not one.image_class.isdigit())
    }


def _classes(recipe: Recipe, annotations: dict[str, Annotation], labels: Iterable[str]) -> list[str]:
    """Return the classes of the images that are written; see `Plan.class_of`."""
    named = _class_names(annotations)
    if not recipe.normal_regions:
        return named
    return sorted({*(named or map(str, labels)), NORMAL})


def _class_names(annotations: dict[str, Annotation]) -> list[str]:
    return sorted({one.image_class for one in annotations.values() if one.image_class is not None})


def _form(recipe: Recipe, first: Scan) -> str:
    """Say what becomes of each scan, all of which are of the kind of the first."""
    if recipe.volume is not None:
        size = "x".join(map(str, recipe.volume))
        mm = "" if recipe.volume_mm is None else f" of {recipe.volume_mm:g} mm"
        return f"each becomes {size} voxels{mm}, strip {recipe.strip}, fit {recipe.fit}"
    if not recipe.region_mm:
        each = "each slice" if first.volume else "each"
        return f"{each} becomes {recipe.size}x{recipe.size}, strip {recipe.strip}, fit {recipe.fit}"
    size = "x".join([str(recipe.size)] * (3 if first.volume else 2))
    unit = "mm" if first.volume or recipe.spacing else "mm, or pixels where a picture does not say,"
    normals = f", with {recipe.normal_regions:g} without a lesion for each" if recipe.normal_regions else ""
    what = f"{size} {'voxels' if first.volume else 'pixels'}, {recipe.region_mm:g} {unit} wide"
    return f"each lesion becomes {what}{normals}, strip {recipe.strip}"


def _check_kinds(options: PreprocessOptions) -> None:
    """Raise UsageError where it is not said what to do without annotations, or two things are."""
    if options.normals and options.unannotated:
        raise UsageError("--normals and --unannotated exclude each other; give one of them")
    if options.recipe.region_mm and options.unannotated:
        raise UsageError("--unannotated keeps scans without lesions; --regions cuts a region around each lesion")
    if options.external is not None and options.split is not None:
        raise UsageError("--external makes a store for training only; leave --split out")
    if options.external is not None and not re.fullmatch(NAME, options.external):
        raise UsageError(f"--external {options.external}: expected a name of letters, digits, '.', '_' and '-'")
    if options.patient_column is not None and options.boxes is None and options.classes in (None, FOLDERS):
        raise UsageError("--patient-column names a column of the CSV that --boxes or --classes gives")
    if options.box_columns is not None and options.boxes is None:
        raise UsageError("--box-columns names columns of the CSV that --boxes gives")
    if options.boxes is not None or options.masks is not None:
        return
    if options.recipe.region_mm and options.classes is not None:
        raise UsageError("--regions cuts a region around each lesion; give --boxes or --masks as well as --classes")


def _lacks_annotations(options: PreprocessOptions) -> bool:
    given = (options.boxes, options.masks, options.classes)
    return all(one is None for one in given) and not (options.normals or options.unannotated)


def _part(options: PreprocessOptions, annotated: Sequence[int], total: int) -> range:
    """Return the scans of this part: as many annotated ones as another part has, in order."""
    parts, part = options.num_parts, options.part_id
    if not 0 <= part < parts:
        raise UsageError(f"--part-id {part}: with --num-parts {parts} it is 0 to {parts - 1}")
    if parts > len(annotated):
        raise UsageError(f"--num-parts {parts}: there are only {len(annotated)} annotated scans to split")
    ends = [0, *(annotated[len(annotated) * k // parts] for k in range(1, parts)), total]
    return range(ends[part], ends[part + 1])


def _renamed(options: PreprocessOptions, plan: Plan) -> Plan:
    """Give scans and patients the names that outputs may know."""
    key = None if options.key is None else read_key(options.key)
    patients = renamed_patients(plan.scans, plan.patients, key)
    scans = renamed_scans(plan.scans, key)
    new = {old.id: scan.id for old, scan in zip(plan.scans, scans, strict=True)}
    people = {plan.patients[name]: patients[name] for name in plan.patients}
    left_out = plan.left_out if key is None else [replace(one, shown="a file", reason="") for one in plan.left_out]
    return replace(
        plan,
        scans=scans,
        annotations={new[name]: one for name, one in plan.annotations.items()},
        patients={new[name]: patient for name, patient in patients.items()},
        splits={people[name]: split for name, split in plan.splits.items()},
        left_out=left_out,
    )


def _damaged(options: PreprocessOptions, found: Found) -> list[Scan]:
    """Return stand-ins for the files that cannot be read and are skipped, whose annotations are skipped with them."""
    shown = [one.shown for one in found.left_out if one.damaged]
    return [Scan(name, options.scans / name, name, volume=False) for name in shown]


def _annotations(options: PreprocessOptions, scans: Sequence[Scan], damaged: Sequence[Scan]) -> AnnotationSet:
    """Return what the files say of scans; annotations of `damaged` ones are noted as lost."""
    if options.masks is not None and not options.masks.exists():
        raise BadInput(f"{options.masks} does not exist")
    found = AnnotationSet()
    if options.boxes is not None:
        found = read_annotations(
            options.boxes,
            [*scans, *damaged],
            box_mode=options.box_mode,
            say=options.announce,
            patient_column=options.patient_column,
            box_columns=None if options.box_columns is None else options.box_columns.removeprefix(OF_TRAINING),
        )
        lost = [(scan.relative, found.scans.pop(scan.id)) for scan in damaged if scan.id in found.scans]
        found.notes.extend(
            Note(SKIPPED, place, counted(len(one.boxes), "lesion"), lost=True) for place, one in lost if one.boxes
        )
    return found if options.masks is None else with_masks(found, options.masks, scans, options.announce)


def _judge_by_others(
    options: PreprocessOptions,
    scans: Sequence[Scan],
    damaged: Sequence[Scan],
    *,
    annotations: dict[str, Annotation],
    splits: dict[str, str],
) -> None:
    """Give scans that are not for training the boxes of a CSV's plain columns."""
    plain = _annotations(replace(options, box_columns=None, announce=lambda sentence: None), scans, damaged).scans
    for name, split in splits.items():
        if split != "train" and name in plain:
            own = plain[name]
            annotations[name] = replace(
                annotations[name], boxes=own.boxes, labels=own.labels, places=own.places, notes=own.notes
            )


def _completed(options: PreprocessOptions, first: Pixels, annotations: dict[str, Annotation]) -> Recipe:
    """Settle what the first scan decides: channels, and whether the store holds masks."""
    masks = any(annotation.marked for annotation in annotations.values())
    names = () if options.recipe.label else _mask_names(annotations)
    if len(names) > MOST_NAMES:
        raise BadInput(f"masks name {len(names)} labels; a store holds up to {MOST_NAMES}: give them one with --label")
    channels = 3 if len(first.image) == 3 else 1
    return replace(options.recipe, channels=channels, with_masks=masks, mask_names=names)


def _readable(options: PreprocessOptions, annotated: Sequence[Scan]) -> tuple[Scan, Pixels]:
    """Return the first annotated scan and its pixels; the first that can be read, with `keep_going`."""
    reasons = []
    for scan in annotated:
        try:
            return scan, read_pixels(scan)
        except BadInput as error:
            if not options.keep_going:
                raise
            reasons.append(str(error))
    raise BadInput(f"none of the annotated scans in {options.scans} can be read; {reasons[0]}")


def _label_names(annotations: dict[str, Annotation]) -> set[str]:
    """Return every label that boxes or the values of masks may have."""
    named = {name for one in annotations.values() for name in (*one.labels, *(one.mask_labels or {}).values())}
    plain = any(one.mask is not None and one.mask_labels is None for one in annotations.values())
    named.discard(IGNORED)
    return named | {"lesion"} if plain or not named else named


def _mask_names(annotations: dict[str, Annotation]) -> tuple[str, ...]:
    """Return what the values of stored masks stand for; nothing where they mark one thing alone."""
    labels = [one.mask_labels for one in annotations.values() if one.mask is not None]
    names = {name for own in labels for name in ([LESION] if own is None else own.values())} - {IGNORED}
    outlined = [one for one in annotations.values() if one.mask is None and one.marked]
    names |= {name for one in outlined for name, own in zip(one.labels, one.outlines, strict=True) if own is not None}
    return tuple(sorted(names)) if len(names) > 1 else ()


def _info(options: PreprocessOptions, recipe: Recipe, names: list[str], class_names: list[str]) -> StoreInfo:
    choices = ("preset", "region_mm", "normal_regions", "volume", "volume_mm", "window")
    left_out = {"keep_masks", "seed", "mask_names", *(name for name in choices if not getattr(recipe, name))}
    settings = {name: value for name, value in asdict(recipe).items() if name not in left_out}
    settings["percentiles"] = list(recipe.percentiles)
    split = None if options.split is None else Path(options.split)
    given = (options.boxes, options.masks, split, classes_file(options.classes))
    files = [path for path in given if path is not None and path.is_file()]
    inputs = dict(zip(names_of(files), map(sha256_file, files), strict=True))
    own: dict[str, Any] = {"split": options.split}
    named = ("classes", "modality", "reader", "box_mode", "patient_column", "box_columns")
    chosen: dict[str, Any] = {name: getattr(options, name) for name in named}
    chosen["nan"], chosen["external"] = options.reading.nan, options.external
    own |= {name: value for name, value in chosen.items() if value is not None}
    own |= {name: True for name in ("normals", "unannotated") if getattr(options, name)}
    own |= {"mirrored": False} if are_sided(recipe.preset) else {}
    own |= {"pseudonyms": True} if options.key is not None else {}
    own |= {"part": [options.part_id, options.num_parts]} if options.num_parts > 1 else {}
    return StoreInfo(
        tool_version=__version__,
        command="preprocess",
        seed=options.seed,
        label_names=names,
        class_names=class_names,
        mask_names=list(recipe.mask_names),
        inputs=inputs,
        settings=settings | own,
    )
