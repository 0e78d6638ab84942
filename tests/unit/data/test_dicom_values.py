from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
from pydicom.dataset import Dataset  # noqa: E402
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut  # noqa: E402
from pydicom.sequence import Sequence  # noqa: E402

from isograft.data.address import Address  # noqa: E402
from isograft.data.containers import read  # noqa: E402
from isograft.data.readers import Pixels, ReadError, to_rgb8  # noqa: E402

LIMIT = 10_000_000
GREY = ["693_J2KI", "examples_overlay", "J2K_pixelrep_mismatch", "MR_small", "MR_small_RLE", "MR_small_bigendian", "MR_small_expb"]
GREY += ["MR_small_implicit", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless", "MR_small_padded"]
COLOUR = ["ExplVR_BigEnd", "GDCMJ2K_TextGBR", "SC_rgb_dcmtk_+eb+cr", "SC_rgb_dcmtk_+eb+cy+np", "SC_rgb_gdcm_KY", "SC_rgb_jls_lossy_line"]
COLOUR += ["SC_rgb_jpeg_app14_dcmd", "SC_rgb_jpeg_dcmtk", "SC_rgb_jpeg_gdcm", "SC_rgb_jpeg_lossy_gdcm", "SC_rgb_rle", "SC_rgb_small_odd"]
COLOUR += [
    "SC_rgb_small_odd_big_endian",
    "SC_ybr_full_422_uncompressed",
    "examples_jpeg2k",
    "examples_rgb_color",
    "SC_rgb_jls_lossy_sample",
]


def seen(image: Dataset, path: Path, part: str = "") -> Pixels:
    image.save_as(path, enforce_file_format=True)
    return read(Address(str(path), part), LIMIT)


def reason(image: Dataset, path: Path, part: str = "") -> str:
    with pytest.raises(ReadError) as caught:
        seen(image, path, part)
    return caught.value.reason


def ramp(bits: int = 12, signed: bool = False) -> np.ndarray:
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return np.linspace(low, high, 64 * 64).round().astype(np.int16 if signed else np.uint16).reshape(64, 64)


def by_pydicom(image: Dataset) -> np.ndarray:
    """pydicom's own pipeline, its output range mapped to 0 to 255."""
    shown = apply_voi_lut(apply_modality_lut(image.pixel_array, image), image)
    slope, intercept = float(image.get("RescaleSlope", 1)), float(image.get("RescaleIntercept", 0))
    signed, bits = image.PixelRepresentation, image.BitsStored
    low, high = (np.array([-(1 << bits - 1), (1 << bits - 1) - 1] if signed else [0, (1 << bits) - 1])) * slope + intercept
    grey = np.rint((shown - low) / (high - low) * 255)
    return 255 - grey if image.PhotometricInterpretation == "MONOCHROME1" else grey


@pytest.mark.parametrize("name", GREY)
def test_grey_images_match_pydicoms_pipeline(name: str, shipped: Path) -> None:
    pixels = read(shipped / f"{name}.dcm", LIMIT)
    assert pixels.array.dtype == np.uint8 and pixels.array.flags.c_contiguous
    assert np.abs(pixels.array - by_pydicom(pydicom.dcmread(shipped / f"{name}.dcm"))).max() <= 1
    np.testing.assert_array_equal(to_rgb8(pixels.array)[..., 0], pixels.array)


@pytest.mark.parametrize("name", COLOUR)
def test_colour_images_are_rgb_as_pydicom_decodes_them(name: str, shipped: Path) -> None:
    array = read(shipped / f"{name}.dcm", LIMIT).array.astype(int)
    expected = pydicom.dcmread(shipped / f"{name}.dcm").pixel_array
    assert array.shape == expected.shape and np.abs(array - expected).max() <= 2  # JPEG decoders differ by their rounding


def test_monochrome1_is_inverted_and_says_so(shipped: Path) -> None:
    path = shipped / "dicomdirtests" / "77654033" / "CR1" / "6154"
    pixels = read(path, LIMIT)
    assert np.abs(pixels.array - by_pydicom(pydicom.dcmread(path))).max() <= 1
    assert pixels.note == "rescaled by 0.684 and +200; window 1600/2800, 1 of 1; inverted (MONOCHROME1)"


def test_a_palette_is_expanded(shipped: Path) -> None:
    image = pydicom.dcmread(shipped / "examples_palette.dcm")
    expected = apply_color_lut(image.pixel_array, image) >> 8
    np.testing.assert_array_equal(read(shipped / "examples_palette.dcm", LIMIT).array, expected)


def test_a_segmented_palette_is_expanded_and_one_that_repeats_itself_is_refused(make_dicom: Callable[..., Dataset], tmp_path: Path) -> None:
    image = make_dicom(np.arange(256, dtype=np.uint8).reshape(16, 16))
    image.PhotometricInterpretation = "PALETTE COLOR"
    words = np.array([0, 2, 0, 257, 1, 254, 65535], np.uint16)  # two entries, then a ramp of 254
    for colour in ("Red", "Green", "Blue"):
        setattr(image, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(image, f"Segmented{colour}PaletteColorLookupTableData", words.tobytes())
    array = seen(image, tmp_path / "a.dcm").array
    np.testing.assert_array_equal(array[..., 0], apply_color_lut(image.pixel_array, image)[..., 0] >> 8)
    image.SegmentedRedPaletteColorLookupTableData = np.array([0, 1, 5, 2, 65535, 0, 0, 0], np.uint16).tobytes()
    assert "segments that repeat" in reason(image, tmp_path / "b.dcm")


@pytest.mark.parametrize("name", ["JPGExtended", "JPEG-lossy"])
def test_a_jpeg_of_12_bits_has_the_values_other_decoders_find(name: str, shipped: Path) -> None:
    array = read(shipped / f"{name}.dcm", LIMIT).array
    assert (array[420, 140], array[230, 120]) == (round(244 * 255 / 4095), round(95 * 255 / 4095))


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [9, 12, 16])
def test_every_window_function_matches_pydicom_at_every_value(
    function: str, signed: bool, bits: int, make_dicom: Callable[..., Dataset], tmp_path: Path
) -> None:
    image = make_dicom(ramp(bits, signed), stored=bits, RescaleSlope=1.5, RescaleIntercept=-100, WindowCenter=150.5, WindowWidth=300)
    image.VOILUTFunction = function
    assert np.abs(seen(image, tmp_path / "a.dcm").array - by_pydicom(image)).max() <= 1


def test_without_a_window_the_full_range_of_the_bits_stored_is_shown(make_dicom: Callable[..., Dataset], tmp_path: Path) -> None:
    pixels = seen(make_dicom(ramp(12) // 4, stored=12), tmp_path / "a.dcm")
    np.testing.assert_array_equal(pixels.array, np.rint((ramp(12) // 4) / 4095 * 255))
    assert pixels.note == "no window: full range of 12 bits, 25% of it used"
    signed = seen(make_dicom(ramp(12, signed=True), stored=12), tmp_path / "b.dcm").array
    assert signed.min() == 0 and signed.max() == 255 and (np.diff(signed.reshape(-1).astype(int)) >= 0).all()


def test_windows_are_chosen_by_name_whatever_its_case_or_by_numbers(make_dicom: Callable[..., Dataset], tmp_path: Path) -> None:
    image = make_dicom(ramp(), stored=12, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=[40, -600], WindowWidth=[400, 1500])
    image.WindowCenterWidthExplanation = ["SOFT TISSUE", "LUNG"]
    first, lung = seen(image, tmp_path / "a.dcm"), read(Address(str(tmp_path / "a.dcm"), "window=lung"), LIMIT)
    numbers = read(Address(str(tmp_path / "a.dcm"), "window=-600/1500"), LIMIT)
    assert "window 40/400, 1 of 2" in first.note and "window -600/1500, 2 of 2" in lung.note
    assert not np.array_equal(first.array, lung.array) and np.array_equal(numbers.array, lung.array)
    assert reason(image, tmp_path / "a.dcm", "window=BONE") == "it has no window called BONE; it names 2 others"


def lut(name: str, entries: list[int], first: int, bits: int) -> Sequence:
    item = Dataset()
    item.add_new(0x00283002, "SS" if first < 0 else "US", [len(entries), first, bits])
    item.add_new(0x00283006, "US", entries)
    if name:
        item.LUTExplanation = name
    return Sequence([item])


def test_look_up_tables_are_applied_and_hold_their_ends(make_dicom: Callable[..., Dataset], tmp_path: Path) -> None:
    values = np.array([[0, 5, 10], [11, 12, 4095]], np.uint16)
    image = make_dicom(values, stored=12, ModalityLUTSequence=lut("", [0, 100, 255], 10, 8))
    np.testing.assert_array_equal(seen(image, tmp_path / "a.dcm").array, [[0, 0, 0], [100, 255, 255]])
    wide = [(4095 - v) >> 4 for v in range(4096)]  # 8-bit entries at 12-bit places, where pydicom's index overflows
    image = make_dicom(values, stored=12, VOILUTSequence=lut("", wide, 0, 8), WindowCenter=1, WindowWidth=2)
    pixels = seen(image, tmp_path / "b.dcm")
    np.testing.assert_array_equal(pixels.array, np.array(wide, np.uint8)[values])
    assert pixels.note == "VOI LUT 1 of 1"


def test_bits_above_those_stored_do_not_count(make_dicom: Callable[..., Dataset], tmp_path: Path) -> None:
    image = make_dicom(ramp(12), stored=12)
    clean = seen(image, tmp_path / "a.dcm").array
    image.PixelData = (ramp(12) | 0xF000).astype(np.uint16).tobytes()  # an overlay in the unused bits
    np.testing.assert_array_equal(seen(image, tmp_path / "b.dcm").array, clean)


def test_a_frames_own_window_counts_more_than_the_files(make_dicom: Callable[..., Dataset], tmp_path: Path) -> None:
    image = make_dicom(np.stack([ramp(), ramp()]), stored=12, WindowCenter=2000, WindowWidth=4000)
    frames = []
    for center in (100, 3000):
        voi, frame = Dataset(), Dataset()
        voi.WindowCenter, voi.WindowWidth = center, 50
        frame.FrameVOILUTSequence = Sequence([voi])
        frames.append(frame)
    image.PerFrameFunctionalGroupsSequence = Sequence(frames)
    notes = [seen(image, tmp_path / "a.dcm", f"frame={number}").note for number in (0, 1)]
    assert notes == ["window 100/50, 1 of 1", "window 3000/50, 1 of 1"]


def test_what_cannot_be_shown_rightly_is_refused(make_dicom: Callable[..., Dataset], tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    assert "0 wide" in reason(make_dicom(ramp(), stored=12, WindowCenter=1, WindowWidth=0), path)
    assert "to the same one" in reason(make_dicom(ramp(), stored=12, RescaleSlope=0, RescaleIntercept=1), path)
    assert "lowest bits" in reason(make_dicom(ramp(), stored=12, HighBit=15), path)
    assert "samples of 32 bits" in reason(make_dicom(ramp(), stored=12, BitsAllocated=32), path)
    assert "photometric" in reason(make_dicom(ramp(), stored=12, PhotometricInterpretation="HSV"), path)


def test_sixteen_bit_colours_are_shown_in_eight(shipped: Path) -> None:
    array = read(Address(str(shipped / "SC_rgb_rle_16bit_2frame.dcm"), "frame=1"), LIMIT).array
    expected = pydicom.dcmread(shipped / "SC_rgb_rle_16bit_2frame.dcm").pixel_array[1]
    np.testing.assert_array_equal(array, np.rint(expected / 257))


def test_a_warning_of_burned_in_names_is_passed_on(make_dicom: Callable[..., Dataset], tmp_path: Path) -> None:
    assert "burned into it" in seen(make_dicom(ramp(), stored=12, BurnedInAnnotation="YES"), tmp_path / "a.dcm").note
