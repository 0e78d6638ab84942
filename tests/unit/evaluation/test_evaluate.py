"""`evaluate`: what it writes, what it refuses, and that it leaves nothing half done."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest
import torch

from isograft import lineage
from isograft.data.hashing import group_hash, pixel_hash
from isograft.data.manifest import Manifest, arrange, encode_uri
from isograft.data.places import describe_place
from isograft.data.preprocess import Preprocess
from isograft.errors import IsograftError, LeakageError
from isograft.evaluation.evaluate import evaluate
from isograft.judgement import Judgement
from isograft.lineage import SEEN_SCHEMA as SEEN
from isograft.model import BackboneRecord, Model, Passport
from isograft.predictions import UNSURE
from isograft.settings import EvaluateSettings
from isograft.train.partition import Partition

PASSPORT = Passport(
    kind="classifier", backbone=BackboneRecord(name="resnet18", features=2), head="linear", classes=["dark", "light"],
    preprocess=Preprocess(image_size=16, working_size=16), method="full",
)  # fmt: skip


class _Brightness(torch.nn.Module):
    """Calls bright images `light`, more surely the brighter they are."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean((1, 2, 3))
        return torch.stack([-mean, mean], dim=1)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_passport: Callable[..., None]) -> SimpleNamespace:
    """A model folder with a stand-in model, and a labeled manifest of 12 images of 6 patients."""
    images, rows = tmp_path / "images", []
    images.mkdir()
    for index in range(12):
        low = 20 if index % 2 == 0 else 150
        picture = np.random.default_rng(index).integers(low, low + 80, (20, 24, 3), dtype=np.uint8)
        cv2.imwrite(str(images / f"{index}.png"), picture[..., ::-1])
        digest = pixel_hash(picture)
        rows.append(
            {
                "id": digest[:16], "uri": f"images/{index}.png", "width": 24, "height": 20, "channels": 3, "bits": 8,
                "label": ("dark", "light")[index % 2], "group": f"patient{index // 2}",
                "pixel_hash": digest, "perceptual_hash": index, "status": "ok", "age": 40 + index,
            }
        )  # fmt: skip
    manifest = Manifest(arrange(pl.DataFrame(rows)), tmp_path / "m.parquet")
    folder = tmp_path / "model"
    folder.mkdir()
    write_passport(folder, PASSPORT)
    (folder / "history.csv").write_text("step,epoch,phase,train_loss\n0,0,full,2.5\n10,1,full,1.5\n")
    model = SimpleNamespace(
        folder=folder, classes=["dark", "light"], preprocess=Preprocess(image_size=16, working_size=16), content_hash="c0ffee" * 10,
        network=_Brightness, seen=lambda: world.seen, judgement=lambda: Judgement(missing="not fitted"),
        symmetries=lambda tta: ("identity",), passport=PASSPORT,
    )  # fmt: skip
    monkeypatch.setattr(Model, "load", lambda path: model)
    monkeypatch.setattr(lineage, "lineage_text", lambda model: "model\n└─ pool of ancestors")
    world = SimpleNamespace(root=tmp_path, manifest=manifest, model=model, seen=pl.DataFrame(schema=SEEN), out=tmp_path / "out")

    def run(data: Path | str | None = None, **options: Any) -> dict[str, Any]:
        given = {} if data is None else {"data": str(data), "cache_dir": tmp_path / "cache"}
        return evaluate(EvaluateSettings(model=folder, out=world.out, **given, **options))

    def write(frame: pl.DataFrame | None = None) -> Path:
        Manifest(manifest.frame if frame is None else frame, manifest.path).write(tmp_path / "m.parquet")
        return tmp_path / "m.parquet"

    def write_split(test: Callable[[int], bool]) -> None:
        numbers = np.arange(12)
        tested = np.array([test(index) for index in range(12)])
        keep(Partition(manifest, numbers[~tested], numbers[:0], numbers[tested]))

    def keep(rows: Partition) -> None:
        """As a training does."""
        table, images = rows.table()
        table.write_parquet(folder / "split.parquet")
        (folder / "run.json").write_text(json.dumps({"images": describe_place(images, folder)}))

    world.run, world.write, world.write_split, world.keep = run, write, write_split, keep
    return world


def test_all_outputs_are_written_and_agree(world: SimpleNamespace) -> None:
    metrics = world.run(world.write())
    written = ["checklist.md", "metrics.json", "predictions.csv", "predictions.parquet", "report.html"]
    assert sorted(path.name for path in world.out.iterdir()) == written
    assert json.loads((world.out / "metrics.json").read_text()) == metrics
    assert (metrics["accuracy"], metrics["n_images"], metrics["n_groups"]) == (1.0, 12, 6)
    assert metrics["confusion_matrix"] == [[6, 0], [0, 6]]
    table = pl.read_parquet(world.out / "predictions.parquet")
    assert table.columns == ["id", "uri", "label", "group", "predicted", "p_dark", "p_light", *UNSURE, "age"]
    assert table["uri"].to_list() == world.manifest.frame["uri"].to_list() and table["age"].to_list() == list(range(40, 52))
    assert (table["predicted"] == table["label"]).all()
    assert pl.read_csv(world.out / "predictions.csv")["p_light"].to_list() == table["p_light"].to_list()
    page = (world.out / "report.html").read_text()
    assert "└─ pool of ancestors" in page and "train_loss from 2.5 to 1.5" in page and "6 groups" in page and "Leaked." not in page
    assert not [path for path in world.root.iterdir() if "partial" in path.name]


def test_without_data_the_models_own_test_split_is_scored(world: SimpleNamespace) -> None:
    world.write_split(lambda index: index < 4)
    metrics = world.run()
    assert metrics["n_images"] == 4 and metrics["data"]["own_test_split"]
    assert "same data as the training images" in (world.out / "report.html").read_text()


def test_where_chooses_among_the_own_test_split_too(world: SimpleNamespace) -> None:
    world.write_split(lambda index: index < 6)
    assert world.run(where="age < 44")["n_images"] == 4
    assert "age &lt; 44" in (world.out / "report.html").read_text()
    world.out = world.root / "other"
    with pytest.raises(IsograftError, match="holds for no image of the test split"):
        world.run(where="age > 99")


def test_outputs_name_model_and_data_but_no_folder_of_the_machine(world: SimpleNamespace) -> None:
    world.write_split(lambda index: index < 4)
    for data in (None, world.write()):
        world.out = world.root / f"out-{data is None}"
        metrics = world.run(data)
        assert metrics["model"]["name"] == "model"
        for path in world.out.iterdir():
            assert str(world.root).encode() not in path.read_bytes(), path.name
    assert metrics["data"]["name"] == "m.parquet"


def test_predictions_of_a_folder_name_no_folder_of_the_machine(world: SimpleNamespace, tmp_path: Path) -> None:
    for index, label in enumerate(world.manifest.frame["label"]):
        target = tmp_path / "given" / label
        target.mkdir(parents=True, exist_ok=True)
        (target / f"{index}.png").write_bytes((world.root / "images" / f"{index}.png").read_bytes())
    world.out = world.root / "out-folder"
    world.run(tmp_path / "given")
    for path in world.out.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), path.name


def test_the_own_test_split_is_read_from_any_file_name(world: SimpleNamespace) -> None:
    """A percent sign, a number sign and a byte that is no UTF-8."""
    strange = os.fsdecode(b"100% #1 \xff.png")
    (world.root / "images" / "2.png").rename(world.root / "images" / strange)
    uris = [f"images/{strange}" if index == 2 else f"images/{index}.png" for index in range(12)]
    frame = world.manifest.frame.with_columns(pl.Series("uri", [encode_uri(uri) for uri in uris]))
    world.keep(Partition(Manifest(frame, world.manifest.path), np.arange(4, 12), np.arange(0), np.arange(4)))
    assert world.run()["n_images"] == 4


@pytest.mark.parametrize("test", [None, lambda index: False])
def test_a_missing_or_empty_test_split_is_one_clear_sentence(world: SimpleNamespace, test: Callable[[int], bool] | None) -> None:
    if test is not None:
        world.write_split(test)
    with pytest.raises(IsograftError, match=r"no test split|kept no image for the test") as caught:
        world.run()
    assert "give labeled data" in str(caught.value) and "--test-fraction" not in str(caught.value)


def test_test_images_that_moved_away_are_named(world: SimpleNamespace) -> None:
    world.write_split(lambda index: index < 4)
    (world.root / "images" / "2.png").unlink()
    with pytest.raises(IsograftError, match=r"1 of 4 test images are no longer where they were, such as .*2\.png; .*give labeled data"):
        world.run()


def test_without_the_record_of_its_run_a_model_cannot_find_its_test_images_and_asks_for_data(world: SimpleNamespace) -> None:
    world.write_split(lambda index: index < 4)
    (world.model.folder / "run.json").unlink()
    with pytest.raises(IsograftError, match=r"does not say where its test images lie, as its run\.json is missing; give labeled data"):
        world.run()


@pytest.mark.parametrize("how", ["same pixels", "same group"])
def test_seen_images_and_groups_are_refused_and_nothing_is_written(world: SimpleNamespace, how: str) -> None:
    first = world.manifest.frame.row(0, named=True)
    seen = {"pixel_hash": "x", "perceptual_hash": 0, "group_hash": "y", "role": "pretrain", "origin": "pool"}
    seen |= {"pixel_hash": first["pixel_hash"]} if how == "same pixels" else {"group_hash": group_hash(first["group"])}
    world.seen = pl.DataFrame([seen], schema=SEEN)
    with pytest.raises(
        LeakageError, match=rf"{1 if how == 'same pixels' else 2} of 12 images .*images/0\.png \({how}, pretrain of pool\)"
    ) as caught:
        world.run(world.write())
    assert caught.value.exit_code == 3 and not world.out.exists()


def test_allowed_leakage_is_stamped_on_every_output(world: SimpleNamespace) -> None:
    pixels = world.manifest.frame["pixel_hash"][3]
    world.seen = pl.DataFrame(
        [{"pixel_hash": pixels, "perceptual_hash": 0, "group_hash": "y", "role": "train", "origin": "m"}], schema=SEEN
    )
    metrics = world.run(world.write(), allow_leakage=True)
    assert metrics["leakage"] == {"allowed": True, "images": 1}
    assert pl.read_csv(world.out / "predictions.csv")["leaked"].to_list() == [index == 3 for index in range(12)]
    assert "has seen 1 of the 12 tested images" in (world.out / "report.html").read_text()


def test_a_file_that_changed_since_ingest_is_refused_as_the_leak_check_did_not_see_it(world: SimpleNamespace) -> None:
    data = world.write()
    cv2.imwrite(str(world.root / "images" / "5.png"), np.full((20, 24, 3), 200, np.uint8))
    with pytest.raises(IsograftError, match=r"5\.png has changed since it was ingested"):
        world.run(data)
    assert not world.out.exists()


def test_an_unknown_class_is_one_clear_sentence(world: SimpleNamespace) -> None:
    frame = world.manifest.frame.with_columns(pl.when(pl.col("age") == 44).then(pl.lit("grey")).otherwise("label").alias("label"))
    with pytest.raises(IsograftError, match="has the class 'grey', which the model does not know; it knows 'dark', 'light'"):
        world.run(world.write(frame))
    world.run(world.write(frame), where="label != 'grey'")


@pytest.mark.parametrize(("label", "words"), [(None, "has no labels"), ("dark", r"all 12 labeled images .* are of one class \('dark'\)")])
def test_no_labels_and_one_class_only_are_one_clear_sentence(world: SimpleNamespace, label: str | None, words: str) -> None:
    with pytest.raises(IsograftError, match=words):
        world.run(world.write(world.manifest.frame.with_columns(pl.lit(label, pl.String).alias("label"))))
    assert not world.out.exists()


def test_rows_without_a_label_are_left_out_and_said_so(world: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    frame = world.manifest.frame.with_columns(pl.when(pl.col("age") > 49).then(None).otherwise("label").alias("label"))
    assert world.run(world.write(frame))["n_images"] == 10
    said = "2 of 12 readable images have no label and were not tested."
    assert said in capsys.readouterr().err and said in (world.out / "report.html").read_text()


def test_a_class_of_the_model_without_images_is_null_with_a_reason(world: SimpleNamespace) -> None:
    world.model.classes = ["dark", "light", "rare"]
    world.model.network = lambda: lambda_network
    inner = _Brightness()

    class Three(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([inner(x), torch.full((len(x), 1), -9.0)], dim=1)

    lambda_network = Three()
    metrics = world.run(world.write())
    assert metrics["per_class"]["rare"]["roc_auc"] is None and "per_class.rare.roc_auc" in metrics["reasons"]
    assert metrics["macro_f1"] == 1.0


def test_a_backbone_without_classes_is_one_clear_sentence(world: SimpleNamespace, write_passport: Callable[..., None]) -> None:
    write_passport(world.model.folder, PASSPORT, without_classes=True)
    with pytest.raises(IsograftError, match="pretrained backbone without classes"):
        world.run(world.write())


def test_an_existing_output_folder_is_left_alone(world: SimpleNamespace) -> None:
    world.out.mkdir()
    (world.out / "mine.txt").write_text("keep")
    with pytest.raises(IsograftError, match="already exists"):
        world.run(world.write())
    assert [path.name for path in world.out.iterdir()] == ["mine.txt"]


def test_a_full_disk_leaves_nothing_behind(world: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    data = world.write()

    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(IsograftError, match="No space left on device; free some space"):
        world.run(data)
    assert not world.out.exists() and not [path for path in world.root.iterdir() if "partial" in path.name]


def test_synthetic_classes_are_called_synthetic_on_the_page(world: SimpleNamespace) -> None:
    world.model.classes = ["synthetic-dark", "synthetic-light"]
    world.run(world.write(world.manifest.frame.with_columns(label="synthetic-" + pl.col("label"))))
    assert "Synthetic images." in (world.out / "report.html").read_text()
