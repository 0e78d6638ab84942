"""Explaining a classifier of real foot skin through the command line: every file it leaves is looked at."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

import isograft
from isograft.cli import main
from isograft.explain.explainer import Explainer
from isograft.inference import read_picture
from isograft.networks.backbones import build_backbone, feature_count
from isograft.networks.heads import Classifier, build_head

IMAGES = 6


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return int(caught.value.code or 0)


@pytest.fixture(scope="module")
def story(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A classifier of 160 patches, six patches to explain with two files that are no images, and what explain made of them."""
    root = tmp_path_factory.mktemp("explain")
    for label in ("skin", "ulcer"):
        files = sorted((real_data / "foot" / label).iterdir())
        for place, files_of in (("labeled", files[: 80 * 5 : 5]), ("new", files[402 : 402 + IMAGES // 2])):
            folder = root / place / label if place == "labeled" else root / place
            folder.mkdir(parents=True, exist_ok=True)
            for file in files_of:
                shutil.copy(file, folder / f"{label}_{file.name}" if place == "new" else folder / file.name)
    (root / "new" / "cut off.png").write_bytes((root / "new" / next(p.name for p in (root / "new").iterdir())).read_bytes()[:400])
    (root / "new" / "words.jpg").write_text("no image")
    options = ("--init", "scratch", "--backbone", "alzubaidi_light", "--backbone-arg", "width=8", "--image-size", 64, "--epochs", 6)
    more = ("--strategy", "full", "--batch-size", 16, "--precision", "fp32", "--cache-dir", root / "cache", "--threads", 1)
    assert run("finetune", root / "labeled", "--out", root / "model", *options, *more) == 0
    assert run("explain", root / "model", root / "new", "--out", root / "out", "--features") == 0
    yield root
    shutil.rmtree(root, ignore_errors=True)


@pytest.mark.real
def test_every_image_has_a_picture_an_array_and_the_answer_of_predict(story: Path) -> None:
    table = pl.read_csv(story / "out" / "explain.csv")
    assert len(table) == IMAGES + 2 and table["status"].to_list().count("ok") == IMAGES
    isograft.predict(story / "model", story / "new", out=story / "p.csv")
    assert table.select("id", "uri", "predicted", "p_skin", "p_ulcer").equals(
        pl.read_csv(story / "p.csv").select("id", "uri", "predicted", "p_skin", "p_ulcer")
    )
    for row in table.filter(pl.col("status") == "ok").rows(named=True):
        values = np.load(story / "out" / row["array"], allow_pickle=False)
        assert values.shape == (64, 64) and values.dtype == np.float32 and values.min() >= 0 and np.isfinite(values).all()
        sheet = cv2.imread(str(story / "out" / row["picture"]))
        assert sheet.shape[1] > 1.5 * sheet.shape[0] and sheet.std() > 20
    for row in table.filter(pl.col("status") != "ok").rows(named=True):
        assert row["reason"] and row["array"] is None
    assert (story / "out" / "filters.png").is_file() and (story / "out" / "feature_maps.png").is_file()


@pytest.mark.real
@pytest.mark.parametrize("method", ["grad-cam", "occlusion", "integrated-gradients"])
def test_on_real_images_too_random_weights_give_another_map(story: Path, method: str) -> None:
    model = isograft.Model.load(story / "model")
    backbone = build_backbone("alzubaidi_light", {"width": 8}, 64)
    other = Classifier(backbone, build_head("linear", feature_count(backbone), 2)).eval()
    trained, drawn = (Explainer(network, model.preprocess, method) for network in (model.network(), other))
    agreement = []
    for file in sorted((story / "new").glob("*_train*.png")):
        pixels = read_picture(file, model.preprocess).pixels
        one, two = (explainer.explain(pixels, 1).values.ravel() for explainer in (trained, drawn))
        if np.ptp(one) and np.ptp(two):
            agreement.append(spearmanr(one, two).statistic)
    assert len(agreement) >= 2 and np.mean(agreement) < 0.7
