"""What a DICOM file says of itself, as far as telling series apart and ordering slices needs it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medaug_cli.plugin import BadInput

TAGS = (
    "SOPClassUID", "SOPInstanceUID", "PatientID", "PatientName", "PatientBirthDate", "SeriesInstanceUID",
    "SeriesNumber", "EchoNumbers", "AcquisitionNumber", "TemporalPositionIdentifier", "InstanceNumber", "ImageType",
    "Modality", "ImagePositionPatient", "ImageOrientationPatient", "NumberOfFrames", "PhotometricInterpretation",
    "PixelSpacing", "Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "SamplesPerPixel",
)  # fmt: skip
DIRECTORY = "1.2.840.10008.1.3.10"  # the table of contents of a disc
DERIVED = {"SEG", "RTSTRUCT", "RTDOSE", "RTPLAN", "PR", "SR", "KO", "DOC", "REG"}  # modalities that are no scan
SHORTEST = 4  # letters of a name that a path may share by chance


@dataclass(frozen=True)
class Slice:
    """One file: what its header says; None or () where it says nothing."""

    path: Path
    kind: str  # of object, in words
    image: bool
    patient: str
    identity: tuple[str, ...]  # words that tell who the patient is
    series: str
    number: int
    echo: str
    acquisition: str
    time: str
    localiser: bool
    frames: int
    meaning: str
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    form: tuple[Any, ...]  # rows, columns, bits and signs of the pixels

    @property
    def plane(self) -> tuple[float, ...]:
        """Return the direction cosines, rounded so that equal ones are equal; none where there are none."""
        return tuple(round(value, 3) + 0.0 for value in self.orientation)


def is_dicom(path: Path) -> bool:
    """Tell whether a file says that it is DICOM."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_header(path: Path) -> Slice | None:
    """Read a header, None for the table of contents of a disc; raise BadInput where it is damaged."""
    import pydicom

    try:
        with pydicom.config.disable_value_validation():
            found = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(TAGS))
            if found.file_meta.get("MediaStorageSOPClassUID") == DIRECTORY:
                return None
            return _slice(path, found)
    except Exception as error:  # whatever pydicom's parser raises on bytes that are no header
        raise BadInput(f"{path} cannot be read, it is truncated, damaged or no DICOM file") from error


def _slice(path: Path, found: Any) -> Slice:
    modality, rows = str(found.get("Modality", "")), found.get("Rows")
    kinds = [str(kind).upper() for kind in _several(found.get("ImageType"))]
    words = [str(found.get(name, "")) for name in ("PatientID", "PatientBirthDate", "PatientName")]
    form = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "SamplesPerPixel")
    kind = getattr(found.get("SOPClassUID"), "name", "") or "of an unknown kind"
    return Slice(
        path, str(kind), bool(rows) and modality not in DERIVED, str(found.get("PatientID", "")), _words(words),
        str(found.get("SeriesInstanceUID", "")), int(found.get("SeriesNumber") or 0),
        str(found.get("EchoNumbers", "")), str(found.get("AcquisitionNumber", "")),
        str(found.get("TemporalPositionIdentifier", "")), "LOCALIZER" in kinds,
        int(found.get("NumberOfFrames") or 1), str(found.get("PhotometricInterpretation", "")),
        _floats(found.get("ImagePositionPatient")), _floats(found.get("ImageOrientationPatient")),
        _floats(found.get("PixelSpacing")), tuple(found.get(name) for name in form),
    )  # fmt: skip


def _several(value: Any) -> list[Any]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def _floats(value: Any) -> tuple[float, ...]:
    return tuple(float(one) for one in _several(value))


def _words(texts: list[str]) -> tuple[str, ...]:
    """Return the words of names, numbers and dates that would give a patient away, in small letters."""
    words = {word for text in texts for word in re.split(r"[\W_]+", text.lower())} | {text.lower() for text in texts}
    return tuple(sorted(word for word in words if len(word) >= SHORTEST))
