from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isograft.data.manifest import SCHEMA, Manifest, arrange, decode_uri, encode_uri
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
