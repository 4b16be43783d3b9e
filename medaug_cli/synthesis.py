"""Draw a synthetic store from a trained generator, block by block."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli import __version__
from medaug_cli.boxes import digest_patient, read_boxes
from medaug_cli.conditions import Template, choose, condition_of, specks, templates
from medaug_cli.devices import resolve_device
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import name_of, parse_json, sha256_file
from medaug_cli.locks import alone
from medaug_cli.plugin import Condition, Drawn, as_drawn, image_seed
from medaug_cli.runs import GeneratorMetadata, load_generator
from medaug_cli.store import (
    GeneratorOrigin,
    Record,
    Store,
    StoreInfo,
    StoreWriter,
    already_made,
    open_store,
    store_claimed,
)

BLOCK = 128  # images that are finished together


@dataclass(frozen=True)
class SynthesisOptions:
    """What `medaug synthesize` takes."""

    n: int
    gan: Path
    out: Path
    boxes: Path | None = None
    jitter: float = 0.1
    seed: int = 0
    device: str = "auto"
    batch: int = 32
    num_parts: int = 1
    part_id: int = 0
    resume: bool = False
    overwrite: bool = False
    report: Callable[[int], None] = lambda images: None
    announce: Callable[[str], None] = lambda sentence: None


def default_boxes(gan: Path) -> Path:
    """Return the boxes.json beside the store that a generator was fitted on."""
    plan = gan / "plan.json"
    if not plan.is_file():
        raise UsageError(f"{gan} does not say which store it was fitted on; name the boxes with --boxes")
    told = parse_json(plan)
    for store in _places(gan, Path(told["store"])):
        boxes = store.with_name("boxes.json")
        if boxes.is_file() and _is_store(store, told["store_hash"]):
            return boxes
    raise UsageError(
        f"{gan} was fitted on {Path(told['store']).name}, which does not stand with its boxes.json where it did; name "
        "the boxes with --boxes"
    )


def _places(gan: Path, store: Path) -> list[Path]:
    """Return where a generator's store may be: where it was as seen from the generator, or beside that.

    Older generators name their store by where it was on the disk: that may be the original of a copied project.
    """
    beside = gan.resolve().parent / store.name
    return [beside] if store.is_absolute() else [Path(os.path.normpath(gan.resolve() / store)), beside]


def _is_store(path: Path, digest: str) -> bool:
    try:
        return open_store(path).hash == digest
    except BadInput:
        return False


def synthesize(options: SynthesisOptions) -> Store | None:
    """Draw `n` images and publish their store; None while parts that others draw are missing.

    Image i depends on (seed, i), the generator and the boxes alone.
    """
    _check(options)
    generator, metadata = load_generator(options.gan, resolve_device(options.device))
    boxes_file = options.boxes or default_boxes(options.gan)
    spec = metadata.form.spec()
    boxes = read_boxes(boxes_file)
    choices = templates(boxes_file, boxes, spec, set(metadata.training_patients))
    patients = {digest_patient(image.patient) for image in boxes.images if image.patient and image.boxes}
    info = _info(options, metadata, boxes_file, patients)
    if options.num_parts > 1:
        claim = alone(options.out.with_name(f"{options.out.name}.part{options.part_id}"))
    else:
        claim = store_claimed(options.out, info.command, options.overwrite, [boxes_file, options.gan])
    with claim:
        return _made(options, generator, metadata, choices, info, boxes_file)


def _made(
    options: SynthesisOptions, generator: Any, metadata: GeneratorMetadata, choices: list[Template], info: StoreInfo,
    boxes_file: Path,
) -> Store | None:  # fmt: skip
    spec, resume = metadata.form.spec(), options.resume or options.num_parts > 1
    if finished := already_made(options.out, info, resume, options.overwrite):
        return finished
    plan = {"command": info.command, **info.settings, "seed": info.seed, "inputs": info.inputs}
    writer = StoreWriter(options.out, info, plan | {"generator": metadata.weights}, options.overwrite, resume)
    blocks = range(options.part_id, -(-options.n // BLOCK), options.num_parts)
    options.announce(
        f"{metadata.name} draws {options.n} images of {'x'.join(map(str, spec.spatial))} "
        f"for the boxes of {len(choices)} images in {boxes_file}, jitter {options.jitter:g}"
    )
    if small := specks(choices, spec):
        options.announce(
            f"{small} of {sum(len(t.boxes) for t in choices)} boxes are narrower than a pixel at the generator's size: "
            "such a lesion cannot be drawn"
        )
    for block in blocks:
        if not writer.has(block):
            writer.add(block, list(_draw(generator, metadata, choices, block, options)))
        options.report(min(BLOCK, options.n - block * BLOCK))
    return _publish(writer, -(-options.n // BLOCK))


def _check(options: SynthesisOptions) -> None:
    if options.n < 1:
        raise UsageError(f"--n {options.n}: at least one image must be asked for")
    if not 0 <= options.jitter < 1:
        raise UsageError(f"--jitter {options.jitter}: a share from 0 to 1 is wanted")
    if not 0 <= options.part_id < options.num_parts:
        raise UsageError(
            f"--part-id {options.part_id}: with --num-parts {options.num_parts} it is 0 to {options.num_parts - 1}"
        )
    if options.num_parts > 1 and options.overwrite:
        raise UsageError("--overwrite would throw away what the other parts have drawn; remove the old result first")


def _info(
    options: SynthesisOptions, metadata: GeneratorMetadata, boxes_file: Path, patients: Collection[str]
) -> StoreInfo:
    """Describe the store; the patients whose boxes are drawn for count as patients that it was made from."""
    origin = GeneratorOrigin(
        name=metadata.name,
        version=metadata.distribution_version,
        hash=metadata.weights,
        training_store=metadata.training_store,
        training_patients=sorted({*metadata.training_patients, *patients}),
    )
    return StoreInfo(
        tool_version=__version__,
        command="synthesize",
        settings={"n": options.n, "jitter": options.jitter},
        seed=options.seed,
        label_names=metadata.form.label_names,
        inputs={name_of(boxes_file): sha256_file(boxes_file)},
        generators=[origin],
    )


def _draw(
    generator: Any, metadata: GeneratorMetadata, choices: list[Template], block: int, options: SynthesisOptions
) -> Iterator[Record]:
    spec, seed = metadata.form.spec(), options.seed
    numbers = range(block * BLOCK, min(options.n, (block + 1) * BLOCK))
    chosen = [choose(choices, seed, i) for i in numbers]
    conditions = [condition_of(t, spec, options.jitter, seed, i) for t, i in zip(chosen, numbers, strict=True)]
    seeds = [image_seed(seed, i) for i in numbers]
    images = _in_batches(generator, metadata.name, conditions, seeds, options.batch)
    drawn = zip(numbers, chosen, conditions, seeds, images, strict=True)
    for i, template, condition, own_seed, image in drawn:
        yield _record(i, template, condition, own_seed, image, metadata)


def _in_batches(
    generator: Any, name: str, conditions: Sequence[Condition], seeds: Sequence[int], batch: int
) -> Iterator[np.ndarray | Drawn]:
    """Yield an image a condition; raise BadInput where a generator gives fewer, or more."""
    for start in range(0, len(seeds), batch):
        asked = conditions[start : start + batch]
        drawn = generator.sample(asked, seeds[start : start + batch])
        if not isinstance(drawn, Iterable):
            raise BadInput(f"the generator {name} drew no images, but a {type(drawn).__name__}")
        count = 0
        for count, image in enumerate(drawn, start=1):
            if count > len(asked):
                raise BadInput(f"the generator {name} drew more than {len(asked)} images for {len(asked)} conditions")
            yield image
        if count < len(asked):
            raise BadInput(f"the generator {name} drew {count} images for {len(asked)} conditions")


def _record(
    i: int,
    template: Template,
    condition: Condition,
    seed: int,
    image: np.ndarray | Drawn,
    metadata: GeneratorMetadata,
) -> Record:
    spec, drawn = metadata.form.spec(), as_drawn(image, condition)
    pixels = drawn.image
    if pixels.shape != (spec.channels, *spec.spatial) or not np.isfinite(pixels).all():
        raise BadInput(
            f"the generator {metadata.name} drew image {i} of shape {pixels.shape} or with values that are no numbers; "
            f"finite values of shape {(spec.channels, *spec.spatial)} are wanted"
        )
    kind = np.uint16 if metadata.form.bits == 16 else np.uint8
    return Record(
        id=f"s{i:07d}",
        image=np.rint(np.clip(pixels, 0, 1) * np.iinfo(kind).max).astype(kind),
        boxes=drawn.boxes,
        labels=[spec.label_names[label] for label in drawn.labels],
        patient=f"synthetic-{metadata.name}",
        split="train",
        source=metadata.name,
        seed=seed,
        mask=drawn.mask,
        spacing=template.spacing,
        details={"condition": template.id},
    )


def _publish(writer: StoreWriter, blocks: int) -> Store | None:
    writer.flush()
    with alone(writer.path, wait=True):  # one process at a time publishes
        if not writer.folder.exists():  # another part came last, and has published
            return open_store(writer.path)
        writer.refresh()
        return writer.publish() if all(writer.has(block) for block in range(blocks)) else None
