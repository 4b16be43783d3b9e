"""The annotation formats that are known, in the order in which a file is tried."""

from pathlib import Path

from medaug_cli.errors import UsageError
from medaug_cli.forms import (
    boxes_json,
    coco,
    cvat,
    dicom_sr,
    label_studio,
    labelme,
    masks,
    monai,
    table,
    via,
    voc,
    yolo,
)
from medaug_cli.forms.form import Form

FORMS = (
    boxes_json.FORM, coco.FORM, yolo.FORM, voc.FORM, table.FORM, monai.FORM, labelme.FORM, via.FORM, cvat.FORM,
    label_studio.FORM, dicom_sr.FORM, masks.FORM,
)  # fmt: skip
READ = f"{', '.join(form.title for form in FORMS[:-1])}, or {FORMS[-1].title}"
BOXES = {form.name: form for form in sorted(FORMS, key=lambda form: form.name) if form.write_boxes}
DETECTIONS = {form.name: form for form in FORMS if form.write_detections}
LAYOUTS = {form.name: form.layout for form in FORMS if form.layout}


def form_of(name: str, forms: dict[str, Form], option: str) -> Form:
    """Return the form of a name; raise UsageError that names the option and the choices."""
    if name not in forms:
        raise UsageError(f"{option} {name}: the choices are {', '.join(forms)}")
    return forms[name]


def target_of(form: Form, stem: Path) -> Path:
    """Return where a form writes: the file `stem` with its suffix, or the folder `stem`."""
    return stem.with_name(f"{stem.name}{form.suffix}")
