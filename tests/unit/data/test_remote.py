"""Images behind URLs: from the ingest to the cache, on a web server that misbehaves and on a server that speaks S3."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isograft.data import buckets, hosts, remote, web
from isograft.data.address import Address
from isograft.data.cache import ImageCache
from isograft.data.containers import read
from isograft.data.files import find_images
from isograft.data.ingest import ingest
from isograft.data.manifest import Manifest
from isograft.data.preprocess import Preprocess
from isograft.data.readers import decode_image
from isograft.data.shard_images import ShardImages
from isograft.data.source import open_data
from isograft.errors import IsograftError, Unreachable
from isograft.evaluation.labeled import own_test_split
from isograft.settings import DataSettings, IngestSettings

PREPROCESS = Preprocess(image_size=16, working_size=20)
QUERY = "?X-Amz-Signature=s3cret"


def ingested(*source: str | Path, out: Path, **options: object) -> Manifest:
    return ingest(IngestSettings.model_validate({"source": source, "out": out, **options}))


@pytest.fixture
def listed(server, shards, tmp_path: Path) -> Path:
    """A CSV of 12 signed URLs in two classes."""
    lines = ["image,diagnosis,patient"]
    for number in range(12):
        server.files[f"scans/{number:02d}.png"] = shards.png(number, 20 if number % 2 else 150)
        lines.append(f"{server.url(f'scans/{number:02d}.png')}{QUERY},{'dark' if number % 2 else 'light'},p{number // 2}")
    path = tmp_path / "urls.csv"
    path.write_text("\n".join(lines))
    return path


COLUMNS = {"label_column": "diagnosis", "group_column": "patient"}


def test_several_urls_become_a_manifest(server, shards, tmp_path: Path) -> None:
    for number in range(3):
        server.files[f"a/{number}.png"] = shards.png(number)
    frame = ingested(*(server.url(f"a/{number}.png") for number in range(3)), out=tmp_path / "m.parquet").frame
    assert frame["uri"].to_list() == [server.url(f"a/{number}.png") for number in range(3)]
    assert frame["status"].to_list() == ["ok"] * 3 and frame["source"].to_list() == ["a"] * 3


def test_a_csv_of_signed_urls_goes_from_ingest_to_the_cache_and_is_shown_nowhere(server, listed: Path, tmp_path: Path, capsys) -> None:
    server.troubles = {"scans/03.png": [server.cuts_off, server.status(503)], "scans/05.png": [server.hangs_up]}
    ingested(listed, out=tmp_path / "m.parquet", **COLUMNS)
    opened = open_data(str(tmp_path / "m.parquet"), DataSettings(), need_labels=True)
    assert opened.frame["label"].to_list() == ["light", "dark"] * 6 and opened.frame["group"].n_unique() == 6
    assert opened.frame["uri"][0].endswith(f"00.png{QUERY}")
    cache = ImageCache.build(opened, PREPROCESS, tmp_path / "cache", threads=2)
    wanted = PREPROCESS.working(decode_image(server.files["scans/03.png"], 10**6).array)
    assert np.array_equal(cache[3], wanted)
    told = capsys.readouterr()
    assert "12 URLs have a query string" in told.err and "s3cret" not in told.err + told.out


def test_what_travels_holds_no_signature(listed: Path, tmp_path: Path) -> None:
    portable, _ = ingested(listed, out=tmp_path / "m.parquet", **COLUMNS).portable()
    assert "s3cret" not in str(portable.to_dicts()) and "image" not in portable.columns and "diagnosis" in portable.columns
    assert portable["uri"][0].endswith("/scans/00.png?")


def test_the_test_split_of_signed_urls_says_that_it_cannot_be_read(server, listed: Path, tmp_path: Path) -> None:
    frame, _ = ingested(listed, out=tmp_path / "m.parquet", **COLUMNS).portable()
    (tmp_path / "model").mkdir()
    Manifest(frame.with_columns(split=pl.lit("test"))).write(tmp_path / "model" / "split.parquet")
    with pytest.raises(IsograftError, match="12 of 12 test images lie behind URLs with a query string"):
        own_test_split(type("M", (), {"folder": tmp_path / "model"})(), None)


@pytest.mark.parametrize(("trouble", "words"), [(500, "see to the network"), ("hangs_up", "see to the network"), (404, "--allow-missing")])
def test_an_ingest_with_holes_writes_nothing(trouble: str | int, words: str, server, listed: Path, tmp_path: Path) -> None:
    one = server.status(trouble) if isinstance(trouble, int) else getattr(server, trouble)
    server.troubles = {f"scans/{number:02d}.png": [one] * 9 for number in (2, 7)}
    with pytest.raises(IsograftError, match=rf"^2 of 12 images cannot be fetched: .*scans/02.png\?\.\.\. \(.*{words}") as caught:
        ingested(listed, out=tmp_path / "m.parquet", **COLUMNS)
    assert not (tmp_path / "m.parquet").exists() and "s3cret" not in str(caught.value)


def test_missing_images_may_be_left_out_but_unreachable_ones_may_not(server, listed: Path, tmp_path: Path, capsys) -> None:
    del server.files["scans/02.png"]
    manifest = ingested(listed, out=tmp_path / "m.parquet", allow_missing=True, **COLUMNS)
    assert len(manifest) == 11 and "1 of 12 images cannot be fetched" in capsys.readouterr().err
    server.troubles = {"scans/03.png": [server.status(500)] * 9}
    with pytest.raises(IsograftError, match="2 of 12 images cannot be fetched"):
        ingested(listed, out=tmp_path / "n.parquet", allow_missing=True, **COLUMNS)


def test_a_list_of_a_server_that_is_down_ends_soon(server, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "FAILURES", 3)
    asked = []
    monkeypatch.setattr(web, "_once", lambda url, piece, really=web._once: asked.append(url) or really(url, piece))
    server.stop()
    with pytest.raises(IsograftError, match="12 of 12 images cannot be fetched"):
        ingested(listed, out=tmp_path / "m.parquet", threads=1, **COLUMNS)
    assert len(asked) == 3 * web.PATIENCE.tries


def test_a_cache_of_images_that_are_gone_or_changed_is_refused_in_one_sentence(server, shards, listed: Path, tmp_path: Path) -> None:
    ingested(listed, out=tmp_path / "m.parquet", **COLUMNS)
    opened = open_data(str(tmp_path / "m.parquet"), DataSettings(), need_labels=True)
    server.files["scans/04.png"] = shards.png(77)
    with pytest.raises(IsograftError, match=r"04\.png\?\.\.\. has changed since"):
        ImageCache.build(opened, PREPROCESS, tmp_path / "cache", threads=2)
    del server.files["scans/04.png"]
    with pytest.raises(IsograftError, match=r"04\.png\?\.\.\. cannot be fetched: the server answers HTTP 404"):
        ImageCache.build(opened, PREPROCESS, tmp_path / "cache", threads=2)


def test_broken_images_behind_urls_are_rows_like_any_other(server, shards, tmp_path: Path) -> None:
    server.files = {"a.png": shards.png(1)[:-20], "b.png": b"", "c.png": b"<html>no</html>", "d.png": shards.png(2)}
    frame = ingested(*(server.url(name) for name in server.files), out=tmp_path / "m.parquet").frame
    assert frame["status"].to_list() == ["truncated", "empty", "unsupported", "ok"]


@pytest.mark.parametrize("data", ["https://h/a.png", "s3://b/x"])
def test_training_on_a_url_asks_for_an_ingest_first(data: str, listed: Path) -> None:
    with pytest.raises(IsograftError, match=re.escape(f"isograft ingest {data} --out")):
        open_data(data, DataSettings(), need_labels=False)
    with pytest.raises(IsograftError, match="names images that lie elsewhere"):
        open_data(str(listed), DataSettings(**COLUMNS), need_labels=False)


@pytest.mark.parametrize("url", ["https://h/m.parquet?x=1", "s3://b/list.csv", "https://h/x.tar.gz"])
def test_urls_of_tables_and_compressed_tars_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(IsograftError, match=r"copy it to this machine|plain \.tar"):
        ingested(url, out=tmp_path / "m.parquet")


@given(st.text(), st.sampled_from(["http://", "https://", "s3://", "gs://", "x+y://"]))
def test_any_text_is_a_url_or_refused_in_one_sentence(text: str, scheme: str) -> None:
    with contextlib.suppress(IsograftError):
        assert remote.check(scheme + text) == scheme + text
        image = find_images([scheme + text]).images[0] if scheme.startswith("http") else None
        assert image is None or image.path == scheme + text


# --- buckets


def moto() -> dict[str, str] | None:
    """The environment in which moto's server runs: this one, or with the folder that ISOGRAFT_MOTO names; None without moto."""
    folder = os.environ.get("ISOGRAFT_MOTO")
    if folder:
        return {**os.environ, "PYTHONPATH": folder}
    return dict(os.environ) if importlib.util.find_spec("moto") and importlib.util.find_spec("flask_cors") else None


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The address of a server that speaks S3, with an empty bucket `scans`."""
    environment = moto()
    if environment is None:
        pytest.skip("moto is not installed; pip install --target DIR 'moto[s3]' flask flask-cors, and set ISOGRAFT_MOTO=DIR")
    from pyarrow import fs

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)], env=environment, **quiet)
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, "moto's server ended"
            time.sleep(0.1)
        store = fs.S3FileSystem(
            access_key="k",
            secret_key="s",
            endpoint_override=f"127.0.0.1:{port}",
            scheme="http",
            region="us-east-1",
            allow_bucket_creation=True,
        )
        store.create_dir("scans")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def put(bucket: str, monkeypatch: pytest.MonkeyPatch):
    """Writes an object; the environment is set as a user would."""
    for name, value in {
        "AWS_ENDPOINT_URL": bucket,
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(buckets, "TRIES", 2)
    monkeypatch.setattr(hosts.hosts, "_failed", {})
    buckets._store.cache_clear()

    def write(key: str, data: bytes) -> str:
        with buckets._store("s3", "scans").fs.open_output_stream(f"scans/{key}") as stream:
            stream.write(data)
        return f"s3://scans/{key}"

    yield write
    buckets._store.cache_clear()


def test_objects_of_a_bucket_come_whole_and_in_pieces(put) -> None:
    url = put("a/x.bin", bytes(range(256)) * 10)
    assert remote.fetch(url) == bytes(range(256)) * 10 and remote.length(url) == 2560
    assert remote.fetch(url, 250, 10) == bytes([250, 251, 252, 253, 254, 255, 0, 1, 2, 3])
    assert remote.fetch(url, 2555, 100) == bytes(range(251, 256)) and remote.fetch(put("empty", b"")) == b""


def test_a_prefix_is_a_folder_with_classes_and_any_key_is_found_again(put, shards, tmp_path: Path) -> None:
    keys = ["p/dark/1 a.png", "p/dark/50%25#1.png", "p/light/ü?.png", "p/light/2.PNG"]
    for seed, key in enumerate(keys):
        put(key, shards.png(seed))
    put("p/notes.txt", b"x"), put("p/.hidden/3.png", b"x"), put("pp/4.png", shards.png(9))
    for source in ("s3://scans/p", "s3://scans/p/"):
        manifest = ingested(source, out=tmp_path / "m.parquet")
        assert sorted(place.file for place in manifest.addresses()) == sorted(f"s3://scans/{key}" for key in keys)
        assert manifest.classes() == ["dark", "light"] and manifest.frame["status"].unique().to_list() == ["ok"]
    for seed, key in enumerate(keys):
        assert np.array_equal(read(Address(f"s3://scans/{key}"), 10**6).array, decode_image(shards.png(seed), 10**6).array)
    assert len(ingested(f"s3://scans/{keys[0]}", out=tmp_path / "one.parquet")) == 1
    opened = open_data(str(tmp_path / "m.parquet"), DataSettings(), need_labels=True)
    assert len(ImageCache.build(opened, PREPROCESS, tmp_path / "cache", threads=2)) == 4


def test_a_csv_of_labels_is_joined_to_the_images_of_a_bucket(put, shards, tmp_path: Path) -> None:
    for seed in range(3):
        put(f"csv/{seed}.png", shards.png(seed))
    (tmp_path / "labels.csv").write_text("name,dx\n0,a\n1.png,b\ns3://scans/csv/2.png,c\n")
    manifest = ingested("s3://scans/csv", out=tmp_path / "m.parquet", labels=tmp_path / "labels.csv", label_column="dx")
    assert manifest.frame["label"].to_list() == ["a", "b", "c"]


def test_a_shard_in_a_bucket_is_read_in_pieces(put, shards, tmp_path: Path) -> None:
    put("wds/train/000.tar", shards.tar(shards.labeled()))
    frame = ingested("s3://scans/wds", out=tmp_path / "m.parquet").frame
    assert frame["uri"][0] == "s3://scans/wds/train/000.tar#s/000.png" and frame["label"].to_list() == ["light", "dark"] * 6
    assert frame["split"].unique().to_list() == ["train"] and frame["status"].unique().to_list() == ["ok"]
    manifest = Manifest.read(tmp_path / "m.parquet")
    cached, blocks = ImageCache.build(manifest, PREPROCESS, tmp_path / "cache", threads=2), ShardImages(manifest, PREPROCESS).in_blocks()
    assert all(np.array_equal(blocks[row], cached[row]) for row in range(12))


def test_what_a_bucket_does_not_hold_is_told(put, tmp_path: Path) -> None:
    for url, words in (("s3://scans/no.png", "no such object"), ("s3://nobody/x", "no such object")):
        with pytest.raises(Unreachable, match=words) as caught:
            remote.fetch(url)
        assert caught.value.gone
        with pytest.raises(IsograftError, match="no such object"):
            ingested(url, out=tmp_path / "m.parquet")


def test_a_bucket_that_cannot_be_reached_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "topsecret"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(buckets, "TRIES", 1)
    buckets._store.cache_clear()
    with pytest.raises(Unreachable, match=r"s3://b/a\.png cannot be fetched: .*Could not connect") as caught:
        remote.fetch("s3://b/a.png")
    buckets._store.cache_clear()
    assert not caught.value.gone and "topsecret" not in str(caught.value)
