"""What a DICOM file says of itself, as far as telling series apart and ordering slices needs it."""

import re
import warnings
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
DERIVED = {"SEG", "RTSTRUCT", "RTDOSE", "RTPLAN", "PR", "SR", "KO", "DOC", "REG"}  # modalities that are not scans
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
SLICED = {"CT", "MR", "PT", "NM"}  # modalities whose single pictures are slices of a volume
PROJECTED = {"CR", "DX", "MG", "IO", "PX", "RG", "RF", "XA", "US", "ES", "GM", "OP", "XC", "SM"}  # those that are whole
SHORTEST = 4  # letters of a name that a path may share by chance
LETTERS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
LONGEST = 1 << 16  # bytes of a first element


@dataclass(frozen=True)
class Slice:
    """One file: what its header says; None or () where it says nothing."""

    path: Path
    kind: str  # of object, in words
    instance: str  # a number that no other file has
    modality: str
    image: bool
    patient: str
    identity: tuple[str, ...]  # words that tell who the patient is
    series: str
    number: int
    echo: str
    acquisition: str
    time: str
    localiser: bool
    mosaic: bool
    frames: int
    meaning: str
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    form: tuple[Any, ...]  # rows, columns, bits and signs of the pixels

    @property
    def picture(self) -> bool:
        """Tell whether it is a picture of its own, as a radiograph is, rather than a slice of a volume."""
        placed = bool(self.position or self.orientation)
        return self.modality in PROJECTED or not (placed or self.modality in SLICED)

    @property
    def is_segmentation(self) -> bool:
        """Tell whether it is a mask of other images."""
        return self.modality == "SEG" or self.kind.startswith("Segmentation")

    @property
    def unusable(self) -> str:
        """Return what it is, where that is neither a slice nor a picture."""
        if self.is_segmentation:
            return "a DICOM segmentation (SEG; give it with --masks)"
        if self.modality == "SR" and self.kind != "Basic Text SR Storage":
            return f"a DICOM structured report ({self.kind}; give it with --boxes if it marks lesions)"
        if not self.image:
            return f"no picture ({self.kind})"
        if self.mosaic:
            return "a mosaic, which shows all slices of a volume in one picture; convert it to NIfTI, as dcm2niix does"
        return "a localiser" if self.localiser else ""


def is_dicom(path: Path) -> bool:
    """Tell whether a file says that it is DICOM, or begins as one whose preamble or meta information was taken away."""
    try:
        with path.open("rb") as file:
            begun = file.read(132)
    except OSError:
        return False
    return begun[128:] == b"DICM" or _begins_at_once(begun)


def _begins_at_once(begun: bytes) -> bool:
    """Tell whether a file begins with an element of the meta information (2) or of the identification (8)."""
    if len(begun) < 132 or begun[:2] not in (b"\2\0", b"\x08\0") or begun[3]:
        return False
    explicit = begun[4] in LETTERS and begun[5] in LETTERS
    length = int.from_bytes(begun[4:8], "little")
    return explicit or (length % 2 == 0 and length < LONGEST)


def read_header(path: Path) -> Slice | None:
    """Read a header, None for the table of contents of a disc; raise BadInput where it is damaged."""
    import pydicom

    try:
        with pydicom.config.disable_value_validation(), warnings.catch_warnings(action="ignore"):
            found = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(TAGS), force=True)
            meta = getattr(found, "file_meta", None) or {}
            if meta.get("MediaStorageSOPClassUID") == DIRECTORY:
                return None
            if "SOPClassUID" not in found and "Rows" not in found:
                raise BadInput(f"{path} cannot be read, it is truncated, damaged or no DICOM file")
            return _slice(path, found)
    except OSError as error:
        reason = "it is a broken link" if path.is_symlink() and not path.exists() else error.strerror
        raise BadInput(f"{path} cannot be read ({reason})") from error
    except Exception as error:  # whatever pydicom's parser raises on bytes that are not a header
        raise BadInput(f"{path} cannot be read, it is truncated, damaged or no DICOM file") from error


def _slice(path: Path, found: Any) -> Slice:
    modality, rows = str(found.get("Modality", "")), found.get("Rows")
    kinds = [str(kind).upper() for kind in _several(found.get("ImageType"))]
    words = [str(found.get(name, "")) for name in ("PatientID", "PatientBirthDate", "PatientName")]
    form = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "SamplesPerPixel")
    sort = found.get("SOPClassUID")
    return Slice(
        path=path,
        kind="Segmentation Storage" if sort == SEGMENTATION else str(getattr(sort, "name", "") or "of an unknown kind"),
        instance=str(found.get("SOPInstanceUID", "")),
        modality=modality,
        image=bool(rows) and modality not in DERIVED,
        patient=str(found.get("PatientID") or ""),
        identity=_words(words),
        series=str(found.get("SeriesInstanceUID", "")),
        number=int(found.get("SeriesNumber") or 0),
        echo=str(found.get("EchoNumbers", "")),
        acquisition=str(found.get("AcquisitionNumber", "")),
        time=str(found.get("TemporalPositionIdentifier", "")),
        localiser="LOCALIZER" in kinds,
        mosaic="MOSAIC" in kinds,
        frames=int(found.get("NumberOfFrames") or 1),
        meaning=str(found.get("PhotometricInterpretation", "")),
        position=_floats(found.get("ImagePositionPatient")),
        orientation=_floats(found.get("ImageOrientationPatient")),
        spacing=_floats(found.get("PixelSpacing")),
        form=tuple(found.get(name) for name in form),
    )


def _several(value: Any) -> list[Any]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def _floats(value: Any) -> tuple[float, ...]:
    return tuple(float(one) for one in _several(value))


def _words(texts: list[str]) -> tuple[str, ...]:
    """Return the words of names, numbers and dates that would give a patient away, in small letters."""
    words = {word for text in texts for word in re.split(r"[\W_]+", text.lower())} | {text.lower() for text in texts}
    return tuple(sorted(word for word in words if len(word) >= SHORTEST))
