"""DICOM in ingest: whose images they are, and that nobody is named anywhere."""

from __future__ import annotations

import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

pydicom = pytest.importorskip("pydicom")
from pydicom.dataset import Dataset  # noqa: E402

from isograft.data import dicom_identity  # noqa: E402
from isograft.data.address import Address  # noqa: E402
from isograft.data.containers import parts, read  # noqa: E402
from isograft.data.dicom import Frame, decode_dicom  # noqa: E402
from isograft.data.files import find_images, is_dicom  # noqa: E402
from isograft.data.headers import begins_like_dicom  # noqa: E402
from isograft.data.ingest import ingest  # noqa: E402
from isograft.data.manifest import Manifest  # noqa: E402
from isograft.data.readers import ReadError  # noqa: E402
from isograft.errors import IsograftError  # noqa: E402
from isograft.settings import IngestSettings  # noqa: E402

LIMIT = 4_000_000
HASHED = ["patient", "study", "series"]
PIXELS = np.arange(64, dtype=np.uint8).reshape(8, 8)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of our own: the key of a site lies there."""
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    dicom_identity._key.cache_clear()
    return tmp_path / "home"


def run(out: Path, *sources: Path, **options: object) -> Manifest:
    return ingest(IngestSettings.model_validate({"source": sources, "out": out, **options}))


def test_files_in_memory_are_read_as_files_on_the_disk_are(shipped: Path) -> None:
    read_well = 0
    for path in sorted(shipped.glob("*.dcm")):
        data, found, expected = path.read_bytes(), [], []
        assert begins_like_dicom(data) or status(lambda path=path: [read(Address(str(path)), LIMIT)]) == "unsupported"
        in_memory = status(lambda data=data, found=found: found.extend(decode_dicom(data, LIMIT, 256, 10 * LIMIT)))
        numbers = [part for part, _ in found] or [""]
        on_disk = status(lambda path=path, into=expected, numbers=numbers: into.extend(read(Address(str(path), n), LIMIT) for n in numbers))
        assert in_memory == on_disk, path.name
        for (_, ours), theirs in zip(found, expected, strict=True):
            assert ours.note == theirs.note and np.array_equal(ours.array, theirs.array), path.name
        read_well += in_memory == "ok"
    assert read_well > 30


def status(work: Callable[[], object]) -> str:
    try:
        work()
    except ReadError as error:
        return error.status
    return "ok"


def test_frames_and_windows_are_parts_and_come_back_from_their_text() -> None:
    for frame in (Frame(), Frame(3), Frame(None, "LUNG"), Frame(0, "A, B=c"), Frame(2, "-600/1500")):
        assert Frame.parse(str(frame)) == frame
    with pytest.raises(ReadError):
        Frame.parse("x=1,y=2")


def test_dicom_files_are_found_by_suffix_and_without_one_by_their_first_bytes(make_dicom: Callable[..., Dataset], tmp_path: Path) -> None:
    for name in ("a.dcm", "b.DICOM", "c.IMA", "noend", "1.2.840.5"):
        make_dicom(PIXELS, tmp_path / "d" / name)
    for name, text in (("README", "x" * 200), ("LICENSE", ""), ("a.txt", "DICM" * 90)):
        (tmp_path / "d" / name).write_text(text)
    listing = find_images([tmp_path / "d"])
    assert [image.relative for image in listing.images] == ["1.2.840.5", "a.dcm", "b.DICOM", "c.IMA", "noend"]
    assert not is_dicom("https://example.org/x") and not is_dicom(str(tmp_path / "gone"))


def test_a_series_becomes_one_group_and_frames_become_rows(make_dicom: Callable[..., Dataset], tmp_path: Path) -> None:
    for number in range(3):
        make_dicom(PIXELS + number, tmp_path / "d" / f"{number}.dcm", ImageLaterality="L")
    make_dicom(np.stack([PIXELS + 9, PIXELS + 10]), tmp_path / "d" / "film.dcm", PatientID="someone else")
    manifest = run(tmp_path / "m.parquet", tmp_path / "d")
    assert manifest.frame["uri"].to_list()[-2:] == ["d/film.dcm#frame=0", "d/film.dcm#frame=1"]
    assert manifest.frame["group"].n_unique() == 2 and (manifest.frame["group"] == manifest.frame["patient"]).all()
    assert manifest.frame["study"].n_unique() == 1 and manifest.frame["laterality"].to_list() == ["L"] * 3 + [None] * 2
    assert all(re.fullmatch("[0-9a-f]{16}", value) for name in HASHED for value in manifest.frame[name])
    for address, array in zip(manifest.addresses(), (PIXELS, PIXELS + 1, PIXELS + 2, PIXELS + 9, PIXELS + 10), strict=True):
        np.testing.assert_array_equal(read(address, 10**6).array, array)


def test_without_a_patient_the_study_is_the_group_then_the_series(make_dicom: Callable[..., Dataset], tmp_path: Path) -> None:
    settings = IngestSettings(source=(tmp_path,), out=tmp_path / "m.parquet")
    make_dicom(PIXELS, tmp_path / "a.dcm", PatientID="")
    make_dicom(PIXELS, tmp_path / "b.dcm", PatientID=None, StudyInstanceUID=None)
    make_dicom(PIXELS, tmp_path / "c.dcm", PatientID=" ", StudyInstanceUID=None, SeriesInstanceUID=None)
    a, b, c = (dict(parts(str(tmp_path / f"{name}.dcm"), settings)[0].columns) for name in "abc")
    assert a["group"] == a["study"] and a["patient"] is None and b["group"] == b["series"] and c["group"] is None


def test_the_users_own_groups_and_labels_count_more(make_dicom: Callable[..., Dataset], tmp_path: Path) -> None:
    make_dicom(PIXELS, tmp_path / "d" / "a.dcm")
    (tmp_path / "t.csv").write_text("path,label,group\na.dcm,benign,P7\n")
    row = run(tmp_path / "m.parquet", tmp_path / "d", labels=tmp_path / "t.csv").frame.row(0, named=True)
    assert (row["label"], row["group"]) == ("benign", "P7") and row["patient"] is not None


def test_a_site_has_one_secret_key_and_another_key_gives_other_hashes(
    make_dicom: Callable[..., Dataset], tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_dicom(PIXELS, tmp_path / "d" / "a.dcm")
    first = run(tmp_path / "m.parquet", tmp_path / "d").frame
    made = home / ".config" / "isograft" / "key"
    assert stat.S_IMODE(made.stat().st_mode) == 0o600 and len(made.read_text().strip()) == 64
    assert f"Made the key {made}" in capsys.readouterr().err
    assert run(tmp_path / "n.parquet", tmp_path / "d").frame.select(HASHED).equals(first.select(HASHED))
    assert "Made" not in capsys.readouterr().err
    (tmp_path / "key").write_text(made.read_text())
    assert run(tmp_path / "o.parquet", tmp_path / "d", hash_key=tmp_path / "key").frame.select(HASHED).equals(first.select(HASHED))
    (tmp_path / "other").write_text("another secret of a site")
    others = run(tmp_path / "p.parquet", tmp_path / "d", hash_key=tmp_path / "other").frame
    assert all(others[name][0] != first[name][0] for name in HASHED)


@pytest.mark.parametrize(("text", "words"), [(None, "cannot be read"), ("short", "16 are the least")])
def test_a_key_that_is_none_is_refused(text: str | None, words: str, make_dicom: Callable[..., Dataset], tmp_path: Path) -> None:
    make_dicom(PIXELS, tmp_path / "d" / "a.dcm")
    if text is not None:
        (tmp_path / "key").write_text(text)
    with pytest.raises(IsograftError, match=words):
        run(tmp_path / "m.parquet", tmp_path / "d", hash_key=tmp_path / "key")


def test_the_window_of_a_manifest_stands_in_its_uris(make_dicom: Callable[..., Dataset], tmp_path: Path) -> None:
    more = {"WindowCenter": [20, 40], "WindowWidth": [30, 10], "WindowCenterWidthExplanation": ["WIDE", "NARROW"]}
    make_dicom(PIXELS, tmp_path / "d" / "a.dcm", **more)
    make_dicom(PIXELS, tmp_path / "d" / "b.dcm")
    manifest = run(tmp_path / "m.parquet", tmp_path / "d", window="narrow")
    assert manifest.frame["uri"].to_list() == ["d/a.dcm#window=narrow", "d/b.dcm#window=narrow"]
    assert manifest.frame["status"].to_list() == ["ok", "unsupported"]
    with pytest.raises(IsograftError, match="1 is the least"):
        run(tmp_path / "m.parquet", tmp_path / "d", window="40/0.5")


def test_a_window_without_grey_dicom_images_is_an_error(shipped: Path, tmp_path: Path) -> None:
    with pytest.raises(IsograftError, match="--window LUNG is about grey DICOM images, but there are none"):
        run(tmp_path / "m.parquet", shipped / "SC_rgb_rle.dcm", window="LUNG")


def test_several_frames_without_a_number_are_refused(shipped: Path) -> None:
    with pytest.raises(ReadError, match="it holds 2 frames; ingest it"):
        read(shipped / "SC_rgb_rle_2frame.dcm", 10**6)
    with pytest.raises(ReadError, match="no frame 2"):
        read(Address(str(shipped / "SC_rgb_rle_2frame.dcm"), "frame=2"), 10**6)


def test_paths_that_name_patients_are_counted_and_never_become_labels(
    make_dicom: Callable[..., Dataset], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_dicom(PIXELS, tmp_path / "d" / "MRN-0081517" / "1.dcm")
    make_dicom(PIXELS + 1, tmp_path / "d" / "lovelace_scan" / "2.dcm", PatientID="x")
    make_dicom(PIXELS + 2, tmp_path / "d" / "benign" / "3.dcm")
    shutil.copy(tmp_path / "d" / "MRN-0081517" / "1.dcm", tmp_path / "d" / "MRN-0081517" / "report.dcm")
    broken = (tmp_path / "d" / "MRN-0081517" / "report.dcm").read_bytes()[:-10]
    (tmp_path / "d" / "MRN-0081517" / "report.dcm").write_bytes(broken)
    manifest = run(tmp_path / "m.parquet", tmp_path / "d")
    told = capsys.readouterr().err
    assert "the paths of 3 DICOM files hold an identifier" in told and "3 images have no label" in told
    assert manifest.frame["label"].to_list() == [None, None, "benign", None]
    assert "lovelace" not in told and not any("MRN" in line for line in told.splitlines() if "cannot be used" not in line)
    run(tmp_path / "d" / "MRN-0081517" / "m.parquet", tmp_path / "d" / "MRN-0081517")
    assert "the paths of" not in capsys.readouterr().err  # seen from there they name nobody
    assert Manifest.read(tmp_path / "d" / "MRN-0081517" / "m.parquet").frame["source"].null_count() == 2


IDENTIFYING = {"PN", "LO", "SH", "UI", "DA", "TM", "DT", "LT", "ST", "UT", "UC"}


def identifiers(path: Path) -> set[str]:
    """All that names somebody or something in a file, private elements too."""
    found: set[str] = set()
    try:
        image = pydicom.dcmread(path, force=True)
        elements = list(image.iterall()) + list(image.file_meta)
    except Exception:
        return found
    for element in elements:
        values = element.value if isinstance(element.value, list | pydicom.multival.MultiValue) else [element.value]
        if element.VR in IDENTIFYING:
            found.update(str(value).strip() for value in values)
            found.update(piece for value in values for piece in re.split(r"[\^=]", str(value)) if element.VR == "PN")
    return {value for value in found if len(value) > 3}


def test_no_identifier_of_any_file_is_in_any_output(shipped: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder, known = tmp_path / "d", set()
    folder.mkdir()
    files = sorted(path for path in shipped.rglob("*") if path.is_file() and is_dicom(str(path)) and "TINY_ALPHA" not in path.parts)
    for number, path in enumerate(files):
        shutil.copy(path, folder / f"{number}.dcm")
        (folder / f"{number}-cut.dcm").write_bytes(path.read_bytes()[: -(path.stat().st_size // 3)])
        known |= identifiers(path)
    assert len(known) > 300 and {"CompressedSamples", "1CT1"} <= known
    manifest = run(tmp_path / "m.parquet", folder, max_megapixels=1)
    assert manifest.frame.height > 180 and (manifest.frame["status"] == "ok").sum() > 80
    cells = {str(value) for column in pl.read_parquet(tmp_path / "m.parquet").iter_columns() for value in column.unique()}
    outputs = "\n".join([*cells, *capfd.readouterr()])
    known -= {"patient"}  # a word of ours
    assert sorted(value for value in known if re.search(rf"(?<![0-9A-Za-z]){re.escape(value)}(?![0-9A-Za-z])", outputs)) == []
