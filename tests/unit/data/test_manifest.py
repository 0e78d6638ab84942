from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isograft.data.address import Address
from isograft.data.manifest import SCHEMA, Manifest, absolute_uri, arrange, decode_uri, encode_uri
from isograft.data.places import describe_place
from isograft.errors import IsograftError


def manifest(**columns: list) -> Manifest:
    size = len(next(iter(columns.values()))) if columns else 3
    base = {
        "uri": [f"{n}.png" for n in range(size)],
        "pixel_hash": [f"{n:064x}" for n in range(size)],
        "id": [f"{n:016x}" for n in range(size)],
        "status": ["ok"] * size,
    }
    return Manifest(arrange(pl.DataFrame(base | columns)))


def test_columns_have_a_fixed_order_and_type_and_further_ones_follow() -> None:
    frame = manifest(age=[1, 2, 3], label=["a", "b", None]).frame
    assert frame.columns == [*SCHEMA, "age"]
    assert [frame.schema[name] for name in SCHEMA] == list(SCHEMA.values())


def test_a_manifest_written_and_read_is_the_same(tmp_path: Path) -> None:
    whole = manifest(label=["a", None, "b"], age=[1.5, 2.5, None], perceptual_hash=[2**64 - 1, 0, 1])
    Manifest(whole.frame, tmp_path / "m.parquet").write(tmp_path / "m.parquet")
    assert Manifest.read(tmp_path / "m.parquet").frame.equals(whole.frame)


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Manifest(manifest().frame, tmp_path / "x").write(tmp_path / f"{name}.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "b.parquet"]


def test_relative_uris_move_with_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "0.png").touch()
    first = Manifest(manifest(uri=["0.png"]).frame, tmp_path / "one" / "m.parquet")
    assert first.locate() == [tmp_path / "one" / "0.png"]
    for target in (tmp_path / "up.parquet", tmp_path / "two" / "deep" / "m.parquet"):
        first.write(target)
        assert Manifest.read(target).locate()[0].samefile(tmp_path / "one" / "0.png")
    assert Manifest.read(tmp_path / "up.parquet").frame["uri"][0] == "one/0.png"


@settings(deadline=None)
@given(st.text(st.characters(blacklist_characters="\0"), min_size=1))
def test_a_uri_decodes_to_its_path(path: str) -> None:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return
    uri = encode_uri(path)
    assert decode_uri(uri) == path and decode_uri(uri + "#frame=3") == path
    uri.encode()


def test_names_that_are_no_unicode_survive() -> None:
    name = os.fsdecode(b"caf\xe9 #1.png")
    assert decode_uri(encode_uri(name)) == name
    pl.Series([encode_uri(name)])


def test_images_without_a_group_stay_with_their_identical_copies() -> None:
    groups = manifest(pixel_hash=["aa", "aa", "bb", None], group=[None, None, "p1", None]).groups()
    assert groups.tolist() == ["image:aa", "image:aa", "p1", "image:3.png"]


def test_labels_classes_and_ids() -> None:
    whole = manifest(label=["b", None, "a"])
    assert whole.labels().tolist() == ["b", None, "a"] and whole.labels().dtype == object
    assert whole.classes() == ["a", "b"]
    assert whole.ids().tolist() == [0, 1, 2] and whole.ids().dtype == np.uint64


def test_a_portable_frame_keeps_uris_that_lie_in_the_manifest_s_folder(tmp_path: Path) -> None:
    whole = Manifest(manifest(uri=["x/a%25.png", "x/b.dcm#frame=3"]).frame, tmp_path / "m.parquet")
    frame, folder = whole.portable()
    assert folder == tmp_path and frame["uri"].to_list() == ["x/a%25.png", "x/b.dcm#frame=3"]


def test_a_portable_frame_starts_at_the_deepest_folder_that_holds_all_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    strange = os.fsdecode(b"images/a%b\xff.png")
    frame, folder = Manifest(
        manifest(uri=[encode_uri(f"../{strange}"), f"{tmp_path}/images/y/c.png"]).frame, Path("sub/m.parquet")
    ).portable()
    assert folder == tmp_path / "images" and frame["uri"].to_list() == ["a%25b%FF.png", "y/c.png"]
    assert Manifest(manifest(uri=[]).frame, tmp_path / "m.parquet").portable()[1] == tmp_path


@pytest.mark.parametrize(
    "path",
    [
        "/home/x/a.png",
        "~/a.png",
        "file:///a.png",
        "C:\\a.png",
        "c:/a.png",
        "\\\\server\\a.png",
        "copy of /home/x/a.png",
        "was:~/a.png",
        "in (C:\\a)",
    ],
)
def test_further_columns_with_absolute_paths_are_no_part_of_a_portable_frame(path: str) -> None:
    frame, _ = manifest(file=["a.png", None, path], note=["N/A, 1 / 2", "a/b: c/d", None], age=[1, 2, 3], label=["/a", "b", "b"]).portable()
    assert frame.columns == [*SCHEMA, "note", "age"] and frame["label"][0] == "/a"


def test_the_split_of_a_model_is_found_where_its_images_are_after_either_folder_or_both_moved(tmp_path: Path) -> None:
    def split(model: str) -> Manifest:
        return Manifest.read(tmp_path / model / "split.parquet")

    for folder in ("one/model", "one/images", "two"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "one/images/0.png").touch()
    (tmp_path / "one/model/run.json").write_text(json.dumps({"images": describe_place(tmp_path / "one/images", tmp_path / "one/model")}))
    manifest(uri=["0.png"]).frame.write_parquet(tmp_path / "one/model/split.parquet")
    assert split("one/model").locate()[0].samefile(tmp_path / "one/images/0.png")
    (tmp_path / "one/model").rename(tmp_path / "model")
    assert split("model").locate()[0].samefile(tmp_path / "one/images/0.png")
    (tmp_path / "model").rename(tmp_path / "two/model")
    (tmp_path / "one/images").rename(tmp_path / "two/images")
    assert split("two/model").locate()[0].samefile(tmp_path / "two/images/0.png")
    (tmp_path / "two/images/0.png").unlink()
    assert split("two/model").locate() == [tmp_path / "one/images/0.png"]


def test_images_that_were_not_read_have_no_id_number() -> None:
    whole = manifest(id=["0" * 16, None], status=["ok", "corrupt"])
    with pytest.raises(IsograftError, match="1 images"):
        whole.ids()
    assert whole.usable().ids().tolist() == [0]


def test_selection_takes_masks_and_expressions() -> None:
    whole = manifest()
    assert whole.select(np.array([True, False, True])).frame["uri"].to_list() == ["0.png", "2.png"]
    assert whole.select(pl.col("uri") == "1.png").frame["uri"].to_list() == ["1.png"]
    assert len(whole.select(pl.Series([False] * 3))) == 0


def test_the_fingerprint_ignores_order_and_place_but_not_content() -> None:
    whole = manifest(label=["a", "b", None], group=["x", None, "y"])
    moved = Manifest(whole.frame.reverse().with_columns(uri=pl.lit("elsewhere")))
    assert whole.fingerprint() == moved.fingerprint()
    for change in ({"label": ["a", "b", "b"]}, {"group": ["x", "x", "y"]}, {"pixel_hash": ["1", "2", "3"]}):
        assert whole.fingerprint() != manifest(**({"label": ["a", "b", None], "group": ["x", None, "y"]} | change)).fingerprint()


def test_what_is_no_manifest_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(IsograftError, match=r"no manifest at .*none.parquet"):
        Manifest.read(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("not parquet")
    with pytest.raises(IsograftError, match=r"text\.parquet cannot be read"):
        Manifest.read(tmp_path / "text.parquet")
    pl.DataFrame({"uri": ["a"]}).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(IsograftError, match="not a manifest: it has no column id"):
        Manifest.read(tmp_path / "other.parquet")


def test_a_full_disk_leaves_the_old_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.parquet"
    manifest().write(path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(IsograftError, match="No space left on device"):
        manifest(label=["a", "b", "c"]).write(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_class_numbers_follow_the_sorted_classes_or_those_given() -> None:
    table = manifest(label=["b", "a", "b"])
    assert table.class_numbers().tolist() == [1, 0, 1]
    assert table.class_numbers(["z", "b", "a"]).tolist() == [1, 2, 1]


def test_a_label_that_is_no_class_has_no_number() -> None:
    with pytest.raises(IsograftError, match="the label 'c' is not among the classes a, b"):
        manifest(label=["a", "c", "b"]).class_numbers(["a", "b"])


def test_an_image_without_a_label_has_no_number() -> None:
    with pytest.raises(IsograftError, match="1 of 3 images have no label"):
        manifest(label=["a", None, "b"]).class_numbers()


@given(
    key=st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1),
    part=st.text(st.characters(exclude_categories=("Cs",))),
)
def test_a_manifest_finds_any_object_of_a_bucket_and_any_part_of_it_again(key: str, part: str) -> None:
    address = Address(f"s3://bucket/{key}", part)
    whole = Manifest(manifest(uri=[absolute_uri(address)]).frame, Path("m.parquet"))
    assert whole.addresses() == [address] and whole.portable()[0]["uri"][0] == whole.frame["uri"][0]


def test_a_manifest_keeps_the_urls_of_web_servers_as_they_are(tmp_path: Path) -> None:
    address = Address("https://host/a%20b%23c.png?x=1%2F2", "m/1#%.png")
    whole = Manifest(manifest(uri=[absolute_uri(address)]).frame, tmp_path / "m.parquet")
    whole.write(tmp_path / "n" / "m.parquet")
    assert Manifest.read(tmp_path / "n" / "m.parquet").addresses() == [address]
    assert whole.portable()[0]["uri"].to_list() == ["https://host/a%20b%23c.png?#m/1%23%25.png"]


@pytest.mark.parametrize("cell", ["https://h/a.png?sig=1", "see s3://b/x?y", "http://me:word@h/"])
def test_further_columns_with_secrets_are_no_part_of_a_portable_frame(cell: str) -> None:
    frame, _ = manifest(link=[None, "x", cell], page=["https://h/a", "why?", None]).portable()
    assert frame.columns == [*SCHEMA, "page"]
