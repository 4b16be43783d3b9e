"""Draw a synthetic store from a trained generator, block by block."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from medaug_cli import __version__
from medaug_cli.answers import drawn_by
from medaug_cli.boxes import with_patients
from medaug_cli.conditions import Template, condition_of, specks, templates
from medaug_cli.devices import resolve_device
from medaug_cli.errors import BadInput, BrokenContract, UsageError
from medaug_cli.files import name_of, parse_json, sha256_file
from medaug_cli.forms.reading import read_boxes_json
from medaug_cli.locks import alone
from medaug_cli.pasting import Blending, Hosts, NoRoom
from medaug_cli.plugin import Condition, Drawn, ImageSpec, Known, image_seed, knowledge
from medaug_cli.runs import ByClass, GeneratorMetadata, load_generator
from medaug_cli.runs.advice import of_generator
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
from medaug_cli.store.folds import Fold
from medaug_cli.synthesis.into import block_of, hosted, hosts_in, region_of, words
from medaug_cli.synthesis.like import Templates, drawable, left_out, like
from medaug_cli.weights import card_of, generator_folder
from medaug_cli.words import counted

BLOCK = 128  # images that are finished together
WAYS = "name the boxes with --boxes, or a store to draw images like with --like"
ATTEMPTS = 4  # to put lesions into an image; others are drawn where there is no room for some


@dataclass(frozen=True)
class SynthesisOptions:
    """What `medaug synthesize` takes."""

    n: int | None  # None: as many as `classes` ask for
    gan: str | Path  # its folder, or the name of installed weights
    out: Path
    boxes: Path | None = None
    like: Path | None = None  # a store whose training images are the templates, in place of boxes
    boxed: bool = False  # those with boxes alone, as in a boxes.json
    fold: Fold | None = None  # whose training images those are, in place of the store's own
    classes: Mapping[str, int] = field(default_factory=dict)  # images of each class, in place of the store's shares
    into: Path | None = None  # a store of whole images that lesions are put into
    lesions: int = 1  # that are put into an image
    blending: Blending = "poisson"
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
    advise: Callable[[str], None] = lambda sentence: None  # hears what a person may want to change

    def templates_store(self) -> Store:
        """Open the store whose training images are the templates."""
        assert self.like is not None
        store = open_store(self.like)
        return store if self.fold is None else self.fold.of(store)


def default_boxes(gan: Path) -> Path:
    """Return the boxes.json beside the store that a generator was fitted on."""
    plan = gan / "plan.json"
    if not plan.is_file():
        raise UsageError(f"{gan} does not say which store it was fitted on; {WAYS}")
    told = parse_json(plan)
    if fold := told.get("fold"):
        raise UsageError(
            f"{gan} was fitted in fold {fold}; draw images like those of its training patients, by "
            f"--like {Path(told['store']).name} --fold {fold}"
        )
    there = [store for store in _places(gan, Path(told["store"])) if _is_store(store, told["store_hash"])]
    boxes = [store.with_name("boxes.json") for store in there if store.with_name("boxes.json").is_file()]
    if boxes:
        return boxes[0]
    lacking = "has no boxes.json beside it" if there else "is no longer where it was"
    raise UsageError(f"{gan} was fitted on {Path(told['store']).name}, which {lacking}; {WAYS}")


def _places(gan: Path, store: Path) -> list[Path]:
    """Return where a generator's store may be: where it was relative to the generator, or beside the generator.

    Older generators name their store by where it was on the disk: that may be the original of a copied project.
    """
    beside = gan.resolve().parent / store.name
    return [beside] if store.is_absolute() else [Path(os.path.normpath(gan.resolve() / store)), beside]


def _is_store(path: Path, digest: str) -> bool:
    try:
        return open_store(path).hash == digest
    except BadInput:
        return False


@dataclass(frozen=True)
class Work:
    """All that a run of `synthesize` draws from."""

    options: SynthesisOptions
    n: int
    folder: Path  # of the generator
    generator: Any
    metadata: GeneratorMetadata
    known: frozenset[Known]
    templates: Templates
    source: Path  # the boxes.json or the store of the templates
    info: StoreInfo
    renamed: tuple[str, ...] = ()  # labels that are asked for, where the generator knows one by another name
    hosts: Hosts | None = None

    @property
    def block(self) -> int:
        """Return how many images are finished together."""
        return BLOCK if self.hosts is None else block_of(self.hosts.store, BLOCK)

    @property
    def draws(self) -> int:
        """Return how many times the generator draws for one image."""
        return 1 if self.hosts is None else self.options.lesions

    @property
    def mirrors(self) -> bool:
        """Tell whether boxes may be mirrored: not for a generator that learnt from no mirror image."""
        return bool(self.metadata.settings.get("flip", True))

    @property
    def spec(self) -> ImageSpec:
        """Return the form of the images."""
        return self.metadata.form.spec()

    def summary(self) -> dict[str, Any]:
        """Return what is drawn, as plain values for JSON."""
        knows = [name for name in get_args(Known) if name in self.known]
        return {
            "store": str(self.options.out), "images": self.n, "generator": self.metadata.name, "knows": knows,
            "templates": len({template.id for template in self.templates.every}), "classes": dict(self.options.classes),
        }  # fmt: skip


def prepare(options: SynthesisOptions) -> Work:
    """Load the generator and the templates; raise UsageError or BadInput where nothing can be drawn as it is asked."""
    n = _check(options)
    folder = generator_folder(options.gan)
    generator, metadata = load_generator(folder, resolve_device(options.device))
    spec = metadata.form.spec()
    known = knowledge(generator, spec)
    if options.like is not None:
        store = options.templates_store()
        chosen = like(store, n, classes=options.classes, spec=spec, known=known, draws=metadata.draws)
        if options.boxed:
            chosen = _boxed(chosen, options.like)
        ids = {template.id for template in chosen.every}
        used = [i for i in range(len(store)) if store.ids[i] in ids]
        patients = {store.patients[i] for i in used}
        source, digest = options.like, store.hash
        asked = {store.spec.label_names[label] for i in used for label in store.labels[i]}
    else:
        source = options.boxes or default_boxes(folder)
        boxes = read_boxes_json(source)
        chosen = Templates([(n, templates(source, boxes, spec, set(metadata.training_patients)))])
        if isinstance(generator, ByClass):
            chosen = Templates([(n, drawable(generator, source, chosen.every))])
        patients = {image.patient for image in boxes.images if image.patient and image.boxes}
        digest = sha256_file(source)
        asked = {box.label for image in boxes.images for box in image.boxes if box.label}
    info = _info(options, n, metadata=metadata, known=known, inputs={name_of(source): digest}, patients=patients)
    for fact in [] if card_of(folder) else of_generator(metadata):  # a card says what weights are worth
        options.advise(fact)
    work = Work(
        options,
        n,
        folder,
        generator=generator,
        metadata=metadata,
        known=known,
        templates=chosen,
        source=source,
        info=info,
        renamed=tuple(sorted(asked - set(spec.label_names))) if {"boxes", "labels"} & known else (),
    )
    return work if options.into is None else _with_hosts(work, options.into)


def _boxed(templates: Templates, source: Path) -> Templates:
    """Return the templates that have a box; raise BadInput where there is none."""
    groups = [(n, [one for one in group if len(one.boxes)]) for n, group in templates.groups]
    if not all(group for _, group in groups):
        raise BadInput(f"{source} has no image with a lesion to draw one like")
    return Templates(groups)


def _with_hosts(work: Work, into: Path) -> Work:
    """Return what draws only lesions, to be put into the images of a store."""
    options, info = work.options, work.info
    hosts = hosts_in(into, options.blending, work.metadata.name, work.spec, work.known)
    (origin,), spec = info.generators, hosts.store.info
    seen = with_patients(origin.training_patients, hosts.patients)
    info = info.model_copy(
        update={
            "settings": info.settings | {"lesions": options.lesions, "blending": options.blending},
            "inputs": info.inputs | {_free_name(info.inputs, into, hosts.store.hash): hosts.store.hash},
            "generators": [origin.model_copy(update={"training_patients": seen})],
            "label_names": spec.label_names,
            "class_names": spec.class_names,
            "mask_names": spec.mask_names,
        }
    )
    return replace(work, info=info, hosts=hosts, templates=_boxed(work.templates, work.source))


def _free_name(inputs: Mapping[str, str], path: Path, digest: str) -> str:
    """Return what to call a file among inputs: by its own name, unless another file has that."""
    name = name_of(path)
    return name if inputs.get(name, digest) == digest else f"{name} (--into)"


def images_of_part(n: int, part: int, parts: int) -> int:
    """Return how many of `n` images one of several parts draws: whole blocks, dealt in turn."""
    return sum(min(BLOCK, n - start) for start in range(part * BLOCK, n, parts * BLOCK))


def rehearse(options: SynthesisOptions) -> dict[str, Any]:
    """Say what `synthesize` would draw, and return it as plain values for JSON; nothing is drawn."""
    work = prepare(options)
    _announce(work)
    return work.summary()


def synthesize(options: SynthesisOptions) -> Store | None:
    """Draw images and publish their store; None while parts that others draw are missing.

    Image i depends only on (seed, i), the generator, and the boxes or the store to be like.
    """
    work = prepare(options)
    if options.num_parts > 1:
        claim = alone(options.out.with_name(f"{options.out.name}.part{options.part_id}"))
    else:
        reads = [work.source, work.folder] + ([] if options.into is None else [options.into])
        claim = store_claimed(options.out, work.info.command, options.overwrite, reads)
    with claim:
        return _made(work)


def _made(work: Work) -> Store | None:
    options, info = work.options, work.info
    resume = options.resume or options.num_parts > 1
    if finished := already_made(options.out, info, resume, options.overwrite):
        return finished
    plan = {"command": info.command, **info.settings, "seed": info.seed, "inputs": info.inputs}
    writer = StoreWriter(options.out, info, plan | {"generator": work.metadata.weights}, options.overwrite, resume)
    size = work.block
    blocks = range(options.part_id, -(-work.n // size), options.num_parts)
    _announce(work)
    try:
        for block in blocks:
            if not writer.has(block):
                writer.add(block, list(_draw(work, block)))
            options.report(min(size, work.n - block * size))
        writer.flush()
    except Exception:
        if options.num_parts == 1:  # else others may be at work
            writer.discard(keep_finished=True)
        raise
    return _publish(writer, -(-work.n // size))


def _announce(work: Work) -> None:
    """Say what is drawn, and what of the templates cannot be."""
    options, choices = work.options, work.templates.every
    if card := card_of(work.folder):
        seen = counted(len(work.metadata.training_patients), "patient")
        options.announce(f"{options.gan} draws {card.draws}; it has seen {seen}, and so has what learns from these")
    size = "x".join(map(str, work.spec.spatial))
    what = "image" if work.hosts is None else "region"
    sentence = f"{work.metadata.name} draws {counted(work.n * work.draws, what)} of {size} "
    if options.like is None:
        sentence += f"for the boxes of {counted(len(choices), 'image')} in {work.source}"
    else:
        asked = ", ".join(f"{count} {name}" for name, count in options.classes.items())
        templates = counted(len({template.id for template in choices}), "training image")
        sentence += f"like {templates} of {work.source}{asked and f': {asked}'}"
    options.announce(f"{sentence}, jitter {options.jitter:g}")
    if work.renamed:
        (own,) = work.spec.label_names
        options.announce(
            f"the generator knows lesions as {own}, and {', '.join(work.renamed)} "
            f"{'are' if len(work.renamed) > 1 else 'is'} drawn and called so; networks learn from them beside scans of "
            f"preprocess --label {own}"
        )
    whole = options.like is not None and work.hosts is None  # what is put into images gets what these have
    for line in [] if not whole else left_out(options.templates_store(), work.known):
        options.announce(line)
    for line in [] if work.hosts is None else words(work.hosts, work.known, choices):
        options.announce(line)
    if "boxes" in work.known and (small := specks(choices, work.spec)):
        options.announce(
            f"{small} of {sum(len(t.boxes) for t in choices)} boxes are narrower than a pixel at the generator's size: "
            "such a lesion cannot be drawn"
        )


def _check(options: SynthesisOptions) -> int:
    """Return how many images are asked for; raise UsageError where options do not go together."""
    if options.like is not None and options.boxes is not None:
        raise UsageError("--like and --boxes exclude each other; give one of them")
    if options.into is None and (options.lesions != 1 or options.blending != "poisson"):
        raise UsageError("--lesions and --blending need --into")
    if options.into is not None and options.classes:
        raise UsageError("--class asks for whole images of a class; --into pastes lesions into existing images")
    if options.lesions < 1:
        raise UsageError(f"--lesions {options.lesions}: at least one must be put into an image")
    if options.classes and options.like is None:
        raise UsageError("--class needs --like, a store with images of these classes")
    n = sum(options.classes.values()) if options.n is None or options.classes else options.n
    if options.classes and options.n not in (None, n):
        raise UsageError(f"--n {options.n}: --class asks for {n} images in all; leave --n out")
    if n < 1 or any(count < 1 for count in options.classes.values()):
        raise UsageError("--n, or --class NAME=N, must ask for at least one image")
    if not 0 <= options.jitter < 1:
        raise UsageError(f"--jitter {options.jitter}: expected a share from 0 to 1")
    if not 0 <= options.part_id < options.num_parts:
        raise UsageError(
            f"--part-id {options.part_id}: with --num-parts {options.num_parts} it is 0 to {options.num_parts - 1}"
        )
    if options.num_parts > 1 and options.overwrite:
        raise UsageError("--overwrite would throw away what the other parts have drawn; remove the old result first")
    return n


def _info(
    options: SynthesisOptions, n: int, metadata: GeneratorMetadata, known: Collection[Known], inputs: dict[str, str],
    patients: Collection[str],
) -> StoreInfo:  # fmt: skip
    """Describe the store; the patients whose boxes are drawn for count as patients that it was made from."""
    origin = GeneratorOrigin(
        name=metadata.name,
        version=metadata.distribution_version,
        hash=metadata.weights,
        training_store=metadata.training_store,
        training_patients=with_patients(metadata.training_patients, patients),
    )
    return StoreInfo(
        tool_version=__version__,
        command="synthesize",
        settings={"n": n, "jitter": options.jitter}
        | ({"classes": dict(options.classes)} if options.classes else {})
        | ({"boxed": True} if options.boxed else {}),
        seed=options.seed,
        label_names=metadata.form.label_names,
        inputs=inputs,
        generators=[origin],
        class_names=metadata.form.class_names if "class" in known else [],
        mask_names=metadata.form.mask_names if "mask" in known else [],
    )


def _draw(work: Work, block: int) -> Iterator[Record]:
    """Yield the images of a block."""
    images = range(block * work.block, min(work.n, (block + 1) * work.block))
    drawn = _drawn(work, range(images.start * work.draws, images.stop * work.draws))
    if work.hosts is None:
        for i, (template, seed, shown) in zip(images, drawn, strict=True):
            yield _record(i, template, shown, seed, work)
        return
    regions = list(drawn)
    for place, i in enumerate(images):
        yield _with_lesions(work, work.hosts, i, regions[place * work.draws : (place + 1) * work.draws])


def _drawn(work: Work, numbers: Sequence[int]) -> Iterator[tuple[Template, int, Drawn]]:
    """Yield what is drawn for each number, the template that it is drawn like, and its seed."""
    options, seed = work.options, work.options.seed
    chosen = [work.templates.of(i, seed) for i in numbers]
    conditions = [
        condition_of(template, work.spec, options.jitter, seed, i, mirror=work.mirrors)
        for template, i in zip(chosen, numbers, strict=True)
    ]
    seeds = [image_seed(seed, i) for i in numbers]
    images = _in_batches(work.generator, work.metadata.name, conditions, seeds, options.batch)
    for i, template, own_seed, condition, image in zip(numbers, chosen, seeds, conditions, images, strict=True):
        yield template, own_seed, _shown(i, condition, image, work)


def _with_lesions(work: Work, hosts: Hosts, i: int, drawn: Sequence[tuple[Template, int, Drawn]]) -> Record:
    """Return image i with the lesions of drawn regions; of others where there is no room for these."""
    seed = drawn[0][1]
    for attempt in range(1, ATTEMPTS + 1):
        regions = [region_of(shown, template, hosts, work.spec) for template, _, shown in drawn]
        try:
            record = hosted(hosts, regions, [template.id for template, _, _ in drawn], work.options.seed, i)
            return _named(record, i, seed, work)
        except NoRoom as error:
            if attempt == ATTEMPTS:
                raise
            work.options.announce(f"image {i}: {error}; another is drawn")
        again = (work.n * attempt + i) * work.draws
        drawn = list(_drawn(work, range(again, again + work.draws)))
    raise AssertionError


def _in_batches(
    generator: Any, name: str, conditions: Sequence[Condition], seeds: Sequence[int], batch: int
) -> Iterator[np.ndarray | Drawn]:
    """Yield an image per condition; raise BadInput where a generator gives fewer, or more."""
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


def _shown(i: int, condition: Condition, image: np.ndarray | Drawn, work: Work) -> Drawn:
    """Return a drawn image with what is known of it; raise BrokenContract where it does not have the asked form."""
    try:
        return drawn_by(work.metadata.name, image, condition, work.spec, work.known)
    except BrokenContract as error:
        raise BrokenContract(f"{error} (image {i})") from error


def _record(i: int, template: Template, drawn: Drawn, seed: int, work: Work) -> Record:
    spec = work.spec
    kind = np.uint16 if work.metadata.form.bits == 16 else np.uint8
    record = Record(
        id="",
        image=np.rint(np.clip(drawn.image, 0, 1) * np.iinfo(kind).max).astype(kind),
        boxes=drawn.boxes,
        labels=[spec.label_names[label] for label in drawn.labels],
        patient="",
        split="train",
        mask=drawn.mask,
        spacing=template.spacing,
        image_class=spec.class_names[drawn.image_class] if drawn.image_class >= 0 else None,
        details={"condition": template.id},
    )
    return _named(record, i, seed, work)


def _named(record: Record, i: int, seed: int, work: Work) -> Record:
    name = work.metadata.name
    return replace(
        record, id=f"s{i:07d}", patient=f"synthetic-{name}", split="train", source=name, seed=seed, annotated=True
    )


def _publish(writer: StoreWriter, blocks: int) -> Store | None:
    with alone(writer.path, wait=True):  # one process at a time publishes
        if not writer.folder.exists():  # another part came last, and has published
            return open_store(writer.path)
        writer.refresh()
        return writer.publish() if all(writer.has(block) for block in range(blocks)) else None
