"""Pool, lesions, foot: two hops on real images, with the paper's network, through the commands a user would type."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import isograft

pytestmark = pytest.mark.real

NETWORK = ("--backbone", "alzubaidi_dcnn", "--backbone-arg", "width=8", "--image-size", "32")


def isograft_command(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "isograft", *map(str, words)], capture_output=True, text=True)


def succeed(*words: object) -> str:
    done = isograft_command(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def chain(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pool.parquet, two labeled manifests and the models pool -> lesions -> foot."""
    out = tmp_path_factory.mktemp("chain")
    pool = out / "pool-images"
    pool.mkdir()
    for path in sorted((real_data / "skin/ham10000/images").glob("*.jpg"))[:120]:
        shutil.copy(path, pool)
    cache = ("--cache-dir", out / "cache")
    succeed("ingest", pool, "--out", out / "pool.parquet", "--drop-labels")
    succeed("ingest", real_data / "skin/uda1", "--out", out / "lesions.parquet")
    foot = real_data / "foot"
    columns = ("--label-column", "label", "--group-column", "source_image")
    succeed("ingest", foot, "--labels", foot / "patches.csv", *columns, "--out", out / "foot.parquet")
    succeed("pretrain", out / "pool.parquet", "--out", out / "pretrained", *NETWORK, "--epochs", 1, "--batch-size", 32, *cache)
    few = ("--labels-per-class", 10, "--epochs", 2, *cache)
    succeed("finetune", out / "lesions.parquet", "--init", out / "pretrained", "--out", out / "lesion-model", *few)
    succeed("finetune", out / "foot.parquet", "--init", out / "lesion-model", "--out", out / "foot-model", *few)
    return out


def test_the_second_hop_takes_the_whole_network_along(chain: Path) -> None:
    passport = json.loads((chain / "foot-model/model.json").read_text())
    assert passport["backbone"]["arguments"] == {"width": 8}
    assert passport["init"]["account"]["missing"] == []
    assert passport["parents"][0]["parents"][0]["method"] == "simclr"


def test_show_draws_the_chain_and_gives_the_reasons(chain: Path) -> None:
    text = succeed("show", chain / "foot-model")
    assert text.index("classifier of skin, ulcer") < text.index("classifier of melanoma, nevus") < text.index("backbone: alzubaidi_dcnn")
    assert "probe-then-full" in text


def test_every_ancestor_s_images_count_as_seen(chain: Path) -> None:
    seen = isograft.Model.load(chain / "foot-model").seen()
    assert seen.group_by("role").len().sort("role").rows() == [("pretrain", 120), ("train", 40)]


def test_evaluate_scores_the_held_out_patches_of_other_photographs(chain: Path) -> None:
    succeed("evaluate", chain / "foot-model", "--out", chain / "evaluation")
    metrics = json.loads((chain / "evaluation/metrics.json").read_text())
    split = pl.read_parquet(chain / "foot-model/split.parquet")
    assert metrics["n_images"] == (split["split"] == "test").sum()
    sides = split.filter(pl.col("split").is_not_null()).group_by("group").agg(pl.col("split").n_unique())
    assert sides["split"].max() == 1
    assert 0 <= metrics["macro_f1"] <= 1


def test_predict_gives_the_numbers_of_evaluate_to_the_bit(chain: Path) -> None:
    if not (chain / "evaluation").exists():
        succeed("evaluate", chain / "foot-model", "--out", chain / "evaluation")
    scored = pl.read_parquet(chain / "evaluation/predictions.parquet")
    tested = isograft.Manifest.read(chain / "foot-model/split.parquet").select(pl.col("split") == "test")
    copies = chain / "new"
    copies.mkdir()
    for number, path in enumerate(tested.locate()[:9]):
        shutil.copy(path, copies / f"{9 - number}.png")  # another order, other neighbours
    (copies / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    succeed("predict", chain / "foot-model", copies, "--out", chain / "predictions.parquet")
    table = pl.read_parquet(chain / "predictions.parquet")
    assert len(table) == 10
    assert table.filter(pl.col("status") != "ok").height == 1
    both = table.filter(pl.col("status") == "ok").join(scored, on="id", how="inner", suffix="_scored").unique("uri")
    assert len(both) == 9
    for name in ("p_skin", "p_ulcer"):
        np.testing.assert_array_equal(both[name].to_numpy(), both[f"{name}_scored"].to_numpy())


def test_an_image_of_the_pool_is_refused_at_evaluation(chain: Path, tmp_path: Path) -> None:
    for name, source in (("nevus", chain / "pool-images"), ("melanoma", chain / "pool-images")):
        (tmp_path / "leaky" / name).mkdir(parents=True)
        files = sorted(source.glob("*.jpg"))
        shutil.copy(files[0 if name == "nevus" else 1], tmp_path / "leaky" / name)
    done = isograft_command("evaluate", chain / "lesion-model", tmp_path / "leaky", "--out", tmp_path / "out", "--cache-dir", tmp_path)
    assert done.returncode == 3
    assert not (tmp_path / "out").exists()
    allowed = ("--allow-leakage", "--cache-dir", tmp_path)
    succeed("evaluate", chain / "lesion-model", tmp_path / "leaky", "--out", tmp_path / "out", *allowed)
    assert "leak" in (tmp_path / "out/report.html").read_text().lower()


def test_a_flipped_byte_is_found(chain: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "model"
    shutil.copytree(chain / "foot-model", damaged)
    content = bytearray((damaged / "model.safetensors").read_bytes())
    content[len(content) // 2] ^= 1
    (damaged / "model.safetensors").write_bytes(content)
    done = isograft_command("show", damaged)
    assert done.returncode == 2
    assert "model.safetensors is damaged" in done.stderr


def test_a_wrong_option_answers_in_one_sentence(chain: Path) -> None:
    done = isograft_command("finetune", chain / "foot.parquet", "--out", chain / "x", "--init", "scratch", "--label-per-class", 5)
    assert done.returncode == 2
    assert "--labels-per-class" in done.stderr
    assert "Traceback" not in done.stderr
