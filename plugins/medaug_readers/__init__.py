"""medaug's own readers of scans; nothing is believed before it is known to be whole."""

from medaug_readers.dicom import Dicom
from medaug_readers.metaimage import MetaImage
from medaug_readers.nifti import Nifti
from medaug_readers.nrrd import Nrrd
from medaug_readers.pictures import Pictures

__all__ = ["Dicom", "MetaImage", "Nifti", "Nrrd", "Pictures"]
