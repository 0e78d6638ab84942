"""DICOM files for tests: those shipped with pydicom, and small ones made on the spot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def shipped() -> Path:
    """The folder of DICOM files shipped with pydicom."""
    data = pytest.importorskip("pydicom.data", reason="reading DICOM needs the extra dicom")
    return Path(data.__file__).parent / "test_files"


@pytest.fixture
def make_dicom(shipped: Path) -> Callable[..., object]:
    """A function that makes a DICOM data set of pixels (H, W), (H, W, 3) or (frames, H, W), and writes it where a path is given."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    def make(
        pixels: np.ndarray, path: Path | None = None, photometric: str = "MONOCHROME2", stored: int | None = None, **more: object
    ) -> Dataset:
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = SecondaryCaptureImageStorage
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = "1.2.826.0.1.97"
        image.set_pixel_data(pixels, photometric, stored or 8 * pixels.itemsize, generate_instance_uid=False)
        image.PatientID, image.PatientName = "MRN-0081517", "Lovelace^Augusta"
        image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.826.0.1.99", "1.2.826.0.1.98"
        for name, value in more.items():
            if value is None:
                delattr(image, name)
            else:
                setattr(image, name, value)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save_as(path, enforce_file_format=True)
        return image

    return make
