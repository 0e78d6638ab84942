from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
from isograft.data import dicom_helper  # noqa: E402
from isograft.data.containers import read  # noqa: E402
from isograft.data.dicom_helper import Helper, HelperError, decode  # noqa: E402
from isograft.data.readers import ReadError  # noqa: E402

OPTIONS = {"rows": 4, "columns": 4, "samples_per_pixel": 1, "bits_allocated": 8, "bits_stored": 8, "pixel_representation": 0}
OPTIONS |= {"photometric_interpretation": "MONOCHROME2", "planar_configuration": 0, "number_of_frames": 1, "pixel_keyword": "PixelData"}


def rle(row: bytes) -> bytes:
    """An RLE image with one segment."""
    return (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + b"\0" * 56 + row


def test_an_image_is_decoded_and_a_broken_one_is_an_error_that_leaves_the_helper_working() -> None:
    for _ in range(2):
        array = decode(pydicom.uid.RLELossless, "pylibjpeg", rle(bytes([241, 7])), OPTIONS)
        np.testing.assert_array_equal(array, np.full((4, 4), 7, np.uint8))
        with pytest.raises(HelperError):
            decode(pydicom.uid.RLELossless, "pylibjpeg", rle(b"\x7f"), OPTIONS)


def test_an_image_that_ends_its_helper_is_corrupt_and_the_next_one_gets_a_new_helper(
    shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(dicom_helper, "_START", "import sys, os; sys.stdin.buffer.read(100); os.abort()")
        patch.setattr(dicom_helper, "_any_helper", Helper)
        with pytest.raises(ReadError, match=r"JPEG-LS.*cannot be decoded"):
            read(shipped / "MR_small_jpeg_ls_lossless.dcm", 10**6)
    assert read(shipped / "MR_small_jpeg_ls_lossless.dcm", 10**6).array.shape == (64, 64)


def test_an_image_that_takes_too_long_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_helper, "_START", "import time; time.sleep(60)")
    monkeypatch.setattr(dicom_helper, "SECONDS", 0.2)
    with pytest.raises(HelperError):
        Helper().ask(b"[]", b"")


def test_helpers_of_a_process_that_forked_are_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    helper = dicom_helper._any_helper()
    dicom_helper._idle.put(helper)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    other = dicom_helper._any_helper()
    assert other is not helper
    other.close()
    helper.close()
