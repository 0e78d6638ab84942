"""The one door to pixels: an image of a shard is read where it lay at ingest, and looked for by its name when it lies there no more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isograft.data import shards as of_shards
from isograft.data.containers import read_unchanged
from isograft.data.ingest import ingest
from isograft.data.manifest import Manifest
from isograft.data.readers import ReadError
from isograft.settings import IngestSettings

NAMES = [f"{number:02d}.png" for number in range(6)]


@pytest.fixture
def pool(tmp_path: Path, shards) -> Manifest:
    (tmp_path / "pool.tar").write_bytes(shards.tar({name: shards.png(number) for number, name in enumerate(NAMES)}))
    return ingest(IngestSettings(source=(str(tmp_path / "pool.tar"),), out=tmp_path / "m.parquet")).usable()


def pixels(manifest: Manifest) -> list[np.ndarray]:
    return [read_unchanged(place, 10**6)[0].array for place in manifest.addresses()]


def test_a_shard_is_not_gone_through_for_images_whose_place_is_known(pool: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool of many shards has more members than indexes are kept for: every image would cost the headers of a whole shard."""
    monkeypatch.setattr(of_shards, "_scanned", lambda *_, **__: pytest.fail("the shard is gone through"))
    monkeypatch.setattr(of_shards, "_indexes", of_shards._Indexes())
    assert len(pixels(pool)) == len(NAMES)


def test_of_a_shard_that_was_packed_anew_images_are_found_by_their_names(pool: Manifest, shards, tmp_path: Path) -> None:
    before = pixels(pool)
    (tmp_path / "pool.tar").write_bytes(shards.tar({name: shards.png(number) for number, name in reversed(list(enumerate(NAMES)))}))
    assert all(map(np.array_equal, before, pixels(pool)))


def test_an_image_that_took_the_place_of_another_is_not_taken_for_it(pool: Manifest, shards, tmp_path: Path) -> None:
    (tmp_path / "pool.tar").write_bytes(shards.tar({name: shards.png(number + 1) for number, name in enumerate(NAMES)}))
    with pytest.raises(ReadError, match="other pixels"):
        pixels(pool)
