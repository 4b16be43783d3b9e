"""`medaug preprocess`: make a store of scans and their boxes."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from medaug_cli.commands import console, options
from medaug_cli.errors import UsageError

if TYPE_CHECKING:
    from medaug_cli.preprocess.pipeline import PreprocessOptions
    from medaug_cli.preprocess.recipe import Recipe

OPTION_OF = {"denoising": "denoise"}  # field of a recipe -> option, where they are called differently
REGION_MM = 64.0  # wider than most tumours; 2 mm a voxel of 32


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What `medaug preprocess` is asked for, in the order of its help."""

    context: typer.Context
    scans: Annotated[Path, typer.Argument(metavar="SCANS", help="A folder of pictures or volumes, or one file.")]
    boxes: Annotated[
        Path | None,
        typer.Option(
            help="Annotations: boxes.json, COCO, CSV, YOLO, VOC, MONAI, labelme, VIA, CVAT, Label Studio, "
            "DICOM SR or masks.",
        ),
    ] = None
    masks: Annotated[Path | None, typer.Option(help="Lesion masks: a folder with the scans' names, or a volume.")] = (
        None
    )
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="folders|FILE.CSV", help="Classes of the images: one folder per class, or a CSV of image,class."
        ),
    ] = None
    normals: Annotated[
        bool,
        typer.Option(
            "--normals",
            help="Count scans without annotations as normal; with --regions, also cut regions without a lesion.",
        ),
    ] = False
    unannotated: Annotated[
        bool,
        typer.Option(
            "--unannotated", help="Keep scans without annotations for generators to learn from, not as normal."
        ),
    ] = False
    external: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Name the source of scans from elsewhere; they are used for training only, never for evaluation.",
        ),
    ] = None
    out: Annotated[Path, typer.Option(help="The store to write.")] = Path("real.h5")
    size: Annotated[int, typer.Option(help="Side of the images in pixels, a power of two.")] = 256
    regions: Annotated[
        int | None,
        typer.Option(metavar="SIDE", help="Cut a square or cube of this many pixels, such as 32, around each lesion."),
    ] = None
    region_mm: Annotated[
        float | None,
        typer.Option(
            help="With --regions: their side in mm, or in pixels where the spacing is unknown; default: 64.", min=1
        ),
    ] = None
    normal_share: Annotated[
        float | None,
        typer.Option(
            help="With --regions and --normals: regions without a lesion per region with one; default: 1.", min=0
        ),
    ] = None
    volumes: Annotated[
        str | None,
        typer.Option(metavar="DEPTH,HEIGHT,WIDTH", help="Keep whole volumes of this many voxels, instead of slices."),
    ] = None
    volume_mm: Annotated[
        float | None,
        typer.Option(help="With --volumes: size of a voxel in mm; default: as small as fits the volume.", min=0.01),
    ] = None
    window: Annotated[
        str | None,
        typer.Option(
            metavar="LOW,HIGH", help="Grey values (HU in CT) that become black and white; default: percentiles."
        ),
    ] = None
    patient_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of the CSV that names patients, if it is not `patient`.")
    ] = None
    box_columns: Annotated[
        str | None,
        typer.Option(
            metavar="[train:]PREFIX",
            help="In a CSV with several boxes per row, use PREFIX_x_min, ...; with train: for training only.",
        ),
    ] = None
    split: Annotated[
        str | None,
        typer.Option(
            metavar="SHARES|FILE.CSV",
            help="Shares of train,val,test, or a CSV of patient,split; default: that of the annotations, or "
            "0.7,0.1,0.2.",
        ),
    ] = None
    strip: Annotated[
        str, typer.Option(help="Brain extraction: auto, none, a stripper's name, or a folder (./masks) of brain masks.")
    ] = "auto"
    settings: options.Settings = None
    spacing: Annotated[
        str | None, typer.Option(metavar="X,Y[,Z]", help="Pixel spacing in mm, instead of what the files say.")
    ] = None
    plane: Annotated[
        Literal["axial", "coronal", "sagittal"] | None,
        typer.Option(help="Plane in which pictures were taken, if known."),
    ] = None
    fit: Annotated[Literal["pad", "stretch"], typer.Option(help="Pad to a square, or stretch to one.")] = "pad"
    label: Annotated[str | None, typer.Option(help="Give every box this label.")] = None
    denoise: Annotated[
        Literal["auto", "none", "median", "curvature", "anisotropic", "nonlocal"],
        typer.Option(help="How to smooth noise."),
    ] = "auto"
    bias: Annotated[Literal["none", "n4"], typer.Option(help="Correction of the bias field of MR coils.")] = "none"
    bits: Annotated[Literal["8", "16"], typer.Option(help="Bits per stored pixel.")] = "8"
    slices: Annotated[Literal["all", "lesions"], typer.Option(help="Slices of a volume to keep.")] = "all"
    min_area: Annotated[
        int, typer.Option(help="Smallest component of a mask that counts as a lesion, in pixels or voxels.", min=1)
    ] = 10
    on_fail: Annotated[
        Literal["crop", "skip", "error"],
        typer.Option(help="Where brain extraction is doubtful: keep the head's crop, leave the scan out, or stop."),
    ] = "crop"
    reader: Annotated[str | None, typer.Option(help="Reader to use where several support a file suffix.")] = None
    modality: Annotated[
        str | None,
        typer.Option(
            metavar="PRESET|FILES",
            help="Preset for stripping, denoising and scaling: mr-brain, ct, us, xray or other. Or which files of a "
            "case to use, such as t1ce of case_t1ce and case_flair, or all. Or both: mr-brain,t1ce.",
        ),
    ] = None
    box_mode: options.BoxMode = None
    pseudonymise: Annotated[
        Path | None,
        typer.Option(metavar="KEYFILE", help="Replace the names of scans and patients with hashes made with this key."),
    ] = None
    num_parts: Annotated[int, typer.Option(help="Split the scans among this many jobs; see `store join`.", min=1)] = 1
    part_id: Annotated[int, typer.Option(help="Which part this job does, from 0.", min=0)] = 0
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Skip damaged scans, and list them, instead of stopping.")
    ] = False
    nan: Annotated[
        float | None, typer.Option(help="Number to read NaN and infinite values as; default: refuse them.")
    ] = None
    max_pixels: options.MaxPixels = None
    keep_masks: Annotated[
        Path | None, typer.Option(help="Folder to write the brain masks to, in each scan's geometry.")
    ] = None
    strict: Annotated[
        bool, typer.Option("--strict", help="Write nothing if an annotated lesion is dropped or has to be repaired.")
    ] = False
    dry_run: options.DryRun = False
    seed: options.Seed = 0
    workers: options.Workers = 0
    resume: options.Resume = False
    overwrite: options.Overwrite = False
    as_json: options.AsJson = False


@options.taken_as(Choices)
def preprocess(chosen: Choices) -> None:
    """Strip, denoise, crop and resize scans, or cut regions around lesions; carry boxes along, split by patient.

    Example: medaug preprocess scans/ --boxes boxes.csv --size 256 --split 0.7,0.1,0.2
    """
    from medaug_cli.preprocess.pipeline import preprocess, summary

    _check(chosen)
    recipe, advice = _recipe(chosen), list[str]()
    with console.bar("preprocess", 1.0) as bar:
        store = preprocess(_options(chosen, recipe, bar, advice))
    out, as_json = chosen.out, chosen.as_json
    if store is None:
        console.answer({"store": None}, as_json, "nothing was written")
    else:
        page, found = out.with_name("preprocess.html"), summary(out, store)
        result = {"store": str(out), "images": len(store), "hash": store.hash, **found.images, **found.values()}
        console.answer(result | {"page": str(page)}, as_json, "\n".join(found.lines(out, page)))
    console.advise(advice)


def _check(chosen: Choices) -> None:
    """Raise UsageError for an option that says more of another, where that is not given."""
    if chosen.region_mm is not None and chosen.regions is None:
        raise UsageError("--region-mm needs --regions, as in --regions 32")
    if chosen.normal_share is not None and (chosen.regions is None or not chosen.normals):
        raise UsageError("--normal-share needs --regions and --normals")
    if chosen.volume_mm is not None and chosen.volumes is None:
        raise UsageError("--volume-mm needs --volumes, as in --volumes 64,96,96")


def _recipe(chosen: Choices) -> "Recipe":
    from medaug_cli.preprocess.presets import chosen_preset, with_preset
    from medaug_cli.preprocess.recipe import Recipe

    of_regions = chosen.regions is not None
    share = 1.0 if chosen.normal_share is None else chosen.normal_share
    recipe = Recipe(
        size=chosen.size if chosen.regions is None else chosen.regions,
        region_mm=(chosen.region_mm or REGION_MM) if of_regions else 0.0,
        normal_regions=share if of_regions and chosen.normals else 0.0,
        volume=options.parse_sides(chosen.volumes),
        volume_mm=chosen.volume_mm,
        window=options.parse_window(chosen.window),
        seed=chosen.seed,
        strip=chosen.strip,
        strip_settings=tuple(options.parse_settings(chosen.settings).items()),
        spacing=options.parse_spacing(chosen.spacing),
        plane=chosen.plane,
        fit=chosen.fit,
        denoising=chosen.denoise,
        bias=chosen.bias,
        bits=int(chosen.bits),
        on_fail=chosen.on_fail,
        slices=chosen.slices,
        least_area=chosen.min_area,
        label=chosen.label,
        keep_masks=chosen.keep_masks,
    )
    preset, _ = chosen_preset(chosen.modality)
    return with_preset(recipe, preset, lambda field: options.is_given(chosen.context, OPTION_OF.get(field, field)))


def _options(chosen: Choices, recipe: "Recipe", bar: console.Bar, advice: list[str]) -> "PreprocessOptions":
    from medaug_cli.preprocess.pipeline import PreprocessOptions
    from medaug_cli.preprocess.presets import chosen_preset
    from medaug_cli.scans.reading import Reading

    return PreprocessOptions(
        scans=chosen.scans,
        out=chosen.out,
        boxes=chosen.boxes,
        masks=chosen.masks,
        classes=chosen.classes,
        normals=chosen.normals,
        unannotated=chosen.unannotated,
        external=chosen.external,
        split=chosen.split,
        recipe=recipe,
        reader=chosen.reader,
        modality=chosen_preset(chosen.modality)[1],
        keep_going=chosen.keep_going,
        reading=Reading(nan=chosen.nan, max_pixels=chosen.max_pixels),
        box_mode=chosen.box_mode,
        patient_column=chosen.patient_column,
        box_columns=chosen.box_columns,
        key=chosen.pseudonymise,
        num_parts=chosen.num_parts,
        part_id=chosen.part_id,
        seed=chosen.seed,
        workers=chosen.workers,
        resume=chosen.resume,
        overwrite=chosen.overwrite,
        strict=chosen.strict,
        dry_run=chosen.dry_run,
        report=bar.to,
        announce=console.say,
        advise=advice.append,
    )
