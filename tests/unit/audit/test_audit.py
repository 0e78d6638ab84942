"""What an audit says of images with known faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest
from tests.unit.data.test_crops import cut
from tests.unit.data.test_look import encoded, lesion

import isograft
from isograft.data.manifest import Manifest
from isograft.errors import AuditFailed, IsograftError

Write = Callable[[Path, np.ndarray], Path]


@pytest.fixture
def lesions(tmp_path: Path) -> Path:
    """Two classes with 12 images each, all alike and all different."""
    for number in range(24):
        path = tmp_path / "lesions" / ("mel", "nv")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), lesion(number))
    return tmp_path / "lesions"


def manifest(folder: Path, out: Path, **columns: Any) -> Path:
    """A manifest of a folder with columns by the number in the file's name."""
    made = isograft.ingest([folder], out=out)
    numbers = made.frame["uri"].str.extract(r"(\d+)[^/]*$").cast(int)
    extra = [pl.Series(name, [value(number) for number in numbers], dtype=pl.String) for name, value in columns.items()]
    Manifest(made.frame.with_columns(extra), out).write(out)
    return out


def found(record: dict[str, Any], kind: str, level: str | None = None) -> list[dict[str, Any]]:
    return [one for one in record["findings"] if one["kind"] == kind and (level is None or one["level"] == level)]


def test_sound_images_have_nothing_but_notes(lesions: Path, tmp_path: Path) -> None:
    record = isograft.audit([lesions], cache_dir=tmp_path / "cache")
    assert [(one["kind"], one["level"]) for one in record["findings"]] == [("shortcut", "note"), ("classes", "note")]


def test_copies_with_another_label_are_a_conflict_and_without_one_a_warning(lesions: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(lesions / "nv" / "100.jpg"), encoded(cv2.rotate(lesion(4), cv2.ROTATE_180), 60))
    cv2.imwrite(str(lesions / "mel" / "101.png"), cut(lesion(6), 0.06, 1))
    record = isograft.audit([lesions], cache_dir=tmp_path / "cache")
    (copies,) = found(record, "duplicate", "warning")
    assert {(one["uri"][-6:], one["other_uri"][-7:]) for one in copies["images"]} == {("/4.png", "100.jpg"), ("01.png", "l/6.png")}
    (conflict,) = found(record, "conflict", "bad")
    assert conflict["count"] == 1 and {conflict["images"][0][name] for name in ("label", "other_label")} == {"mel", "nv"}


def test_a_patient_and_a_copy_on_both_sides_of_a_split_are_leaks(lesions: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(lesions / "mel" / "100.png"), lesion(8)[:, ::-1])
    data = manifest(
        lesions, tmp_path / "m.parquet", split=lambda number: "test" if number >= 20 else "train", group=lambda number: f"p{number % 22}"
    )
    record = isograft.audit([data])
    leaks = found(record, "leak", "bad")
    assert [one["count"] for one in leaks] == [1, 3]
    assert "1 picture stands in two different splits" in leaks[0]["sentence"]
    assert "3 of 22 groups (patients, lesions) have images in more than one split, 6 images in all" in leaks[1]["sentence"]


def test_images_and_patients_in_two_data_sets_are_leaks(lesions: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "mel"
    other.mkdir(parents=True)
    cv2.imwrite(str(other / "3.png"), cut(lesion(3), 0.05, 2))
    cv2.imwrite(str(other / "9.png"), lesion(9))
    cv2.imwrite(str(other / "500.png"), lesion(500))
    data = manifest(lesions, tmp_path / "m.parquet", group=lambda number: f"p{number}")
    theirs = manifest(tmp_path / "other", tmp_path / "n.parquet", group=lambda number: "p1" if number == 500 else f"q{number}")
    record = isograft.audit([data, theirs], out=tmp_path / "audit")
    copies, groups = found(record, "leak", "bad")
    assert (copies["count"], groups["count"]) == (2, 1) and copies["where"] == "m.parquet and n.parquet"
    assert {one["reason"] for one in copies["images"]} == {"same pixels", "near-duplicate"}
    assert found(record, "conflict", "bad")[0]["count"] == 2  # 3 and 9 are nevi, mel in the other folder
    assert json.loads((tmp_path / "audit" / "audit.json").read_text()) == json.loads(json.dumps(record, default=str))
    page = (tmp_path / "audit" / "audit.html").read_text()
    assert page.count("<img") >= 8 and "Spoils figures" in page and str(tmp_path) not in page


def test_folders_are_audited_without_a_path_of_the_machine_in_any_output(lesions: Path, tmp_path: Path) -> None:
    (lesions / "nv" / "bad.png").write_bytes(b"no image")
    cv2.imwrite(str(lesions / "nv" / "100.jpg"), encoded(lesion(4), 80))
    cv2.imwrite(str(lesions / "nv" / "101.png"), np.full((240, 240, 3), 128, np.uint8))
    isograft.audit([lesions], out=tmp_path / "audit", cache_dir=tmp_path / "cache")
    for name in ("audit.json", "audit.html"):
        text = (tmp_path / "audit" / name).read_text()
        assert "100.jpg" in text and "bad.png" in text and str(tmp_path) not in text


def test_data_of_which_nothing_can_be_used_are_told_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "bad.png").write_bytes(b"no image")
    record = isograft.audit([tmp_path / "data"], out=tmp_path / "audit", cache_dir=tmp_path / "cache")
    assert [(one["kind"], one["count"]) for one in record["findings"]] == [("corrupt", 1)]


def test_a_broken_file_and_one_that_changed_since_are_corrupt(lesions: Path, tmp_path: Path) -> None:
    (lesions / "nv" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    data = manifest(lesions, tmp_path / "m.parquet")
    cv2.imwrite(str(lesions / "nv" / "5.png"), lesion(99))
    (lesions / "nv" / "7.png").unlink()
    unreadable, changed = found(isograft.audit([data]), "corrupt", "bad")
    assert (unreadable["count"], changed["count"]) == (1, 2)
    assert "5.png is no longer the image it was" in changed["sentence"] and "7.png cannot be read any more" in changed["sentence"]


def test_unusual_images_and_blank_ones_are_told(lesions: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(lesions / "nv" / "100.png"), np.full((240, 240, 3), 128, np.uint8))
    cv2.imwrite(str(lesions / "nv" / "101.png"), (lesion(101) * 0.2).astype(np.uint8))
    kinds = {one["sentence"].split(";")[0]: one for one in found(isograft.audit([lesions], cache_dir=tmp_path / "c"), "unusual")}
    assert kinds["1 images are of one colour"]["images"] == [{"uri": "nv/100.png"}]
    assert kinds["1 images have an unusual brightness"]["images"][0]["uri"].endswith("101.png")


def test_a_class_too_small_to_test_is_a_warning(lesions: Path, tmp_path: Path) -> None:
    (lesions / "bcc").mkdir()
    cv2.imwrite(str(lesions / "bcc" / "100.png"), lesion(100))
    (told,) = found(isograft.audit([lesions], cache_dir=tmp_path / "cache"), "classes", "warning")
    assert "of bcc there are fewer than 10 images or 5 groups" in told["sentence"]


@pytest.mark.parametrize("kinds", ["conflict", "leak, conflict"])
def test_fail_on_ends_with_exit_code_3_after_the_report_is_written(lesions: Path, tmp_path: Path, kinds: str) -> None:
    cv2.imwrite(str(lesions / "nv" / "100.jpg"), encoded(lesion(4), 80))
    options: dict[str, Any] = {"cache_dir": tmp_path / "cache"}
    data = manifest(lesions, tmp_path / "m.parquet")
    with pytest.raises(AuditFailed, match="found what --fail-on names: conflict") as caught:
        isograft.audit([data], out=tmp_path / "audit", fail_on=kinds, **options)
    assert caught.value.exit_code == 3 and (tmp_path / "audit" / "audit.html").is_file()
    isograft.audit([data], fail_on="leak,corrupt", **options)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"fail_on": "leek"}, "--fail-on leek is nothing an audit finds; it finds leak, conflict"),
        ({"fail_on": " , "}, "--fail-on names nothing"),
        ({"data": ["a", "a"]}, "DATA names a twice"),
        ({"data": ["nowhere"]}, "nowhere does not exist"),
    ],
)
def test_bad_usage_is_one_clear_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(IsograftError, match=sentence):
        isograft.audit(**({"data": ["x"]} | options))


def test_an_output_folder_with_something_in_it_is_left_alone(lesions: Path, tmp_path: Path) -> None:
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "mine.txt").write_text("keep")
    with pytest.raises(IsograftError, match="already exists"):
        isograft.audit([lesions], out=tmp_path / "audit", cache_dir=tmp_path / "cache")


def test_two_manifests_of_one_name_are_told_apart(lesions: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        manifest(lesions, tmp_path / name / "m.parquet")
    record = isograft.audit([tmp_path / "a" / "m.parquet", tmp_path / "b" / "m.parquet"])
    assert [one["name"] for one in record["data"]] == ["a/m.parquet", "b/m.parquet"]
    assert found(record, "leak", "bad")[0]["count"] == 24


def test_copies_disagree_by_way_of_others_and_in_the_same_pixels_too(lesions: Path, tmp_path: Path) -> None:
    """The first of three identical images has neither label nor split; the other two differ in both."""
    for number in (100, 101):
        cv2.imwrite(str(lesions / "mel" / f"{number}.png"), lesion(4))
    data = tmp_path / "m.parquet"
    frame = isograft.ingest([lesions], out=data).frame
    names = frame["uri"].str.extract(r"(\d+)\.png$")
    label = pl.when(names == "4").then(None).when(names == "101").then(pl.lit("nv")).otherwise(pl.col("label"))
    split = pl.when(names == "4").then(None).when(names == "101").then(pl.lit("test")).otherwise(pl.lit("train"))
    Manifest(frame.with_columns(label=label, split=split), data).write(data)
    record = isograft.audit([data])
    assert [one["count"] for one in found(record, "conflict", "bad")] == [1] and [one["count"] for one in found(record, "leak", "bad")] == [
        1
    ]


def test_one_file_in_two_class_folders_is_a_conflict_and_no_error(lesions: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(lesions / "nv" / "100.png"), lesion(4))
    with pytest.raises(AuditFailed, match="conflict"):
        isograft.audit([lesions], cache_dir=tmp_path / "cache", fail_on="conflict")
    isograft.ingest([lesions], out=tmp_path / "m.parquet", allow_missing=True)
    (told,) = found(isograft.audit([tmp_path / "m.parquet"]), "conflict", "bad")
    assert told["count"] == 2 and "2 images lost their label at ingest" in told["sentence"]


def test_an_unusual_size_among_images_of_one_size_is_told(lesions: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(lesions / "nv" / "100.png"), lesion(100, side=700))
    (told,) = [one for one in found(isograft.audit([lesions], cache_dir=tmp_path / "c"), "unusual") if "size" in one["sentence"]]
    assert told["images"][0]["uri"] == "nv/100.png"


def test_no_group_is_named_in_any_output(lesions: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(lesions / "mel" / "100.png"), lesion(8)[:, ::-1])
    data = manifest(lesions, tmp_path / "m.parquet", group=lambda number: "Mr-Smith" if number in (8, 100) else f"Ms-{number}-Jones")
    isograft.audit([data], out=tmp_path / "audit")
    for name in ("audit.json", "audit.html"):
        assert "Smith" not in (tmp_path / "audit" / name).read_text() and "Jones" not in (tmp_path / "audit" / name).read_text()
