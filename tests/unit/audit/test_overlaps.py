"""What an audit says of a model's past: the same pixels, near-duplicates and patients it has seen, or that there are none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
from tests.unit.data.test_look import encoded, lesion

import isograft
from isograft.errors import AuditFailed
from isograft.lineage import seen_rows
from isograft.model import Model


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`seen` was trained on; `test` holds new lesions; a model remembers `seen`."""
    for name, first in (("seen", 0), ("test", 50)):
        for number in range(first, first + 12):
            path = tmp_path / name / ("mel", "nv")[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), lesion(number))
    memory = seen_rows(isograft.ingest([tmp_path / "seen"], out=tmp_path / "seen.parquet"), "pretrain", "seen")
    model = SimpleNamespace(folder=tmp_path / "model", content_hash="c0ffee", seen=lambda: memory)
    monkeypatch.setattr(Model, "load", lambda path: model)
    return tmp_path


def test_a_model_that_has_seen_nothing_of_it_is_told_as_such(folders: Path) -> None:
    record = isograft.audit([folders / "test"], model=folders / "model", cache_dir=folders / "cache", fail_on="leak")
    (told,) = [one for one in record["findings"] if one["kind"] == "leak"]
    assert (
        told["level"] == "note"
        and "no near-duplicate of one and no image of the same group was seen by the model model" in told["sentence"]
    )


def test_pixels_and_near_duplicates_a_model_has_seen_are_leaks(folders: Path) -> None:
    cv2.imwrite(str(folders / "test" / "nv" / "same.png"), lesion(3))
    cv2.imwrite(str(folders / "test" / "nv" / "near.jpg"), encoded(cv2.rotate(lesion(5), cv2.ROTATE_90_CLOCKWISE), 60))
    record = isograft.audit([folders / "test"], model=folders / "model", cache_dir=folders / "cache")
    (leak,) = [one for one in record["findings"] if one["kind"] == "leak"]
    assert leak["level"] == "bad" and leak["sentence"].startswith("2 of 14 images were seen by the model model or an ancestor of it")
    assert {(Path(one["uri"]).name, one["reason"]) for one in leak["images"]} == {
        ("same.png", "same pixels"),
        ("near.jpg", "near-duplicate"),
    }
    with pytest.raises(AuditFailed, match="--fail-on names: leak"):
        isograft.audit([folders / "test"], model=folders / "model", cache_dir=folders / "cache", fail_on="leak")
