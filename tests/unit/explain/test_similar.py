"""Similar cases against scikit-learn's neighbours, and what is said when they are not there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file
from sklearn.neighbors import NearestNeighbors

from isograft.cases import Cases
from isograft.data.ingest import ingest
from isograft.data.places import CASE_EMBEDDINGS_FILE, CASES_FILE
from isograft.errors import IsograftError
from isograft.explain.similar import SimilarCases
from isograft.settings import IngestSettings


@pytest.fixture
def folder(tmp_path: Path, image_tree: Path) -> Path:
    """A model folder with 12 cases of a tree of images."""
    manifest = ingest(IngestSettings(source=(image_tree,), out=image_tree / "m.parquet"))
    made = tmp_path / "model"
    made.mkdir()
    manifest.frame.write_parquet(made / "split.parquet")
    (made / "run.json").write_text(json.dumps({"images": {"folder": str(image_tree)}}))
    manifest.frame.select("id", "uri", "label").write_parquet(made / CASES_FILE)
    save_file({"embeddings": np.random.default_rng(0).normal(size=(12, 1, 5)).astype(np.float32)}, made / CASE_EMBEDDINGS_FILE)
    return made


def of(folder: Path) -> SimilarCases | None:
    return SimilarCases.of(SimpleNamespace(folder=folder, cases=lambda: Cases.load(folder)))


def embeddings(folder: Path) -> np.ndarray:
    from safetensors.numpy import load_file

    return load_file(folder / CASE_EMBEDDINGS_FILE)["embeddings"]


def test_the_nearest_cases_are_those_of_scikit_learn(folder: Path) -> None:
    asked = np.random.default_rng(1).normal(size=(1, 5)).astype(np.float32)
    distances, rows = NearestNeighbors(n_neighbors=4, metric="cosine").fit(embeddings(folder)[:, 0]).kneighbors(asked)
    cases = of(folder).nearest(asked, 4)
    table = pl.read_parquet(folder / CASES_FILE)
    assert [(one.id, one.label) for one in cases] == [table.select("id", "label").row(int(row)) for row in rows[0]]
    np.testing.assert_allclose([one.distance for one in cases], distances[0], atol=1e-6)


def test_an_image_is_no_case_of_its_own(folder: Path) -> None:
    own = pl.read_parquet(folder / CASES_FILE)["id"][3]
    cases = of(folder)
    with_own, without = (cases.nearest(embeddings(folder)[3], 12, name) for name in (None, own))
    assert with_own[0].id == own and with_own[0].distance < 1e-6
    assert [one.id for one in without] == [one.id for one in with_own[1:]]


def test_a_case_is_found_through_the_split_and_else_has_its_label_and_distance_only(folder: Path, image_tree: Path) -> None:
    cases = of(folder)
    asked = embeddings(folder)[0]
    assert all(one.place is not None and Path(one.place.file) == image_tree / one.uri for one in cases.nearest(asked, 12))
    (image_tree / "dark" / "dark2.png").unlink()
    lost = [one for one in of(folder).nearest(asked, 12) if one.place is None]
    assert [one.uri for one in lost] == ["dark/dark2.png"] and lost[0].label == "dark"
    for name in ("run.json", "split.parquet"):
        (folder / name).unlink()
        assert all(one.place is None and one.label for one in of(folder).nearest(asked, 3))


def test_a_model_without_cases_has_none(folder: Path) -> None:
    (folder / CASES_FILE).unlink()
    assert of(folder) is None


def test_cases_that_cannot_be_used_are_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(IsograftError, match=r"shape \(1, 5\), but the model's have shape \(1, 7\)"):
        of(folder).nearest(np.ones((1, 7), np.float32), 3)
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    pl.read_parquet(other / CASES_FILE).head(5).write_parquet(other / CASES_FILE)
    with pytest.raises(IsograftError, match=r"shape \(12, 1, 5\) but cases\.parquet has 5 rows"):
        Cases.load(other)
    (other / CASE_EMBEDDINGS_FILE).write_bytes(b"nothing")
    with pytest.raises(IsograftError, match=r"cannot be read.*copy the model folder again"):
        Cases.load(other)


def test_an_embedding_of_zeros_is_at_distance_one_from_everything(folder: Path) -> None:
    assert [one.distance for one in of(folder).nearest(np.zeros((1, 5), np.float32), 12)] == [1.0] * 12


def test_several_networks_compare_by_the_mean_of_their_cosines() -> None:
    rng = np.random.default_rng(2)
    arrays = rng.normal(size=(9, 3, 4)).astype(np.float32)
    table = pl.DataFrame({"id": [f"i{row}" for row in range(9)], "uri": ["u"] * 9, "label": ["a"] * 9})
    asked = rng.normal(size=(3, 4)).astype(np.float32)
    found = SimilarCases(Path("nowhere"), Cases(table, arrays)).nearest(asked, 9)
    each = [1 - (arrays[:, m] @ asked[m]) / np.linalg.norm(arrays[:, m], axis=1) / np.linalg.norm(asked[m]) for m in range(3)]
    mean = np.mean(each, axis=0)
    assert [one.id for one in found] == [f"i{row}" for row in np.argsort(mean)]
    np.testing.assert_allclose([one.distance for one in found], np.sort(mean), atol=1e-6)
