"""medaug's own readers of scans; nothing is believed before it is known to be whole."""

from medaug_plugins.readers.arrays import Npz
from medaug_plugins.readers.dicom import Dicom
from medaug_plugins.readers.metaimage import MetaImage
from medaug_plugins.readers.nifti import Nifti
from medaug_plugins.readers.nrrd import Nrrd
from medaug_plugins.readers.pictures import Pictures

__all__ = ["Dicom", "MetaImage", "Nifti", "Npz", "Nrrd", "Pictures"]
