"""The verb from end to end, on images drawn here."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest

import isograft
from isograft.errors import IsograftError

QUICK: dict[str, Any] = {"image_size": 32, "threads": 1, "init": "scratch", "backbone": "test_resnet"}


def draw(kind: int, seed: int) -> np.ndarray:
    """A 40 x 48 image, dark or light by its kind."""
    rng = np.random.default_rng(1000 * kind + seed)
    coarse = rng.integers(0, 100, (4, 5, 3)) + 130 * kind
    return cv2.resize(coarse.astype(np.uint8), (48, 40), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labeled tree of 2 x 12 images, and a pool of 20 others, one of them broken, six of the labeled ones, and a copy."""
    root = tmp_path_factory.mktemp("suggest")
    for kind, name in enumerate(("dark", "light")):
        (root / "labeled" / name).mkdir(parents=True)
        (root / "pool" / "more").mkdir(parents=True, exist_ok=True)
        for seed in range(12):
            cv2.imwrite(str(root / "labeled" / name / f"{name}{seed}.png"), draw(kind, seed))
        for seed in range(20, 30):
            cv2.imwrite(str(root / "pool" / "more" / f"{kind}-{seed}.png"), draw(kind, seed))
        for seed in range(3):
            shutil.copy(root / "labeled" / name / f"{name}{seed}.png", root / "pool" / f"labeled-{name}{seed}.png")
    shutil.copy(root / "pool" / "more" / "0-20.png", root / "pool" / "copy.png")
    (root / "pool" / "cut.png").write_bytes((root / "pool" / "copy.png").read_bytes()[:90])
    return root


@pytest.fixture(scope="module")
def classifier(root: Path) -> Path:
    out = root / "classifier"
    isograft.finetune(root / "labeled", out=out, strategy="probe", cache_dir=root / "cache", **QUICK)
    return out


@pytest.fixture(scope="module")
def backbone(root: Path) -> Path:
    out = root / "backbone"
    isograft.pretrain(root / "pool", out=out, epochs=1, batch_size=8, cache_dir=root / "cache", **QUICK)
    return out


def test_a_classifier_is_asked_about_images_it_has_no_label_of_and_the_rest_is_counted(
    root: Path, classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = isograft.suggest(classifier, root / "pool", n=100, out=tmp_path / "next.csv", strategy="uncertainty")
    assert table.columns == ["uri", "rank", "id", "why", "predicted", "p_predicted"]
    assert table["rank"].to_list() == list(range(1, 21)) and table["id"].n_unique() == 20
    names = {Path(uri).name for uri in table["uri"]}
    assert not any("labeled" in name or "cut" in name for name in names)
    assert set(table["why"]) <= {"unsure between dark and light", "unsure between light and dark"}
    said = capsys.readouterr().err
    assert "1 of 28 inputs cannot be used (1 truncated)" in said and "6 of 28 images are labeled images of" in said
    assert "1 of 28 images have the very pixels of another image" in said and "all there are of the 100 asked for" in said


def test_predict_gives_what_suggest_said_and_finds_the_files_from_the_table(root: Path, classifier: Path, tmp_path: Path) -> None:
    table = isograft.suggest(classifier, root / "pool", n=5, out=tmp_path / "sub" / "next.csv")
    predicted = isograft.predict(classifier, tmp_path / "sub" / "next.csv", out=tmp_path / "p.parquet")
    assert predicted["status"].unique().to_list() == ["ok"] and predicted["id"].to_list() == table["id"].to_list()
    assert predicted["predicted"].to_list() == table["predicted"].to_list()
    np.testing.assert_array_equal(predicted.select(pl.max_horizontal("p_dark", "p_light")).to_series(), table["p_predicted"])


def test_labels_written_into_the_table_reach_the_files_even_where_these_are_called_like_ranks(
    root: Path, backbone: Path, tmp_path: Path
) -> None:
    (tmp_path / "pool").mkdir()
    files = sorted((root / "pool" / "more").iterdir())
    for number, file in enumerate(files[::-1]):
        shutil.copy(file, tmp_path / "pool" / f"{number}.png")
    table = isograft.suggest(backbone, tmp_path / "pool", n=6, out=tmp_path / "next.csv")
    table.with_columns(label=pl.Series(["a", "b", None] * 2)).write_csv(tmp_path / "next.csv")
    options: dict[str, Any] = {"labels": tmp_path / "next.csv", "where": "label IS NOT NULL", "allow_missing": True}
    labeled = isograft.ingest(tmp_path / "pool", out=tmp_path / "m.parquet", **options).frame
    expected = dict(zip(table["id"], ["a", "b", None] * 2, strict=True))
    assert len(labeled) == 4 and {row["id"]: row["label"] for row in labeled.to_dicts()} == {k: v for k, v in expected.items() if v}


def test_a_backbone_covers_the_pool_and_knows_no_class(root: Path, backbone: Path, tmp_path: Path) -> None:
    table = isograft.suggest(backbone, root / "pool", n=4, out=tmp_path / "next.csv")
    assert table.columns == ["uri", "rank", "id", "why"] and len(table) == 4
    assert all("typical of" in why or why == "unlike all others" for why in table["why"])
    with pytest.raises(IsograftError, match="--strategy uncertainty needs a classifier"):
        isograft.suggest(backbone, root / "pool", n=4, out=tmp_path / "b.csv", strategy="uncertainty")


@pytest.mark.parametrize("strategy", ["coverage", "uncertainty"])
def test_the_order_of_the_pool_changes_nothing(root: Path, classifier: Path, tmp_path: Path, strategy: Any) -> None:
    files = sorted((root / "pool" / "more").iterdir())
    chosen = []
    for name, order in (("a", files), ("b", files[::-1])):
        pl.DataFrame({"image": [str(file) for file in order], "age": range(20)}).write_csv(tmp_path / f"{name}.csv")
        table = isograft.suggest(classifier, tmp_path / f"{name}.csv", n=7, out=tmp_path / f"{name}-next.csv", strategy=strategy)
        chosen.append(table["id"].to_list())
        assert "age" in table.columns
    assert chosen[0] == chosen[1] and len(set(chosen[0])) == 7


def test_rows_with_a_label_are_left_out_and_a_patient_comes_again_after_the_others(
    root: Path, backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted((root / "pool" / "more").iterdir())
    rows = {"image": [str(file) for file in files], "label": ["x", ""] * 10, "group": [f"p{number // 4}" for number in range(20)]}
    pl.DataFrame(rows).write_csv(tmp_path / "pool.csv")
    table = isograft.suggest(backbone, tmp_path / "pool.csv", n=5, out=tmp_path / "next.csv")
    assert "10 of 20 images have a label in the pool" in capsys.readouterr().err
    assert {Path(uri).name for uri in table["uri"]} <= {file.name for file in files[1::2]} and "group" in table.columns
    pl.DataFrame({**rows, "label": ["x"] * 20}).write_csv(tmp_path / "full.csv")
    with pytest.raises(IsograftError, match=r"full\.csv has no image left to label: of 20, 20 can be read, and all of them are labeled"):
        isograft.suggest(backbone, tmp_path / "full.csv", n=5, out=tmp_path / "none.csv")


def test_a_manifest_gives_what_its_folder_gives(root: Path, classifier: Path, tmp_path: Path) -> None:
    isograft.ingest(root / "pool" / "more", out=tmp_path / "pool.parquet", drop_labels=True)
    tables = [
        isograft.suggest(classifier, source, n=6, out=tmp_path / f"{name}.csv")
        for name, source in (("a", root / "pool" / "more"), ("b", tmp_path / "pool.parquet"))
    ]
    assert tables[0].select("uri", "id", "why", "p_predicted").equals(tables[1].select("uri", "id", "why", "p_predicted"))


def test_an_output_that_exists_is_refused(root: Path, classifier: Path, tmp_path: Path) -> None:
    (tmp_path / "next.csv").write_text("mine")
    with pytest.raises(IsograftError, match="already exists"):
        isograft.suggest(classifier, root / "pool", n=5, out=tmp_path / "next.csv")
    assert (tmp_path / "next.csv").read_text() == "mine"


def test_images_inside_a_file_are_named_so_that_predict_finds_them(root: Path, classifier: Path, shard: Path, tmp_path: Path) -> None:
    table = isograft.suggest(classifier, shard.parent, n=5, out=tmp_path / "next.csv")
    assert all("000.tar#" in uri for uri in table["uri"])
    predicted = isograft.predict(classifier, tmp_path / "next.csv", out=tmp_path / "p.parquet")
    assert predicted["status"].unique().to_list() == ["ok"] and predicted["id"].to_list() == table["id"].to_list()
    assert predicted["uri"].to_list() == table["uri"].to_list()
