"""A whole evaluation on real photographs: two models compared, promises kept, what is no foot told from feet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

import isograft
from isograft.errors import IsograftError

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def feet(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classifiers of foot skin and ulcers on ImageNet features: one of 60 labels per class, one of 8."""
    root = tmp_path_factory.mktemp("feet")
    isograft.ingest(real_data / "foot", out=root / "feet.parquet", labels=real_data / "foot" / "patches.csv", group_column="source_image")
    for name, labels in (("many", 60), ("few", 8)):
        isograft.finetune(
            root / "feet.parquet", out=root / name, init="imagenet", image_size=64, strategy="probe", labels_per_class=labels, threads=1,
            cache_dir=root / "cache", operating_point="referral: ulcer sensitivity >= 0.9",
        )  # fmt: skip
    return root


@pytest.fixture(scope="module")
def metrics(feet: Path) -> dict[str, Any]:
    return isograft.evaluate(feet / "many", out=feet / "evaluation", against=feet / "few", prevalence="ulcer=0.1")


def test_every_figure_has_its_interval_over_photographs(metrics: dict[str, Any]) -> None:
    found = metrics["intervals"]["figures"]
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "macro_roc_auc", "mcc", "brier", "log_loss"):
        assert found[name]["low"] < metrics[name] < found[name]["high"] and found[name]["method"] == "BCa"
    assert metrics["n_groups"] < metrics["n_images"] and metrics["macro_roc_auc"] > 0.9


def test_more_labels_are_found_to_be_better_on_the_same_photographs(metrics: dict[str, Any]) -> None:
    against = metrics["against"]
    assert against["model"]["name"] == "few"
    loss = against["figures"]["log_loss"]
    assert loss["difference"] < 0 and loss["high"] < 0 and loss["p_holm"] < 0.05


def test_thresholds_and_sets_hold_about_what_they_promise(metrics: dict[str, Any]) -> None:
    (point,) = (one for one in metrics["operating_points"] if one["name"] == "referral")
    assert point["test"]["sensitivity"] > 0.75
    assert point["at_prevalence"]["ppv"] < point["test"]["ppv"] and point["intervals"]["sensitivity"]["low"] < 0.95
    for method in metrics["conformal"]["methods"].values():
        assert method["covered"] > 0.8


def test_the_outputs_agree_and_name_no_folder_of_the_machine(feet: Path, metrics: dict[str, Any]) -> None:
    folder = feet / "evaluation"
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    table = pl.read_csv(folder / "predictions.csv")
    assert table["abstain"].sum() == metrics["abstained"]["images"] and table["referral"].dtype == pl.Boolean
    for name in ("report.html", "checklist.md", "metrics.json", "predictions.csv"):
        assert str(feet) not in (folder / name).read_text(encoding="utf-8")
    assert "Heatmap of" in (folder / "report.html").read_text(encoding="utf-8")


def test_dermoscopy_and_nuclei_are_told_from_feet(feet: Path, real_data: Path) -> None:
    held = pl.read_csv(feet / "evaluation" / "predictions.csv")["domain_distance"].to_list()
    folders = {"skin": real_data / "skin" / "uda1" / "melanoma", "nuclei": real_data / "histology" / "crc_nuclei"}
    for name, folder in folders.items():
        files = sorted(path for path in folder.rglob("*") if path.suffix in {".jpg", ".png"})[:80]
        listed = feet / f"{name}.csv"
        pl.DataFrame({"image": [str(path) for path in files]}).write_csv(listed)
        foreign = isograft.predict(feet / "many", listed, out=feet / f"{name}.parquet")["domain_distance"].to_list()
        assert roc_auc_score([0] * len(held) + [1] * len(foreign), held + foreign) > 0.95, name


def test_a_model_of_other_classes_or_the_model_itself_is_no_comparison(feet: Path, real_data: Path, tmp_path: Path) -> None:
    with pytest.raises(IsograftError, match="is the tested model itself"):
        isograft.evaluate(feet / "many", out=tmp_path / "e", against=feet / "many")
    isograft.finetune(
        real_data / "skin" / "uda1", out=tmp_path / "skin", init="imagenet", image_size=64, strategy="probe", labels_per_class=10,
        threads=1, cache_dir=feet / "cache",
    )  # fmt: skip
    with pytest.raises(IsograftError, match=r"knows the classes melanoma, nevus, but .* knows skin, ulcer"):
        isograft.evaluate(feet / "many", out=tmp_path / "e", against=tmp_path / "skin")
