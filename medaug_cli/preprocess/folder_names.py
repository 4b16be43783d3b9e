"""What the words in a folder's name say: that it holds files, shows a part or a view, or is of a kind."""

import re

# Folders of public data sets that sort files by what they are or show, never by whose they are.
_FILES = """
image images img imgs scan scans slice slices picture pictures photo photos data dataset raw original originals
input inputs all files png jpg jpeg bmp tif tiff dicom dicoms dcm nifti nii volumes imagestr imagests imagesval
train training val valid validation test testing trainval holdout external internal
class classes category label labels mask masks patients subjects
"""
_MODALITIES = """
axial coronal sagittal t1 t1w t1c t1ce t2 t2w flair dwi adc mri mr ct xray mammo mammograms ultrasound us
"""
_PARTS = "brain breast lung liver kidney prostate chest head"
_KINDS = """
mass masses yes no not non none with without and or of
positive negative pos neg true false benign malignant normal normals abnormal abnormals healthy control controls
sick diseased case cases disease pathology cancer cancers cancerous tumor tumors tumour tumours
notumor notumour lesion lesions nodule nodules glioma gliomas glioblastoma meningioma meningiomas pituitary adenoma
metastasis metastases hgg lgg stroke hemorrhage haemorrhage ischemia ischaemia pneumonia covid tuberculosis
"""
NUMBERED = frozenset({"images", "batch", "part", "fold", "chunk", "subset"})  # images_001 holds many patients
FILES = frozenset(_FILES.split()) | NUMBERED
MODALITIES = FILES | frozenset(_MODALITIES.split())
VIEWS = MODALITIES | frozenset(_PARTS.split())
SORTS = VIEWS | frozenset(_KINDS.split())


def sorts(folder: str, words: frozenset[str] = SORTS) -> bool:
    """Tell whether a folder's name is made of these words alone; of those for files, views and kinds by default."""
    found = re.findall(r"[^\W\d_]+|\d+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", folder))
    letters = [word.casefold() for word in found if not word.isdigit()]
    if len(letters) < len(found) and letters[:1] not in ([name] for name in NUMBERED | {"t"}):
        return False
    return bool(letters) and (plain(folder) in words or all(word in words for word in letters))


def is_kind(folder: str) -> bool:
    """Tell whether a folder's name is made of known words, at least one of which is for a kind, such as benign."""
    return sorts(folder) and not sorts(folder, VIEWS)


def is_modality(folder: str) -> bool:
    """Tell whether a folder's name is made of words for modalities and planes, such as T1 or axial images."""
    return sorts(folder, MODALITIES) and not sorts(folder, FILES)


def plain(name: str) -> str:
    """Return a name in small letters and digits alone."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())
