"""A pyramid made of real nuclei: tiles are trained on, and slides are told apart from file to answer."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
from tests.unit.data.slide_files import write_slide

import isograft

pytest.importorskip("openslide", reason="slides need the extra: pip install 'isograft[slides]'")


def mosaic(files: list[Path], seed: int, side: int = 8) -> np.ndarray:
    """Nuclei of 27 px enlarged to 64 px, side by side on a glass edge: uint8 RGB."""
    draw = np.random.default_rng(seed)
    cells = [
        cv2.resize(cv2.imread(str(file))[..., ::-1], (64, 64), interpolation=cv2.INTER_CUBIC) for file in draw.choice(files, side * side)
    ]
    tissue = np.vstack([np.hstack(cells[row * side : (row + 1) * side]) for row in range(side)])
    return np.pad(tissue, ((0, 512), (0, 512), (0, 0)), constant_values=243)


def test_tiles_of_slides_go_from_ingest_to_an_answer_for_every_slide(real_data: Path, tmp_path: Path) -> None:
    cells = real_data / "histology" / "crc_nuclei"
    table = pl.read_csv(cells / "labels.csv").filter(pl.col("part") == "main")
    for kind in ("epithelial", "inflammatory"):
        files = [cells / "images" / name for name in table.filter(pl.col("cell_type") == kind)["file"]]
        files = [file for file in files if file.is_file()]
        for number in range(6):
            write_slide(tmp_path / ("new" if number == 5 else "slides") / kind / f"{kind}{number}.tif", mosaic(files, number))
    made = isograft.ingest([tmp_path / "slides"], out=tmp_path / "m.parquet", tile_size=64, microns_per_pixel=0.25)
    usable = made.usable().frame
    assert usable["slide"].n_unique() == 10 and usable["group"].n_unique() == 10
    assert 0.9 * 640 <= len(usable) <= 1.2 * 640  # the tissue is 64 tiles of each slide, the glass none
    options = {"backbone": "test_resnet", "image_size": 64, "seed": 0, "cache_dir": tmp_path / "cache"}
    model = isograft.finetune(made, out=tmp_path / "model", init="scratch", strategy="probe", **options)
    told = isograft.predict(
        model, tmp_path / "new", out=tmp_path / "told.csv", pool_by="file", tile_size=64, microns_per_pixel=0.25, top_k=20
    )
    assert sorted(told["file"]) == ["epithelial/epithelial5.tif", "inflammatory/inflammatory5.tif"]
    assert (told["images"] >= 55).all() and (told["unanswered"] == 0).all()
    assert told.select("p_epithelial", "p_inflammatory").sum_horizontal().to_list() == pytest.approx([1.0, 1.0])
    assert all(file.startswith(answer) for file, answer in told.select("file", "predicted").rows())
    again = isograft.predict(model, made, out=tmp_path / "tiles.parquet")
    assert len(again) == len(made) and again["uri"].str.contains("#x=").all()
