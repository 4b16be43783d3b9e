"""`medaug preprocess`: make a store of scans and their boxes."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from medaug_cli.commands import console, options
from medaug_cli.errors import UsageError

REGION_MM = 64.0  # wider than most tumours; 2 mm a voxel of 32


def preprocess(
    scans: Annotated[Path, typer.Argument(metavar="SCANS", help="A folder of pictures or volumes, or one file.")],
    boxes: Annotated[
        Path | None, typer.Option(
            help="Annotations: boxes.json, COCO, CSV, YOLO, VOC, MONAI, labelme, VIA, CVAT, Label Studio or masks.",
        )
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(help="Lesion masks: a folder with the scans' names, or a volume.")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(metavar="folders|FILE.CSV", help="Classes of images: a folder each, or a CSV of image,class."),
    ] = None,
    normals: Annotated[
        bool,
        typer.Option(
            "--normals",
            help="Take scans without annotation as normal ones; with --regions also take regions without a lesion.",
        ),
    ] = False,
    unannotated: Annotated[
        bool, typer.Option("--unannotated", help="Take scans without annotation for their looks alone, not as normal.")
    ] = False,
    out: Annotated[Path, typer.Option(help="The store to write.")] = Path("real.h5"),
    size: Annotated[int, typer.Option(help="Pixels along each side, a power of two.")] = 256,
    regions: Annotated[
        int | None,
        typer.Option(metavar="SIDE", help="A square or cube of so many pixels (32) around each lesion, not all."),
    ] = None,
    region_mm: Annotated[
        float | None,
        typer.Option(help="With --regions: how wide one is, in mm (else pixels); 64 if not given.", min=1),
    ] = None,
    normal_share: Annotated[
        float | None,
        typer.Option(help="With --normals: regions without a lesion for each with one; 1 if not given.", min=0),
    ] = None,
    volumes: Annotated[
        str | None,
        typer.Option(metavar="DEPTH,HEIGHT,WIDTH", help="Whole volumes of so many voxels, instead of slices."),
    ] = None,
    volume_mm: Annotated[
        float | None, typer.Option(help="With --volumes: how wide a voxel is, in mm; what fits if not given.", min=0.01)
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(metavar="LOW,HIGH", help="Grey values (HU of CT) that become black and white, not percentiles."),
    ] = None,
    patient_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of the CSV that names patients, if it is not `patient`.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="SHARES|FILE.CSV",
            help="Shares of train,val,test, or a CSV of patient,split; default: the annotation's own, or 0.7,0.1,0.2.",
        ),
    ] = None,
    strip: Annotated[
        str, typer.Option(help="Brain extraction: auto, none, a stripper's name, or a folder (./masks) of brain masks.")
    ] = "auto",
    settings: options.Settings = None,
    spacing: Annotated[
        str | None, typer.Option(metavar="X,Y[,Z]", help="Millimetres a pixel, instead of what the files say.")
    ] = None,
    plane: Annotated[
        Literal["axial", "coronal", "sagittal"] | None, typer.Option(help="The plane of pictures, where it is known.")
    ] = None,
    fit: Annotated[Literal["pad", "stretch"], typer.Option(help="Keep the shape, or stretch it to a square.")] = "pad",
    label: Annotated[str | None, typer.Option(help="Give every box this one label.")] = None,
    denoise: Annotated[
        Literal["auto", "none", "median", "curvature", "anisotropic", "nonlocal"],
        typer.Option(help="Smooth the noise."),
    ] = "auto",
    bias: Annotated[Literal["none", "n4"], typer.Option(help="Even out the coil's field.")] = "none",
    bits: Annotated[Literal["8", "16"], typer.Option(help="Bits of a stored pixel.")] = "8",
    slices: Annotated[Literal["all", "lesions"], typer.Option(help="Slices of a volume to keep.")] = "all",
    min_area: Annotated[
        int, typer.Option(help="Pixels (voxels with --regions) from which a mask's component is a lesion.", min=1)
    ] = 10,
    on_fail: Annotated[
        Literal["crop", "skip", "error"],
        typer.Option(help="Where brain extraction is doubtful: keep the head's crop, leave the scan out, or stop."),
    ] = "crop",
    reader: Annotated[str | None, typer.Option(help="Name of the reader, where several know a suffix.")] = None,
    modality: options.Modality = None,
    box_mode: options.BoxMode = None,
    pseudonymise: Annotated[
        Path | None, typer.Option(metavar="KEYFILE", help="Name scans and patients by hashes with this key.")
    ] = None,
    num_parts: Annotated[int, typer.Option(help="Share the scans among so many jobs; see `store join`.", min=1)] = 1,
    part_id: Annotated[int, typer.Option(help="Which share this is, from 0.", min=0)] = 0,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Leave out, and list, a scan that is damaged, instead of stopping.")
    ] = False,
    nan: Annotated[
        float | None, typer.Option(help="Number that NaN and infinite values are read as; refused if not given.")
    ] = None,
    max_pixels: options.MaxPixels = None,
    keep_masks: Annotated[
        Path | None, typer.Option(help="Folder for the brain masks, in each scan's geometry.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Write nothing if an annotated lesion is dropped or has to be repaired.")
    ] = False,
    dry_run: options.DryRun = False,
    seed: options.Seed = 0,
    workers: options.Workers = 0,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Strip, denoise, crop and resize scans, or cut regions around lesions; carry boxes along, split by patient.

    Example: medaug preprocess scans/ --boxes boxes.csv --size 256 --split 0.7,0.1,0.2
    """
    from medaug_cli.preprocess.pipeline import PreprocessOptions, preprocess, summary
    from medaug_cli.preprocess.recipe import Recipe
    from medaug_cli.scans.reading import Reading

    if region_mm is not None and regions is None:
        raise UsageError("--region-mm says how wide those of --regions are; give that too, as --regions 32")
    if normal_share is not None and (regions is None or not normals):
        raise UsageError("--normal-share says how many regions are without a lesion; give --regions and --normals too")
    if volume_mm is not None and volumes is None:
        raise UsageError("--volume-mm says how wide voxels are; give --volumes too, as --volumes 64,96,96")
    recipe = Recipe(
        size=size if regions is None else regions,
        region_mm=(region_mm or REGION_MM) if regions is not None else 0.0,
        normal_regions=(1.0 if normal_share is None else normal_share) if regions is not None and normals else 0.0,
        volume=options.parse_sides(volumes),
        volume_mm=volume_mm,
        window=options.parse_window(window),
        seed=seed,
        strip=strip,
        strip_settings=tuple(options.parse_settings(settings).items()),
        spacing=options.parse_spacing(spacing),
        plane=plane,
        fit=fit,
        denoising=denoise,
        bias=bias,
        bits=int(bits),
        on_fail=on_fail,
        slices=slices,
        least_area=min_area,
        label=label,
        keep_masks=keep_masks,
    )
    with console.bar("preprocess", 1.0) as bar:
        wanted = PreprocessOptions(
            scans=scans,
            out=out,
            boxes=boxes,
            masks=masks,
            classes=classes,
            normals=normals,
            unannotated=unannotated,
            split=split,
            recipe=recipe,
            reader=reader,
            modality=modality,
            keep_going=keep_going,
            reading=Reading(nan=nan, max_pixels=max_pixels),
            box_mode=box_mode,
            patient_column=patient_column,
            key=pseudonymise,
            num_parts=num_parts,
            part_id=part_id,
            seed=seed,
            workers=workers,
            resume=resume,
            overwrite=overwrite,
            strict=strict,
            dry_run=dry_run,
            report=bar.to,
            announce=console.say,
        )
        store = preprocess(wanted)
    if store is None:
        console.answer({"store": None}, as_json, "nothing was written")
        return
    page, found = out.with_name("preprocess.html"), summary(out, store)
    result = {"store": str(out), "images": len(store), "hash": store.hash, **found.images, **found.values()}
    console.answer(result | {"page": str(page)}, as_json, "\n".join(found.lines(out, page)))
