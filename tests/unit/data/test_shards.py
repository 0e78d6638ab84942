"""Shards: which members are images, what the shard tells of them, and their pixels, here and behind a web server."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from isograft.data import shards as of_shards
from isograft.data.address import Address
from isograft.data.cache import ImageCache
from isograft.data.containers import read
from isograft.data.ingest import ingest
from isograft.data.manifest import Manifest
from isograft.data.preprocess import Preprocess
from isograft.data.readers import ReadError, decode_image
from isograft.data.source import open_data
from isograft.errors import IsograftError
from isograft.settings import DataSettings, IngestSettings


@pytest.fixture(autouse=True)
def no_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_shards, "_indexes", of_shards._Indexes())


def ingested(source: object, out: Path, **options: object) -> Manifest:
    return ingest(IngestSettings.model_validate({"source": source if isinstance(source, tuple) else (source,), "out": out, **options}))


def test_a_shard_becomes_one_row_per_image_with_its_label_group_and_further_fields(shard: Path, tmp_path: Path, shards) -> None:
    frame = ingested(shard, tmp_path / "m.parquet").frame
    assert frame["uri"].to_list() == [f"shards/000.tar#s/{number:03d}.png" for number in range(12)]
    assert frame["label"].to_list() == ["light", "dark"] * 6
    assert frame["group"].to_list() == [f"p{number // 2}" for number in range(12)]
    assert frame["age"].to_list() == [str(40 + number) for number in range(12)] and frame["json_width"].unique().to_list() == ["9"]
    assert frame["width"].unique().to_list() == [40] and "tags" not in frame.columns and frame["status"].unique().to_list() == ["ok"]
    place = Manifest.read(tmp_path / "m.parquet").addresses()[3]
    assert np.array_equal(read(place, 10**6).array, decode_image(shards.png(3, 20), 10**6).array)


def test_a_manifest_of_a_shard_trains_as_one_of_files_does(shard: Path, tmp_path: Path, shards) -> None:
    for name, data in shards.labeled().items():
        if name.endswith(".png"):
            place = tmp_path / "files" / ("dark" if int(name[2:5]) % 2 else "light") / Path(name).name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
    ingested(tmp_path / "files", tmp_path / "files.parquet")
    ingested(shard.parent, tmp_path / "shards.parquet")
    caches = []
    for name in ("files", "shards"):
        opened = open_data(str(tmp_path / f"{name}.parquet"), DataSettings(), need_labels=True)
        opened = opened.take(np.argsort(opened.frame["id"].to_numpy()))
        cache = ImageCache.build(opened, Preprocess(image_size=16, working_size=20), tmp_path / name, threads=2)
        caches.append([cache[row].copy() for row in range(len(cache))])
        assert sorted(opened.labels()) == ["dark"] * 6 + ["light"] * 6
    assert np.array_equal(caches[0], caches[1])


def test_a_folder_of_shards_is_data_as_it_is(shard: Path, tmp_path: Path) -> None:
    opened = open_data(str(shard.parent), DataSettings(cache_dir=tmp_path / "cache"), need_labels=True)
    assert len(opened) == 12 and opened.classes() == ["dark", "light"]


def test_shards_beside_images_are_archives_of_them(shard: Path, tmp_path: Path, shards, capsys) -> None:
    (shard.parent / "a.png").write_bytes(shards.png(99))
    assert ingested(shard.parent, tmp_path / "m.parquet").frame["uri"].to_list() == ["shards/a.png"]
    assert "1 files that are no images were left out, such as 000.tar" in capsys.readouterr().err
    assert len(ingested((shard.parent, shard), tmp_path / "m.parquet")) == 13


def test_names_with_any_characters_find_their_member_again(tmp_path: Path, shards) -> None:
    names = ["a#b.png", "50%25.png", "ü ä/日本.PNG", "a/frame=3.png", "q?x=1.png", os.fsdecode(b"caf\xe9.png"), "line\nbreak.png"]
    (tmp_path / "s.tar").write_bytes(shards.tar({name: shards.png(seed) for seed, name in enumerate(names)}))
    ingested(tmp_path / "s.tar", tmp_path / "m.parquet")
    places = Manifest.read(tmp_path / "m.parquet").addresses()
    assert {place.part for place in places} == set(names)
    for place in places:
        assert np.array_equal(read(place, 10**6).array, decode_image(shards.png(names.index(place.part)), 10**6).array)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"a.jpg": b"", "a.png": b""}, "2 images under one key, 'a'"),
        ({"1.2.840.png": b"", "1.2.841.png": b""}, "2 images under one key, '1'"),
        ({"a.png": b"", "a.json": b"[1]"}, "is no JSON object"),
        ({"a.png": b"", "a.json": b"[" * 60_000}, "is no JSON object"),
        ({"a.png": b"", "a.json": b'{"label": ["x"]}'}, "the label in a.json is a list"),
        ({"a.png": b"", "a.json": b'{"label": "\\ud800"}'}, "no Unicode"),
        ({"a.png": b"", "a.cls": b"\xff\xfe"}, "no UTF-8 text"),
        ({"a.png": b"", "a.cls": b"x", "a.json": b'{"label": "y"}'}, "says 'x', but its .json says 'y'"),
        ({"a.png": b"", "a.json": b"{%s}" % b",".join(b'"f%d": 1' % number for number in range(300))}, "300 fields"),
    ],
)
def test_what_a_shard_says_unclearly_ends_the_ingest(members: dict[str, bytes], words: str, tmp_path: Path, shards) -> None:
    (tmp_path / "s.tar").write_bytes(shards.tar(members))
    with pytest.raises(IsograftError, match=words):
        ingested(tmp_path / "s.tar", tmp_path / "m.parquet")
    assert not (tmp_path / "m.parquet").exists()


def test_a_mask_beside_its_image_is_no_image_and_is_named(tmp_path: Path, shards, capsys) -> None:
    members = {"a.png": shards.png(1), "a.seg.png": shards.png(2), "a.txt": b"a caption", "._a.png": b"", "b.v2.png": shards.png(3)}
    (tmp_path / "s.tar").write_bytes(shards.tar(members))
    assert [name for name, _ in of_shards.members(str(tmp_path / "s.tar"))] == ["a.png", "b.v2.png"]
    assert "2 members that are neither images nor labels were left out, such as a.seg.png" in capsys.readouterr().err


def test_a_shard_that_cannot_be_used_is_one_row_that_says_why(shard: Path, tmp_path: Path, shards) -> None:
    data = shard.read_bytes()
    (shard.parent / "cut.tar").write_bytes(data[:3000])
    (shard.parent / "empty.tar").write_bytes(b"")
    (shard.parent / "none.tar").write_bytes(shards.tar({"a.txt": b"x"}))
    (shard.parent / "out.tar").write_bytes(shards.tar({"../a.png": b"x"}))
    frame = ingested(shard.parent, tmp_path / "m.parquet").frame.filter(pl.col("status") != "ok")
    assert dict(frame.select("uri", "status").rows()) == {
        "shards/cut.tar": "truncated", "shards/empty.tar": "empty", "shards/none.tar": "empty", "shards/out.tar": "unsupported",
    }  # fmt: skip


def test_a_broken_member_is_a_row_and_its_neighbours_are_read(tmp_path: Path, shards) -> None:
    (tmp_path / "s.tar").write_bytes(shards.tar({"a.png": shards.png(1)[:-30], "b.png": shards.png(2), "c.png": b""}))
    assert ingested(tmp_path / "s.tar", tmp_path / "m.parquet").frame["status"].to_list() == ["truncated", "ok", "empty"]


@pytest.mark.parametrize("name", ["s.tar.gz", "s.tgz", "s.TAR.XZ"])
def test_compressed_tars_are_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(IsograftError, match=r"write it again as a plain \.tar"):
        ingested(tmp_path / name, tmp_path / "m.parquet")
    with pytest.raises(ReadError, match="compressed"):
        read(Address(str(tmp_path / name), "a.png"), 10**6)


def test_a_shard_that_changed_is_indexed_again(tmp_path: Path, shards) -> None:
    path = tmp_path / "s.tar"
    path.write_bytes(shards.tar({"a.png": shards.png(1)}))
    assert of_shards.read_member(str(path), "a.png") == shards.png(1)
    path.write_bytes(shards.tar({"b.png": shards.png(3), "a.png": shards.png(2)}))
    assert of_shards.read_member(str(path), "a.png") == shards.png(2)
    with pytest.raises(ReadError, match=r"has no member 'c.png'"):
        of_shards.read_member(str(path), "c.png")
    path.unlink()
    with pytest.raises(ReadError, match="cannot be opened"):
        of_shards.read_member(str(path), "a.png")


def test_old_indexes_make_room(tmp_path: Path, shards, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_shards, "_MOST_INDEXED", 3)
    for number in range(4):
        (tmp_path / f"{number}.tar").write_bytes(shards.tar({f"{name}.png": b"x" for name in "ab"}))
        assert of_shards.read_member(str(tmp_path / f"{number}.tar"), "b.png") == b"x"
    assert [Path(file).name for file in of_shards._indexes._kept] == ["3.tar"]


def test_a_shard_behind_a_web_server_is_read_in_pieces(server, shard: Path, tmp_path: Path) -> None:
    server.files["d/000.tar"] = shard.read_bytes()
    server.troubles["d/000.tar"] = [server.hangs_up, server.status(503)]
    local = ingested(shard, tmp_path / "local.parquet").frame
    there = ingested(server.url("d/000.tar?sig=s3cret"), tmp_path / "there.parquet").frame
    assert there.drop("uri", "source").equals(local.drop("uri", "source"))
    assert there["uri"][0] == server.url("d/000.tar?sig=s3cret#s/000.png")
    assert all(wanted for _, wanted in server.requests) and len(server.requests) < 20
    opened = open_data(str(tmp_path / "there.parquet"), DataSettings(), need_labels=True)
    cache = ImageCache.build(opened, Preprocess(image_size=16, working_size=20), tmp_path / "cache", threads=2)
    assert len(cache) == 12


def test_a_web_server_without_range_requests_ends_the_ingest_of_a_shard(server, shard: Path, tmp_path: Path) -> None:
    server.files["000.tar"] = shard.read_bytes()
    server.ignores_range = True
    with pytest.raises(IsograftError, match="range requests"):
        ingested(server.url("000.tar"), tmp_path / "m.parquet")


def test_the_source_that_a_shard_tells_counts_more_than_its_folder_and_less_than_a_column_of_the_users(shards, tmp_path: Path) -> None:
    members = {
        "a.png": shards.png(1),
        "a.json": b'{"label": "x", "source": "hospital A"}',
        "b.png": shards.png(2),
        "b.json": b'{"label": "y"}',
    }
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "0.tar").write_bytes(shards.tar(members))
    assert ingested(tmp_path / "images", tmp_path / "m.parquet").frame["source"].to_list() == ["hospital A", "images"]
