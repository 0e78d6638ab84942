from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isograft.data.manifest import Manifest
from isograft.errors import IsograftError
from isograft.fetch.catalogue import pool_named
from isograft.fetch.client import Client
from isograft.fetch.fetch import fetch_pool
from isograft.fetch.isic import Archive, Page
from isograft.settings import FetchSettings


@pytest.fixture
def archive(replay):
    for index in range(10):
        replay.add_image(
            f"ISIC_{index:07d}", ["CC-0", "CC-BY-NC"][index % 2], patient_id=f"IP_{index // 2}", diagnosis_1="Benign", label="x"
        )
    return replay


def run(archive: Any, out: Path, **options: Any) -> Manifest:
    settings = FetchSettings.model_validate({"name": "isic", "out": out, "accept_licence": True, "threads": 2, **options})
    return fetch_pool(settings, pool_named("isic"), Client(timeout=2, attempts=3, backoff=0.01), archive.base)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_every_image_has_its_licence_attribution_and_group_in_the_manifest(archive, tmp_path) -> None:
    manifest = run(archive, tmp_path / "o")
    assert len(manifest.usable()) == 10 and manifest.frame.equals(Manifest.read(tmp_path / "o" / "manifest.parquet").frame)
    row = manifest.frame.row(1, named=True)
    assert (row["uri"], row["licence"], row["attribution"]) == ("images/ISIC_0000001.jpg", "CC-BY-NC", "Clinic A")
    assert (row["group"], row["source"], row["diagnosis_1"], row["label"], row["isic_label"]) == ("IP_0", "Clinic A", "Benign", None, "x")
    text = (tmp_path / "o" / "LICENCE.txt").read_text()
    assert "CC-0 (5 images), CC-BY-NC (5 images)" in text and "- Clinic A" in text


def test_pages_are_followed_by_their_cursor_and_a_limit_and_a_query_are_kept(archive, tmp_path) -> None:
    assert len(run(archive, tmp_path / "o", limit=6, query="sex:female", image_size=256)) == 6
    assert len(archive.paths("/images/search/")) == 2 and len(archive.paths("/thumbs/")) == 6


def test_a_killed_fetch_goes_on_with_the_rest_only(archive, tmp_path) -> None:
    archive.die_after = 6
    with pytest.raises(IsograftError, match="run the same command again"):
        run(archive, tmp_path / "o", threads=1)
    before = {path.name for path in (tmp_path / "o" / "images").iterdir()}
    assert 0 < len(before) < 10 and not (tmp_path / "o" / "manifest.parquet").exists()
    archive.die_after = None
    archive.asked.clear()
    assert len(run(archive, tmp_path / "o").usable()) == 10
    assert {Path(path).name for path in archive.paths("/files/")} == {f"ISIC_{n:07d}.jpg" for n in range(10)} - before
    archive.asked.clear()
    run(archive, tmp_path / "o")
    assert archive.asked == []


def test_a_changed_or_lost_file_is_fetched_again(archive, tmp_path) -> None:
    run(archive, tmp_path / "o")
    images = tmp_path / "o" / "images"
    content = (images / "ISIC_0000003.jpg").read_bytes()
    (images / "ISIC_0000003.jpg").write_bytes(content[:-1] + b"!")
    (images / "ISIC_0000005.jpg").unlink()
    archive.asked.clear()
    run(archive, tmp_path / "o")
    assert sorted(archive.paths("")) == ["/files/ISIC_0000003.jpg", "/files/ISIC_0000005.jpg"]
    assert (images / "ISIC_0000003.jpg").read_bytes() == content


def test_an_expired_address_is_asked_for_anew(archive, tmp_path) -> None:
    archive.faults["/files/ISIC_0000002.jpg"] = [403]
    assert len(run(archive, tmp_path / "o").usable()) == 10
    assert archive.paths("/images/ISIC") == ["/images/ISIC_0000002/"]


def test_an_image_that_is_none_is_named_and_left_out_only_when_allowed(archive, tmp_path) -> None:
    archive.faults["/files/ISIC_0000002.jpg"] = ["html"] * 100
    with pytest.raises(IsograftError, match=r"1 image could not be fetched \(ISIC_0000002"):
        run(archive, tmp_path / "o")
    assert len(run(archive, tmp_path / "o", allow_missing=True)) == 9
    assert "ISIC_0000002" in (tmp_path / "o" / "missing.csv").read_text()


def test_another_query_does_not_mix_into_a_folder(archive, tmp_path) -> None:
    run(archive, tmp_path / "o", limit=2)
    with pytest.raises(IsograftError, match="another limit"):
        run(archive, tmp_path / "o", limit=3)


def test_a_listing_in_circles_ends(archive, tmp_path) -> None:
    archive.pages = lambda query: {"results": archive.images[:2], "count": 2, "next": "http://x/?cursor=same"}
    with pytest.raises(IsograftError, match="circles"):
        run(archive, tmp_path / "o")
    numbers = iter(range(1000))
    archive.pages = lambda query: {"results": archive.images[:2], "count": 2, "next": f"http://x/?cursor={next(numbers)}"}
    with pytest.raises(IsograftError, match="circles"):
        run(archive, tmp_path / "p")


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/b", "", "a.b", "a\n", "ä", "a" * 65, None, 3, ".."])
def test_a_name_that_could_be_a_path_ends_the_fetch(archive, tmp_path, name) -> None:
    archive.images[0]["isic_id"] = name
    with pytest.raises(IsograftError, match="isic_id"):
        run(archive, tmp_path / "o" / "in")
    assert files(tmp_path) <= {"o/in/.fetch/lock", "o/in/.fetch/request.json"}


@pytest.mark.parametrize(
    "answer",
    [[], 3, None, {}, {"results": {}}, {"results": [3]}, {"results": [{}], "next": 4}, {"results": [], "next": "http://x/"}, "x" * 100],
)
def test_an_answer_that_is_not_as_documented_is_one_sentence(archive, tmp_path, answer) -> None:
    archive.pages = lambda query: answer
    with pytest.raises(IsograftError):
        run(archive, tmp_path / "o")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/y.jpg", "http://[", "javascript:1", ""])
def test_an_image_at_no_http_address_is_refused(archive, tmp_path, url) -> None:
    archive.images[0]["files"]["full"]["url"] = url
    with pytest.raises(IsograftError, match="not a plain http"):
        run(archive, tmp_path / "o")


def test_odd_characters_in_an_answer_can_be_written(archive, tmp_path) -> None:
    archive.images[0]["attribution"] = 'a,"b"\r\nc\0'
    archive.images[0]["metadata"]["clinical"] = {"file": "../x", "odd\nname": [1, {"a": None}], "age": 3, "site": "\ud800b"}
    manifest = run(archive, tmp_path / "o")
    assert len(manifest.usable()) == 10
    row = manifest.frame.row(0, named=True)
    assert (row["attribution"], row["isic_file"], row["odd name"], row["site"]) == ('a,"b" c', "../x", '[1, {"a": null}]', "?b")


def test_what_is_remembered_may_be_cut_off(archive, tmp_path) -> None:
    run(archive, tmp_path / "o")
    for name in ("files.jsonl", "pages.jsonl"):
        path = tmp_path / "o" / ".fetch" / name
        path.write_bytes(path.read_bytes()[:-9])
    assert len(run(archive, tmp_path / "o").usable()) == 10
    lines = (tmp_path / "o" / ".fetch" / "files.jsonl").read_text().splitlines()
    assert len({json.loads(line)["file"] for line in lines if line.endswith("}")}) == 10


def test_a_folder_that_leads_elsewhere_is_not_written_to(archive, tmp_path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "o" / ".fetch").mkdir(parents=True)
    (tmp_path / "o" / "images").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IsograftError, match="link"):
        run(archive, tmp_path / "o")
    assert not list((tmp_path / "elsewhere").iterdir())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["results", "next", "isic_id", "files", "full", "url", "size", "metadata"]), inner, max_size=5)
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_a_page_or_one_sentence(answer: object) -> None:
    try:
        Archive(Client()).read(Page, answer)
    except IsograftError as error:
        assert "not as documented" in str(error)
