from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from isograft.data import decode
from isograft.data.decode import decode_all
from isograft.data.ingest import ingest
from isograft.data.manifest import SCHEMA, Manifest
from isograft.data.readers import read_image
from isograft.errors import IsograftError
from isograft.settings import IngestSettings

Writer = Callable[[Path, np.ndarray], Path]


def run(out: Path, *sources: Path, **options: object) -> Manifest:
    manifest = ingest(IngestSettings.model_validate({"source": sources, "out": out, **options}))
    assert manifest.frame.equals(Manifest.read(out).frame)
    return manifest


def column(manifest: Manifest, name: str) -> dict[str, object]:
    return {path.name: value for path, value in zip(manifest.locate(), manifest.frame[name], strict=True)}


@pytest.fixture
def flat(tmp_path: Path, write_image: Writer) -> Path:
    for value in range(4):
        write_image(tmp_path / "flat" / f"{value}.png", np.full((6, 5, 3), 10 * value, np.uint8))
    return tmp_path / "flat"


def table(folder: Path, text: str) -> Path:
    (folder / "t.csv").write_text(text)
    return folder / "t.csv"


def test_a_class_tree_becomes_a_manifest(image_tree: Path, tmp_path: Path) -> None:
    manifest = run(tmp_path / "m.parquet", image_tree)
    assert manifest.frame.columns == list(SCHEMA)
    assert manifest.classes() == ["dark", "light"] and len(manifest) == 12
    row = manifest.frame.row(0, named=True)
    assert row["uri"] == "tree/dark/dark0.png" and row["id"] == row["pixel_hash"][:16]
    assert (row["width"], row["height"], row["channels"], row["bits"], row["status"], row["reason"]) == (40, 32, 3, 8, "ok", None)
    assert all(path.is_file() for path in manifest.locate())


def test_the_same_input_gives_the_same_bytes_for_any_number_of_threads(
    image_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "CHUNK", 5)
    for threads in (1, 3):
        run(tmp_path / f"{threads}.parquet", image_tree, threads=threads)
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "3.parquet").read_bytes()


def test_images_outside_the_manifests_folder_have_absolute_uris(image_tree: Path, tmp_path: Path) -> None:
    manifest = run(tmp_path / "elsewhere" / "m.parquet", image_tree)
    assert manifest.frame["uri"][0] == f"{image_tree}/dark/dark0.png"


def test_bad_files_are_rows_that_say_why_and_good_ones_go_on(flat: Path, tmp_path: Path) -> None:
    (flat / "empty.jpg").touch()
    (flat / "text.jpg").write_text("no image at all")
    cut = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (90, 90, 3), dtype=np.uint8))[1].tobytes()
    (flat / "cut.jpg").write_bytes(cut[: len(cut) // 2])
    cv2.imwrite(str(flat / "wide.png"), np.zeros((40, 60), np.uint8))
    (flat / "link.png").symlink_to("gone.png")
    manifest = run(tmp_path / "m.parquet", flat, max_megapixels=0.002)
    bad = {"empty.jpg": "empty", "text.jpg": "unsupported", "cut.jpg": "truncated", "wide.png": "too_large", "link.png": "corrupt"}
    good = {f"{n}.png": "ok" for n in range(4)}
    del bad["cut.jpg"]
    assert column(manifest, "status") == bad | good | {"cut.jpg": "too_large"}
    assert column(run(tmp_path / "m.parquet", flat), "status") == bad | good | {"cut.jpg": "truncated", "wide.png": "ok"}
    rows = manifest.frame.filter(manifest.frame["status"] != "ok")
    assert rows["reason"].null_count() == 0 and rows["id"].null_count() == rows["pixel_hash"].null_count() == rows.height


def test_labels_groups_and_further_columns_come_from_the_csv(flat: Path, tmp_path: Path) -> None:
    text = "image,dx,patient,clinic,age,width\n0,nv,p1,here,50,1\n1,mel,p1,here,51,2\n2,nv,,there,,3\n3,mel,p2,there,53,4\n"
    manifest = run(
        tmp_path / "m.parquet", flat, labels=table(tmp_path, text), label_column="dx", group_column="patient", source_column="clinic"
    )
    assert column(manifest, "label") == {"0.png": "nv", "1.png": "mel", "2.png": "nv", "3.png": "mel"}
    assert column(manifest, "group")["2.png"] is None and column(manifest, "source")["3.png"] == "there"
    assert column(manifest, "age") == {"0.png": 50, "1.png": 51, "2.png": None, "3.png": 53}
    assert column(manifest, "width")["3.png"] == 5 and column(manifest, "csv_width")["3.png"] == 4


def test_where_keeps_rows_of_the_csv_and_dropped_labels_leave_no_trace(flat: Path, tmp_path: Path) -> None:
    csv = table(tmp_path, "image,dx,dataset\n0,nv,a\n1,mel,a\n2,nv,b\n3,mel,b\n4,mel,b\n")
    manifest = run(tmp_path / "m.parquet", flat, labels=csv, label_column="dx", where="dataset != 'b'", drop_labels=True)
    assert set(column(manifest, "uri")) == {"0.png", "1.png"}
    assert manifest.classes() == [] and "dx" not in manifest.frame.columns
    with pytest.raises(IsograftError, match="holds for none"):
        run(tmp_path / "m.parquet", flat, labels=csv, where="dataset = 'c'", allow_missing=True)


def test_where_works_on_folders_too(image_tree: Path, tmp_path: Path) -> None:
    assert run(tmp_path / "m.parquet", image_tree, where="label = 'dark'").classes() == ["dark"]


def test_a_csv_that_does_not_match_is_an_error_with_names_unless_allowed(
    flat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    csv = table(tmp_path, "image,label\n0,a\n1,a\n1,a\n2,a\n2,b\n9,b\n")
    with pytest.raises(IsograftError) as caught:
        run(tmp_path / "m.parquet", flat, labels=csv)
    for words in (
        "1 CSV rows without a file: 9",
        "1 files without a CSV row: 3.png",
        "that repeat a file: 1, 2",
        "2.png (a, b)",
        "--allow-missing",
    ):
        assert words in str(caught.value)
    assert not (tmp_path / "m.parquet").exists()
    manifest = run(tmp_path / "m.parquet", flat, labels=csv, allow_missing=True)
    assert "1 CSV rows without a file: 9" in capsys.readouterr().err
    assert column(manifest, "label") == {"0.png": "a", "1.png": "a", "2.png": None, "3.png": None}


def test_identical_pixels_with_two_labels_are_an_error_unless_allowed(tmp_path: Path, write_image: Writer) -> None:
    same = np.full((5, 5, 3), 9, np.uint8)
    write_image(tmp_path / "t" / "a" / "1.png", same)
    write_image(tmp_path / "t" / "b" / "2.bmp", same)
    write_image(tmp_path / "t" / "b" / "3.png", same + 1)
    with pytest.raises(IsograftError, match=r"identical images with conflicting labels: t/a/1.png \(a\) = t/b/2.bmp \(b\)"):
        run(tmp_path / "m.parquet", tmp_path / "t")
    manifest = run(tmp_path / "m.parquet", tmp_path / "t", allow_missing=True)
    assert column(manifest, "label") == {"1.png": None, "2.bmp": None, "3.png": "b"}
    assert "identical pixels" in str(column(manifest, "reason")["1.png"]) and column(manifest, "reason")["3.png"] is None


def test_equal_names_in_different_folders_are_different_images(tmp_path: Path, write_image: Writer) -> None:
    for value, name in enumerate(("x/1.png", "y/1.png")):
        write_image(tmp_path / "t" / name, np.full((5, 5, 3), value, np.uint8))
    csv = table(tmp_path, "path,label\nx/1,a\ny/1,b\n")
    assert run(tmp_path / "m.parquet", tmp_path / "t", labels=csv).frame["label"].to_list() == ["a", "b"]


@pytest.mark.parametrize(("options", "words"), [({"out": "m.csv"}, "parquet"), ({"label_column": "dx"}, "--labels")])
def test_options_that_do_not_fit_are_refused(options: dict[str, object], words: str, flat: Path, tmp_path: Path) -> None:
    with pytest.raises(IsograftError, match=words):
        ingest(IngestSettings.model_validate({"source": (flat,), "out": tmp_path / "m.parquet", **options}))


def test_an_unexpected_failure_names_its_file_and_stops_the_threads(flat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: str, limit: int) -> object:
        if path.endswith("2.png"):
            raise RuntimeError("a defect")
        return read_image(path, limit)

    monkeypatch.setattr(decode, "read", broken)
    with pytest.raises(RuntimeError, match="a defect") as caught:
        decode_all(sorted(map(str, flat.iterdir())), 10**6, 2, lambda _: None)
    assert any("2.png" in note for note in caught.value.__notes__)


def test_progress_counts_every_file(flat: Path) -> None:
    done: list[int] = []
    decode_all(sorted(map(str, flat.iterdir())), 10**6, 3, done.append)
    assert sum(done) == 4
