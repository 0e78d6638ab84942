"""What a training leaves in the model folder only when it is asked to."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

import isograft
from isograft.data.places import CASES_FILE, THUMBNAILS_FILE
from isograft.run import run_folder
from isograft.settings import FinetuneSettings
from isograft.thumbnails import Thumbnails

QUICK: dict[str, Any] = {"image_size": 32, "threads": 1, "init": "scratch", "backbone": "test_resnet", "strategy": "probe"}


@pytest.fixture(scope="module")
def kept(tiny: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An ensemble of two that keeps thumbnails."""
    out = tmp_path_factory.mktemp("thumbnails") / "model"
    return isograft.finetune(tiny, out=out, folds=2, keep_thumbnails=True, cache_dir=cache, **QUICK)


def test_exactly_the_cases_have_a_thumbnail_that_shows_them(kept: Any, tiny: Path) -> None:
    table, cases = pl.read_parquet(kept.folder / THUMBNAILS_FILE), pl.read_parquet(kept.folder / CASES_FILE)
    assert table.columns == ["id", "uri", "jpeg"] and table.select("id", "uri").equals(cases.select("id", "uri"))
    thumbnails = Thumbnails.load(kept.folder)
    assert thumbnails is not None
    originals = {path: np.asarray(Image.open(path).convert("RGB").resize((24, 20)), float) for path in tiny.rglob("*.png")}
    for row in cases.head(5).to_dicts():
        picture = Image.open(io.BytesIO(thumbnails.get(row["id"], row["uri"]) or b"")).resize((24, 20))
        nearest = min(originals, key=lambda path: np.abs(originals[path] - np.asarray(picture, float)).mean())
        assert f"{nearest.parent.name}/{nearest.name}".endswith(row["uri"])


def test_thumbnails_are_hashed_said_on_the_card_and_may_be_left_out(kept: Any) -> None:
    assert THUMBNAILS_FILE in kept.passport.files
    assert "small pictures of the labeled training images" in (kept.folder / "README.md").read_text()
    content = (kept.folder / THUMBNAILS_FILE).read_bytes()
    (kept.folder / THUMBNAILS_FILE).unlink()
    assert isograft.Model.load(kept.folder).content_hash == kept.content_hash
    (kept.folder / THUMBNAILS_FILE).write_bytes(content[:-1] + b"x")
    with pytest.raises(isograft.IsograftError, match="is damaged or was changed"):
        isograft.Model.load(kept.folder)
    (kept.folder / THUMBNAILS_FILE).write_bytes(content)


def test_the_same_training_keeps_the_same_bytes_and_one_that_is_not_asked_keeps_none(
    kept: Any, tiny: Path, cache: Path, tmp_path: Path
) -> None:
    again = isograft.finetune(tiny, out=tmp_path / "again", folds=2, keep_thumbnails=True, cache_dir=cache, **QUICK)
    assert (again.folder / THUMBNAILS_FILE).read_bytes() == (kept.folder / THUMBNAILS_FILE).read_bytes()
    without = isograft.finetune(tiny, out=tmp_path / "without", cache_dir=cache, **QUICK)
    assert not (without.folder / THUMBNAILS_FILE).exists() and "small pictures" not in (without.folder / "README.md").read_text()


def test_a_run_started_before_thumbnails_existed_can_be_resumed_without_them_only(tmp_path: Path) -> None:
    asked = FinetuneSettings(data="d", out=tmp_path / "run", init="scratch")
    with run_folder(asked.out, {name: value for name, value in asked.fixed.items() if name != "keep_thumbnails"}, resume=False) as run:
        run.remember(step=1)
        (run.path / "checkpoints").mkdir()
        (run.path / "checkpoints" / "last.ckpt").write_bytes(b"state")
    with run_folder(asked.out, asked.fixed, resume=True) as run:
        assert run.record["step"] == 1
    changed = asked.model_copy(update={"keep_thumbnails": True})
    with pytest.raises(isograft.IsograftError, match="keep_thumbnails: None became True"), run_folder(asked.out, changed.fixed, True):
        pass
    assert json.loads((asked.out / "run.json").read_text())["settings"] == json.loads(json.dumps(asked.fixed))
