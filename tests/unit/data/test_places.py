from __future__ import annotations

import json
from pathlib import Path

import pytest

from isograft.data.places import describe_place, image_folders, short_name


def test_the_place_is_kept_absolutely_and_as_seen_from_the_model(tmp_path: Path) -> None:
    place = describe_place(tmp_path / "images", tmp_path / "models" / "one")
    assert place == {"folder": str(tmp_path / "images"), "from_here": "../../images"}


def test_a_split_starts_where_the_record_says_seen_from_the_model_first(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"images": {"folder": "/there", "from_here": "../here"}}))
    assert image_folders(tmp_path / "split.parquet") == [tmp_path / "../here", Path("/there")]
    assert image_folders(tmp_path / "other.parquet") == [tmp_path]


@pytest.mark.parametrize("record", [None, "{", "{}", '{"images": 3}', '{"images": {}}', "[]"])
def test_without_a_record_a_split_starts_in_its_own_folder(record: str | None, tmp_path: Path) -> None:
    if record is not None:
        (tmp_path / "run.json").write_text(record)
    assert image_folders(tmp_path / "split.parquet") == [tmp_path]


def test_outputs_call_things_by_their_last_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert short_name(Path("a/b.csv")) == "b.csv" and short_name(Path()) == tmp_path.name
