"""Pascal VOC's XML: whole pixels counted from 1, the last one inside the box; between pixels a fraction."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from medaug_cli.boxes import ImageBoxes
from medaug_cli.errors import BadInput
from medaug_cli.forms.annotations import Annotation
from medaug_cli.forms.coordinates import around, number, numbers
from medaug_cli.forms.form import File, Form, Known, Layout, Marks, label_of, place_of, refuse_deep
from medaug_cli.forms.policy import add_box
from medaug_cli.forms.xml import parse_xml, root_of

ENDS = ("xmin", "ymin", "xmax", "ymax")


def _sniff(file: File) -> bool:
    return root_of(file.path) == "annotation"


def _read(marks: Marks) -> dict[str, Annotation]:
    found = {}
    for file in marks.files:
        tree = parse_xml(file.path)
        item = Annotation(size=_size(tree), also=(tree.findtext("filename") or "").strip() or None)
        for n, thing in enumerate(tree.iter("object"), 1):
            place = f"{file.path}, object {n}"
            label = (thing.findtext("name") or "").strip()
            add_box(item, _box(place, thing), label, place, last_inside=True)
        found[marks.key(file)] = item
    return found


def _size(tree: Any) -> tuple[int, int] | None:
    """Return the width and height that the file claims, None where it claims none, or 0 as some tools write."""
    try:
        width, height = (int(float(tree.findtext(f"size/{side}") or 0)) for side in ("width", "height"))
    except ValueError:
        return None
    return (width, height) if width > 0 and height > 0 else None


def _box(place: str, thing: Any) -> tuple[float, ...]:
    """Return the corners of an object: of its bndbox, else of its polygon."""
    polygon = thing.find("polygon")
    if thing.find("bndbox") is not None or polygon is None:
        return numbers(place, [thing.findtext(f"bndbox/{name}") for name in ENDS], 4)
    texts = [(polygon.findtext(f"x{k}"), polygon.findtext(f"y{k}")) for k in range(1, len(polygon) // 2 + 1)]
    texts = texts if texts and texts[0][0] else [(pt.findtext("x"), pt.findtext("y")) for pt in polygon.iter("pt")]
    if not texts:
        raise BadInput(f"{place}: neither a bndbox nor the points of a polygon say where it is")
    return around([numbers(place, pair, 2) for pair in texts])


def voc(image: ImageBoxes) -> str:
    """Return the XML of one image."""
    refuse_deep([image], "voc")
    things = "".join(
        f"  <object>\n    <name>{escape(label_of(image, item))}</name>\n    <bndbox>"
        f"<xmin>{number(item.box[0] + 1)}</xmin><ymin>{number(item.box[1] + 1)}</ymin>"
        f"<xmax>{number(item.box[2])}</xmax><ymax>{number(item.box[3])}</ymax></bndbox>\n  </object>\n"
        for item in image.boxes
    )
    size = f"<width>{image.width}</width><height>{image.height}</height>"
    file = escape(Path(image.file or image.id).name)
    return f"<annotation>\n  <filename>{file}</filename>\n  <size>{size}</size>\n{things}</annotation>\n"


def _write_boxes(images: Sequence[ImageBoxes], names: Sequence[str], target: Path) -> None:
    """Write an .xml file by the name of each picture."""
    for image in images:
        place_of(image, target, ".xml").write_text(voc(image), encoding="utf-8")


def _write_layout(images: Sequence[ImageBoxes], names: Sequence[str], folder: Path, known: Mapping[str, Known]) -> None:
    """Annotations/ID.xml beside JPEGImages/ (PNG for all its name), and ImageSets/Main/SPLIT.txt."""
    (folder / "Annotations").mkdir()
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    for image in images:
        (folder / "Annotations" / f"{image.id}.xml").write_text(voc(image), encoding="utf-8")
    for split in {image.split for image in images}:
        own = "".join(f"{image.id}\n" for image in images if image.split == split)
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text(own, encoding="utf-8")


FORM = Form(
    name="voc",
    title="a folder of Pascal VOC .xml files",
    sniff=_sniff,
    read=_read,
    write_boxes=_write_boxes,
    layout=Layout(lambda image: f"JPEGImages/{image.id}", _write_layout, patients=False),
)
