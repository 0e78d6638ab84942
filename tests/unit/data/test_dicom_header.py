"""What broken and hostile DICOM files do: a `ReadError` that quotes nothing, quickly, and nothing else."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pydicom = pytest.importorskip("pydicom")
from pydicom.data import get_testdata_file  # noqa: E402
from pydicom.dataset import Dataset  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless  # noqa: E402

from isograft.data.containers import parts, read  # noqa: E402
from isograft.data.dicom_header import read_header  # noqa: E402
from isograft.data.dicom_pixels import stored_pixels  # noqa: E402
from isograft.data.dicom_values import VALUE_TAGS, shown  # noqa: E402
from isograft.data.headers import codestream  # noqa: E402
from isograft.data.readers import ReadError, read_bytes  # noqa: E402
from isograft.settings import IngestSettings  # noqa: E402

LIMIT = 10_000_000
FUZZED = [
    "CT_small.dcm",
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "examples_palette.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "693_J2KI.dcm",
]
FUZZED += ["image_dfl.dcm", "liver_1frame.dcm", "rtplan.dcm", "SC_rgb_rle_2frame.dcm"]


def through(data: bytes) -> None:
    """Read all of a file that may be anything."""
    began = time.monotonic()
    try:
        header = read_header(data, VALUE_TAGS)
        if header.rows * header.columns <= LIMIT:
            shown(stored_pixels(data, header, header.frames - 1), header, header.frames - 1, None)
    except ReadError as error:
        assert error.reason and not any(name in error.reason for name in ("CompressedSamples", "1CT1", "1.3.6.1.4.1.5962"))
    assert time.monotonic() - began < 5


def shipped_bytes(name: str) -> bytes:
    path = get_testdata_file(name, download=False)
    assert path is not None
    return Path(str(path)).read_bytes()


@given(st.binary(max_size=600))
@settings(max_examples=300)
def test_random_bytes_behind_a_preamble_are_refused(tail: bytes) -> None:
    for start in (b"\0" * 128 + b"DICM", b"\x08\0", b"\0\x08", b""):
        with pytest.raises(ReadError):
            read_header(start + tail, VALUE_TAGS)


@given(st.sampled_from(FUZZED), st.data())
@settings(max_examples=150)
def test_broken_bytes_give_a_reason_or_an_image(name: str, data: st.DataObject) -> None:
    whole = bytearray(shipped_bytes(name))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, min(len(whole), 3000) - 1))] = data.draw(st.integers(0, 255))
    through(bytes(whole))


@pytest.mark.parametrize("name", FUZZED)
def test_a_file_cut_off_anywhere_is_never_an_image(name: str) -> None:
    whole = shipped_bytes(name)
    lost = 300 if name == "CT_small.dcm" else 40  # which has padding behind its pixels
    for keep in np.linspace(0, len(whole) - lost, 40).astype(int):
        with pytest.raises(ReadError):
            header = read_header(whole[:keep], VALUE_TAGS)
            shown(stored_pixels(whole[:keep], header, header.frames - 1), header, header.frames - 1, None)


def test_a_cut_file_says_so(shipped: Path) -> None:
    for name in ("MR_truncated.dcm", "rtplan_truncated.dcm"):
        with pytest.raises(ReadError) as caught:
            read(shipped / name, LIMIT)
        assert caught.value.status == "truncated"


@pytest.mark.parametrize("name", ["test-SR.dcm", "rtplan.dcm", "rtstruct.dcm", "waveform_ecg.dcm", "dicomdirtests/DICOMDIR"])
def test_files_without_pixels_are_unsupported(name: str, shipped: Path) -> None:
    with pytest.raises(ReadError, match="it holds no pixels") as caught:
        read(shipped / name, LIMIT)
    assert caught.value.status == "unsupported"


@pytest.mark.parametrize(
    ("element", "value", "status"),
    [("Rows", 65535, "corrupt"), ("Columns", 0, "corrupt"), ("NumberOfFrames", 10**9, "too_large"), ("NumberOfFrames", -3, "corrupt"),
     ("NumberOfFrames", 500, "corrupt"), ("BitsStored", 40, "corrupt"), ("SamplesPerPixel", 3, "corrupt"),
     ("BitsAllocated", 7, "unsupported")],
)  # fmt: skip
def test_hostile_sizes_are_refused_before_anything_is_allocated(
    element: str, value: int, status: str, make_dicom: Callable[..., Dataset], tmp_path: Path
) -> None:
    make_dicom(np.zeros((4, 4), np.uint16), tmp_path / "a.dcm", **{element: value})
    began = time.monotonic()
    with pytest.raises(ReadError) as caught:
        read_header(read_bytes(tmp_path / "a.dcm"))
    assert caught.value.status == status and time.monotonic() - began < 1


def test_a_deflated_bomb_is_inflated_no_further_than_its_image(make_dicom: Callable[..., Dataset], tmp_path: Path) -> None:
    image = make_dicom(np.zeros((4, 4), np.uint16), tmp_path / "a.dcm")
    plain = (tmp_path / "a.dcm").read_bytes()
    image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    image.save_as(tmp_path / "b.dcm", enforce_file_format=True)
    good = (tmp_path / "b.dcm").read_bytes()
    meta = 144 + struct.unpack("<I", good[140:144])[0]
    body = zlib.decompressobj(-zlib.MAX_WBITS).decompress(good[meta:])
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = good[:meta] + b"".join([packer.compress(body), *(packer.compress(b"\0" * (1 << 20)) for _ in range(64)), packer.flush()])
    (tmp_path / "b.dcm").write_bytes(bomb)
    assert len(bomb) < 100_000 and plain
    assert read(tmp_path / "b.dcm", LIMIT).array.shape == (4, 4)


def test_a_compressed_image_must_have_the_size_its_header_states(shipped: Path, tmp_path: Path) -> None:
    image = pydicom.dcmread(shipped / "JPEG2000.dcm")
    image.Rows, image.Columns = 16, 16
    image.save_as(tmp_path / "a.dcm")
    with pytest.raises(ReadError, match="compressed image is 256 x 1024 x 1, but its header states 16 x 16 x 1"):
        read(tmp_path / "a.dcm", LIMIT)


def test_too_large_images_are_refused_by_their_header(shipped: Path) -> None:
    with pytest.raises(ReadError, match="more than the limit") as caught:
        read(shipped / "693_J2KI.dcm", 1000)
    assert caught.value.status == "too_large"


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEG2000Lossless, RLELossless])
def test_compressed_pixels_that_are_none_are_corrupt(syntax: str, make_dicom: Callable[..., Dataset], tmp_path: Path) -> None:
    image = make_dicom(np.zeros((4, 4), np.uint8))
    image.file_meta.TransferSyntaxUID = syntax
    image.PixelData = encapsulate([b"\xff\xd8 nonsense that goes on for a while \xff\xd9"])
    image["PixelData"].is_undefined_length = True
    image.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(ReadError) as caught:
        read(tmp_path / "a.dcm", LIMIT)
    assert caught.value.status == "corrupt"


def test_frames_are_decoded_one_at_a_time(make_dicom: Callable[..., Dataset], tmp_path: Path) -> None:
    frames = np.arange(5, dtype=np.uint8)[:, None, None] * np.ones((5, 6, 7), np.uint8)
    make_dicom(frames, tmp_path / "a.dcm")
    held = parts(str(tmp_path / "a.dcm"), IngestSettings(source=(tmp_path,), out=tmp_path / "m.parquet", hash_key=key(tmp_path)))
    assert [one.part for one in held] == [f"frame={number}" for number in range(5)]
    header = read_header(read_bytes(tmp_path / "a.dcm"))
    assert [int(stored_pixels(read_bytes(tmp_path / "a.dcm"), header, number).max()) for number in range(5)] == [0, 1, 2, 3, 4]


def key(folder: Path) -> Path:
    (folder / "key").write_text("0123456789abcdef" * 2)
    return folder / "key"


@given(st.binary(max_size=80))
def test_codestream_headers_of_anything_are_read_or_refused(tail: bytes) -> None:
    from isograft.data.headers import HeaderError

    for start in (b"\xff\xd8", b"\xff\xd8\xff\xf7", b"\xff\x4f\xff\x51", b""):
        try:
            codestream(start + tail)
        except HeaderError as error:
            assert str(error)
