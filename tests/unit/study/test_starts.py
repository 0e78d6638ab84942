"""What arms start from: a model that has seen test images is refused before anything runs; where a file lies is not told."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from isograft.data.manifest import Manifest, arrange
from isograft.errors import LeakageError
from isograft.lineage import seen_rows
from isograft.model import Model
from isograft.study.arms import Step
from isograft.study.starts import Starts, said, unknown_past


def manifest(*pixels: str) -> Manifest:
    return Manifest(arrange(pl.DataFrame({"uri": [f"{one}.png" for one in pixels], "pixel_hash": [*pixels]})))


def test_a_model_that_has_seen_a_test_image_is_refused_and_another_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Seen:
        def seen(self) -> pl.DataFrame:
            return seen_rows(manifest("aa", "bb"), "pretrain", "pool")

    monkeypatch.setattr(Model, "load", lambda path: Seen())
    starts = Starts()
    starts.refuse_seen(str(tmp_path), manifest("cc"), "t")
    with pytest.raises(LeakageError, match=r"1 of 2 images were seen by .*, where an arm of the task t starts,"):
        starts.refuse_seen(str(tmp_path), manifest("cc", "bb"), "t")
    starts.refuse_seen("imagenet", manifest("aa"), "t")


def test_weights_files_have_an_unknown_past_and_an_identity_by_content(tmp_path: Path) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        (tmp_path / name).write_bytes(b"the same weights")
    starts, file = Starts(), str(tmp_path / "a.safetensors")
    assert starts.identity(file) == starts.identity(str(tmp_path / "b.safetensors")) != starts.identity("scratch")
    assert unknown_past([[file, "pool:p"], ["imagenet"], [], [str(tmp_path)]]) == ["a.safetensors"]
    assert said(Step("start", file)) == "a.safetensors" and said(Step("pool", "p")) == "pool:p"
