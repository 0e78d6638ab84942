from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from isograft.data.manifest import Manifest
from isograft.errors import IsograftError
from isograft.fetch.catalogue import pool_named, pools
from isograft.fetch.client import Client
from isograft.fetch.fetch import fetch_pool
from isograft.fetch.medmnist import array_rows
from isograft.settings import FetchSettings

COUNTS = {"train": 6, "val": 3, "test": 4}


@pytest.fixture
def served(replay, arrays, tmp_path):
    """A function that fetches a small DermaMNIST, and the server."""
    body = arrays(COUNTS, 28)
    replay.bodies["/dermamnist.npz"] = body
    pool = pool_named("dermamnist")
    pool = replace(pool, facts={**pool.facts, "counts": COUNTS, "md5": {"28": hashlib.md5(body, usedforsecurity=False).hexdigest()}})

    def run(**options: Any) -> Manifest:
        settings = FetchSettings.model_validate({"name": pool.name, "out": tmp_path / "o", "accept_licence": True, **options})
        return fetch_pool(settings, pool, Client(timeout=2, attempts=3, backoff=0.01), replay.base)

    return run, replay


def test_arrays_become_images_with_their_split_and_named_class(served, tmp_path) -> None:
    run, replay = served
    manifest = run()
    assert dict(manifest.frame["split"].value_counts().rows()) == COUNTS
    row = manifest.frame.filter(manifest.frame["uri"] == "images/val/000001.png").row(0, named=True)
    assert (row["label"], row["licence"], row["source"], row["status"]) == ("basal cell carcinoma", "CC BY-NC 4.0", "dermamnist", "ok")
    with np.load(io.BytesIO(replay.bodies["/dermamnist.npz"])) as held:
        pixels = cv2.imread(str(tmp_path / "o" / "images" / "val" / "000001.png"))[..., ::-1]
        assert np.array_equal(pixels, held["val_images"][1])
    assert "Tschandl" in (tmp_path / "o" / "LICENCE.txt").read_text()


def test_a_dropped_archive_goes_on_and_a_finished_fetch_asks_for_nothing(served, tmp_path) -> None:
    run, replay = served
    replay.faults["/dermamnist.npz"] = ["drop"]
    run()
    assert [asked is not None for _, asked in replay.asked] == [False, True]
    replay.asked.clear()
    run()
    assert replay.asked == []
    (tmp_path / "o" / "images" / "test" / "000000.png").write_bytes(b"x")
    assert len(run().usable()) == sum(COUNTS.values())
    assert len(replay.asked) == 1


def test_an_archive_with_another_md5_is_refused(served, tmp_path) -> None:
    run, replay = served
    replay.bodies["/dermamnist.npz"] += b"!"
    with pytest.raises(IsograftError, match="MD5"):
        run()
    assert not list((tmp_path / "o" / "images").iterdir())


def packed(array: np.ndarray) -> zipfile.ZipFile:
    stream = io.BytesIO()
    np.savez(stream, x=array)
    return zipfile.ZipFile(stream)


@pytest.mark.parametrize(
    "array",
    [
        np.array([{"a": 1}], object),
        np.zeros((2, 3), np.float32),
        np.zeros((2, 4), np.uint8),
        np.asfortranarray(np.zeros((2, 3), np.uint8)),
        np.full((2, 3), 300, np.int64),
    ],
)
def test_an_array_of_another_kind_is_refused_and_never_unpickled(array) -> None:
    with pytest.raises(ValueError):
        list(array_rows(packed(array), "x", (2, 3)))


def test_labels_of_wider_numbers_are_read() -> None:
    rows = list(array_rows(packed(np.arange(6, dtype=np.int64).reshape(2, 3)), "x", (2, 3)))
    assert [row.tolist() for row in rows] == [[0, 1, 2], [3, 4, 5]] and rows[0].dtype == np.uint8


def test_the_catalogue_knows_every_size_of_every_subset() -> None:
    subsets = [pool for pool in pools().values() if pool.medmnist]
    assert len(subsets) == 12
    sums = [md5 for pool in subsets for md5 in pool.facts["md5"].values()]
    assert len(set(sums)) == 48 and all(len(md5) == 32 for md5 in sums)
    assert all(pool.facts["md5"].keys() == {str(size) for size in pool.sizes} and len(pool.facts["classes"]) > 1 for pool in subsets)
