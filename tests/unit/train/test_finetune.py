import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import isograft
from isograft.errors import IsograftError, LeakageError

SMALL: dict[str, Any] = {"image_size": 32, "threads": 1}


def plan(folder: Path) -> dict[str, Any]:
    return {entry["name"]: entry["value"] for entry in json.loads((folder / "model.json").read_text())["plan"]}


@pytest.fixture
def unseen(tiny: Path, backbone: Path, cache: Path, tmp_path: Path) -> Path:
    """A backbone that has seen none of the labeled images."""
    import cv2
    import numpy as np

    pool = tmp_path / "pool"
    pool.mkdir()
    for path in tiny.rglob("*.png"):
        image = cv2.imread(str(path))
        cv2.imwrite(str(pool / f"{path.parent.name}{path.name}"), np.ascontiguousarray(255 - image))
    out = tmp_path / "unseen"
    isograft.pretrain(
        pool, out=out, backbone="test_resnet", image_size=32, epochs=1, batch_size=16, cache_dir=cache, threads=1, domain="dermoscopy"
    )
    return out


@pytest.mark.parametrize("strategy", ["probe", "full", "probe-then-full", "paper"])
def test_every_strategy_makes_a_classifier_that_scores_its_own_test_split(
    strategy: str, unseen: Path, tiny: Path, cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / strategy
    short = {} if strategy == "probe" else {"epochs": 2}
    model = isograft.finetune(tiny, out=out, init=str(unseen), strategy=strategy, **short, cache_dir=cache, **SMALL)
    assert model.classes == ["spot", "stripes"]
    metrics = isograft.evaluate(out, out=tmp_path / "evaluation")
    split = pl.read_parquet(out / "split.parquet")
    assert metrics["n_images"] == (split["split"] == "test").sum() > 5
    assert len(model.seen()) == 48 + (split["split"] == "train").sum()


def test_the_paper_preset_is_the_paper_s(unseen: Path, tiny: Path, cache: Path, tmp_path: Path) -> None:
    isograft.finetune(tiny, out=tmp_path / "model", init=str(unseen), strategy="paper", epochs=1, cache_dir=cache, **SMALL)
    decided = plan(tmp_path / "model")
    wanted = {"optimizer": "sgd", "lr": 1e-3, "head_lr": 1e-2, "batch_size": 8, "weight_decay": 1e-4, "schedule": "constant"}
    assert {name: decided[name] for name in wanted} == wanted


def test_the_paper_preset_runs_a_hundred_epochs_unless_told() -> None:
    from isograft.plan import Plan
    from isograft.settings import FinetuneSettings
    from isograft.train.finetune_plan import plan_finetuning

    made = Plan()
    settings = FinetuneSettings(data="d", out=Path("o"), init="x", strategy="paper")
    plan_finetuning(made, settings, train_images=80, validated=False, started=True, kept_statistics=True)
    assert (made["epochs"], made["total_steps"]) == (100, 1000)


def test_from_scratch_everything_is_trained(tiny: Path, cache: Path, tmp_path: Path) -> None:
    isograft.finetune(tiny, out=tmp_path / "m", init="scratch", backbone="test_resnet", epochs=1, cache_dir=cache, **SMALL)
    assert plan(tmp_path / "m")["strategy"] == "full"


def test_label_budgets_are_exact_and_nested_and_share_the_test_split(unseen: Path, tiny: Path, cache: Path, tmp_path: Path) -> None:
    tables = {}
    for budget in (5, 10):
        out = tmp_path / str(budget)
        isograft.finetune(tiny, out=out, init=str(unseen), strategy="probe", labels_per_class=budget, cache_dir=cache, **SMALL)
        tables[budget] = pl.read_parquet(out / "split.parquet")
        train = tables[budget].filter(pl.col("split") == "train")
        assert train["label"].value_counts().sort("label")["count"].to_list() == [budget, budget]
    few, many = (set(tables[budget].filter(pl.col("split") == "train")["id"]) for budget in (5, 10))
    assert few < many
    tests = [set(table.filter(pl.col("split") == "test")["id"]) for table in tables.values()]
    assert tests[0] == tests[1]


def test_a_given_validation_set_chooses_the_weights_and_counts_as_seen(unseen: Path, tiny: Path, cache: Path, tmp_path: Path) -> None:
    val = tmp_path / "val"
    for name in ("spot", "stripes"):
        (val / name).mkdir(parents=True)
        for number in range(3):
            shutil.move(str(_copy(tiny, tmp_path) / name / f"{number}.png"), val / name / f"{number}.png")
    data = tmp_path / "copy"
    out = tmp_path / "model"
    model = isograft.finetune(data, out=out, init=str(unseen), val=str(val), test_fraction=0, epochs=2, cache_dir=cache, **SMALL)
    assert "val_macro_f1" in model.passport.metrics
    with pytest.raises(LeakageError):
        isograft.evaluate(out, str(val), out=tmp_path / "evaluation", cache_dir=cache)


def _copy(tiny: Path, tmp_path: Path) -> Path:
    target = tmp_path / "copy"
    if not target.exists():
        shutil.copytree(tiny, target)
    return target


def test_a_test_split_inside_the_pool_is_announced_and_refused(
    backbone: Path, tiny: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model"
    isograft.finetune(tiny, out=out, init=str(backbone), strategy="probe", cache_dir=cache, **SMALL)
    assert "evaluate will refuse" in capsys.readouterr().err
    with pytest.raises(LeakageError):
        isograft.evaluate(out, out=tmp_path / "evaluation")


def test_one_class_only_is_refused(tiny: Path, cache: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny / "spot", tmp_path / "data" / "spot")
    with pytest.raises(IsograftError, match=r"one class only \('spot'\)"):
        isograft.finetune(tmp_path / "data", out=tmp_path / "m", init="scratch", backbone="test_resnet", cache_dir=cache, **SMALL)


def test_fewer_labels_than_asked_is_refused(tiny: Path, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(IsograftError, match="fewer than the 40 asked for"):
        isograft.finetune(tiny, out=tmp_path / "m", init="scratch", backbone="test_resnet", labels_per_class=40, cache_dir=cache, **SMALL)


def test_weights_of_an_unnamed_network_need_its_name(tiny: Path, cache: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    from safetensors.torch import save_file
    from torch import zeros

    save_file({"conv1.weight": zeros(3)}, file)
    with pytest.raises(IsograftError, match="--backbone"):
        isograft.finetune(tiny, out=tmp_path / "m", init=str(file), cache_dir=cache, **SMALL)
