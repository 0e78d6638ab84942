"""`predict`: one row per input whatever its state, and the bits of `evaluate`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest
import timm
import torch

from isograft import lineage
from isograft.data.hashing import pixel_hash
from isograft.data.ingest import ingest
from isograft.data.preprocess import Preprocess
from isograft.errors import IsograftError, LeakageError
from isograft.evaluation.evaluate import evaluate
from isograft.judgement import Judgement
from isograft.lineage import seen_rows
from isograft.model import BackboneRecord, Model, Passport
from isograft.networks.heads import Classifier, build_head
from isograft.predict.predict import predict
from isograft.predictions import UNSURE
from isograft.settings import EvaluateSettings, IngestSettings, PredictSettings

OURS = ["id", "uri", "status", "reason", "predicted", "p_dark", "p_light", *UNSURE]


PASSPORT = Passport(
    kind="classifier", backbone=BackboneRecord(name="test_resnet", features=2), head="linear", classes=["dark", "light"],
    preprocess=Preprocess(image_size=32, working_size=32), method="full",
)  # fmt: skip


@pytest.fixture
def world(tmp_path: Path, image_tree: Path, monkeypatch: pytest.MonkeyPatch, write_passport: Callable[..., None]) -> SimpleNamespace:
    """A stand-in model folder with a small real network, and a tree of 12 images in 2 folders."""
    torch.manual_seed(1)
    network = timm.create_model("test_resnet", num_classes=2).eval()
    folder = tmp_path / "model"
    folder.mkdir()
    write_passport(folder, PASSPORT)
    model = SimpleNamespace(
        folder=folder, classes=["dark", "light"], preprocess=Preprocess(image_size=32, working_size=32), content_hash="c0ffee",
        network=lambda: network, seen=lambda: pl.DataFrame(schema=lineage.SEEN_SCHEMA),
        judgement=lambda: Judgement(missing="not fitted"), symmetries=lambda tta: ("identity",), passport=PASSPORT,
    )  # fmt: skip
    monkeypatch.setattr(Model, "load", lambda path: model)
    monkeypatch.setattr(lineage, "lineage_text", lambda model: "model")

    def run(source: Path | str, out: str = "p.parquet", **options: Any) -> pl.DataFrame:
        return predict(PredictSettings(model=folder, input=str(source), out=tmp_path / out, **options))

    return SimpleNamespace(root=tmp_path, tree=image_tree, model=model, run=run)


def test_a_folder_gives_one_row_per_image_in_sorted_order(world: SimpleNamespace) -> None:
    table = world.run(world.tree)
    assert table.columns == OURS
    assert table["uri"].to_list() == [f"{name}/{name}{index}.png" for name in ("dark", "light") for index in range(6)]
    assert table["status"].unique().to_list() == ["ok"]
    p = table.select("p_dark", "p_light").to_numpy()
    assert np.allclose(p.sum(1), 1) and table["predicted"].to_list() == [("dark", "light")[k] for k in p.argmax(1)]
    first = cv2.imread(str(world.tree / "dark" / "dark0.png"), cv2.IMREAD_COLOR_RGB)
    assert table["id"][0] == pixel_hash(first)[:16]
    assert pl.read_parquet(world.root / "p.parquet").equals(table)


def test_csv_and_parquet_hold_the_same_bits(world: SimpleNamespace) -> None:
    table = world.run(world.tree)
    world.run(world.tree, out="p.csv")
    assert pl.read_csv(world.root / "p.csv")["p_dark"].to_list() == table["p_dark"].to_list()


def test_an_image_has_the_same_bits_alone_in_a_folder_and_in_evaluate(world: SimpleNamespace) -> None:
    table = world.run(world.tree)
    alone = world.run(world.tree / "light" / "light3.png", out="alone.parquet")
    assert alone["uri"].to_list() == ["light3.png"]
    assert alone.row(0)[5:] == table.filter(pl.col("uri") == "light/light3.png").row(0)[5:]
    manifest = ingest(IngestSettings(source=(world.tree,), out=world.root / "m.parquet"))
    evaluate(EvaluateSettings(model=world.model.folder, data=str(manifest.path), out=world.root / "eval"))
    tested = pl.read_parquet(world.root / "eval" / "predictions.parquet")
    both = tested.join(table, on="id", suffix="_predict")
    assert len(both) == 12
    for name in ("predicted", "p_dark", "p_light"):
        assert both[name].to_list() == both[f"{name}_predict"].to_list()
    again = world.run(world.root / "m.parquet", out="again.parquet")
    assert again["p_dark"].to_list() == both.sort("uri")["p_dark"].to_list()


def test_bad_files_get_a_row_that_says_so_and_the_run_goes_on(world: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    good = (world.tree / "dark" / "dark0.png").read_bytes()
    (world.tree / "dark" / "empty.jpg").write_bytes(b"")
    (world.tree / "light" / "cut.png").write_bytes(good[: len(good) // 2])
    (world.tree / "note.jpg").write_bytes(b"this is text")
    (world.tree / "readme.txt").write_text("not an image by its name")
    table = world.run(world.tree)
    bad = table.filter(pl.col("status") != "ok")
    assert dict(bad.select("uri", "status").rows()) == {"dark/empty.jpg": "empty", "light/cut.png": "truncated", "note.jpg": "unsupported"}
    assert bad["reason"].null_count() == 0
    assert all(bad[name].null_count() == 3 for name in ("id", "predicted", "p_dark", "p_light"))
    assert len(table) == 15 and table["p_dark"].null_count() == 3
    said = capsys.readouterr().err
    assert "3 of 15 inputs have no answer (1 empty, 1 truncated, 1 unsupported)" in said
    assert "1 files" in said and ".txt" in said


def test_bad_files_leave_the_bits_of_their_neighbours_alone(world: SimpleNamespace) -> None:
    before = world.run(world.tree)
    (world.tree / "dark" / "a_first.jpg").write_bytes(b"")
    after = world.run(world.tree, out="q.parquet").filter(pl.col("status") == "ok")
    assert after.equals(before)


def test_a_csv_gives_one_row_per_line_with_its_columns_kept(world: SimpleNamespace) -> None:
    table = world.tree / "list.csv"
    table.write_text("image,age,status\nlight/light1.png,61,new\ndark2,50,new\nnowhere.png,40,old\nlight/light1.png,61,again\n")
    got = world.run(table)
    assert got.columns == [*OURS, "age", "input_status"]
    assert got["uri"].to_list() == ["light/light1.png", "dark2", "nowhere.png", "light/light1.png"]
    assert got["status"].to_list() == ["ok", "ok", "missing", "ok"]
    assert got["age"].to_list() == [61, 50, 40, 61] and got["input_status"].to_list() == ["new", "new", "old", "again"]
    assert got["p_dark"][0] == got["p_dark"][3]


def test_a_csv_with_named_path_column_and_absolute_paths_and_a_filter(world: SimpleNamespace, tmp_path: Path) -> None:
    table = tmp_path / "elsewhere" / "list.csv"
    table.parent.mkdir()
    lines = [f"{world.tree}/dark/dark{index}.png,{index}" for index in range(4)]
    table.write_text("\n".join(["where_it_is,number", *lines]) + "\n")
    got = world.run(table, path_column="where_it_is", where="number >= 2")
    assert got["number"].to_list() == [2, 3] and got["status"].to_list() == ["ok", "ok"]


def test_a_csv_that_names_its_files_exactly_has_its_folder_left_unlisted(world: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    table = world.tree / "list.csv"
    table.write_text("age,image\n61,light/light1.png\n50,dark/dark2.png\n40,gone.png\n")

    scandir = os.scandir

    def refuse(folder: Any = ".") -> Any:
        assert isinstance(folder, int) or world.tree not in (Path(folder), *Path(folder).parents), "the folder was listed"
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    got = world.run(table, where="age > 40")
    assert got["status"].to_list() == ["ok", "ok"] and got["age"].to_list() == [61, 50]


def test_a_manifest_gives_one_row_per_row_bad_ones_too_with_its_columns(world: SimpleNamespace) -> None:
    (world.tree / "dark" / "empty.jpg").write_bytes(b"")
    ingest(IngestSettings(source=(world.tree,), out=world.root / "m.parquet"))
    table = world.run(world.root / "m.parquet")
    assert len(table) == 13 and table.filter(pl.col("status") == "empty").height == 1
    assert table.columns[: len(OURS)] == OURS and "label" in table.columns and "width" not in table.columns


def test_a_single_bad_file_still_gives_its_row(world: SimpleNamespace) -> None:
    (world.root / "bad.jpg").write_bytes(b"")
    with pytest.raises(IsograftError, match=r"none of the 1 inputs could be answered; .*p\.parquet says why") as caught:
        world.run(world.root / "bad.jpg")
    assert caught.value.exit_code == 2
    assert pl.read_parquet(world.root / "p.parquet")["status"].to_list() == ["empty"]
    assert not (world.root / ".p.parquet.parts").exists()


def test_an_image_of_which_too_little_is_left_is_answered_with_a_note_and_the_model_abstains(
    world: SimpleNamespace, write_image: Callable[[Path, np.ndarray], Path]
) -> None:
    for height, width in ((1, 1), (7, 90), (8, 129), (8, 128), (40, 40)):
        write_image(world.root / "odd" / f"{height}x{width}.png", np.full((height, width, 3), 90, np.uint8))
    table = {row["uri"]: row for row in world.run(world.root / "odd").iter_rows(named=True)}
    assert all(row["status"] == "ok" and row["p_dark"] is not None for row in table.values())
    told = {uri: (row["abstain"], row["reason"]) for uri, row in table.items()}
    assert told == {
        "1x1.png": (True, "1 x 1 pixels are too few to judge, so the model abstains"),
        "7x90.png": (True, "90 x 7 pixels are too few to judge, so the model abstains"),
        "8x129.png": (True, "129 x 8 pixels are too long and thin to judge, so the model abstains"),
        "8x128.png": (None, None),
        "40x40.png": (None, None),
    }


def test_a_csv_holds_no_name_that_a_spreadsheet_runs(world: SimpleNamespace) -> None:
    for name in ("=1+1.png", "-2.png", "@x.png", "+a.png", "plain=.png"):
        (world.root / "odd").mkdir(exist_ok=True)
        (world.root / "odd" / name).write_bytes((world.tree / "dark" / "dark0.png").read_bytes())
    plain = world.run(world.root / "odd")["uri"].to_list()
    world.run(world.root / "odd", out="p.csv")
    written = pl.read_csv(world.root / "p.csv")["uri"].to_list()
    assert plain == ["+a.png", "-2.png", "=1+1.png", "@x.png", "plain=.png"]
    assert written == ["./+a.png", "./-2.png", "./=1+1.png", "./@x.png", "plain=.png"]


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("nowhere", {}, "does not exist"),
        ("void", {}, "holds no image"),
        ("tree", {"where": "a > 1"}, "--where needs a CSV or a manifest"),
        ("list.csv", {"path_column": "wrong"}, "has no column wrong"),
        ("list.csv", {"where": "age > 100"}, "has no row to classify"),
    ],
)
def test_wrong_input_is_one_clear_sentence_and_writes_nothing(
    world: SimpleNamespace, source: str, options: dict[str, Any], words: str
) -> None:
    (world.root / "void").mkdir()
    (world.root / "list.csv").write_text("image,age\ntree/dark/dark0.png,40\n")
    with pytest.raises(IsograftError, match=words):
        world.run(world.root / source, **options)
    assert not (world.root / "p.parquet").exists()


def test_an_existing_table_is_left_alone(world: SimpleNamespace) -> None:
    (world.root / "p.csv").write_text("mine")
    with pytest.raises(IsograftError, match="already exists"):
        world.run(world.tree, out="p.csv")
    assert (world.root / "p.csv").read_text() == "mine"


def test_a_backbone_without_classes_is_one_clear_sentence(world: SimpleNamespace, write_passport: Callable[..., None]) -> None:
    write_passport(world.model.folder, PASSPORT, without_classes=True)
    with pytest.raises(IsograftError, match="pretrained backbone without classes"):
        world.run(world.tree)


def test_an_interrupted_run_writes_nothing(world: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["isograft.predict.answering"], "judged", interrupt)
    with pytest.raises(KeyboardInterrupt):
        world.run(world.tree)
    assert not [path for path in world.root.iterdir() if path.name.startswith((".p", "p."))]


@pytest.mark.real
def test_a_model_folder_scores_real_images_to_the_same_bits_in_both_verbs_and_refuses_those_it_saw(real_data: Path, tmp_path: Path) -> None:
    for name in ("nevus", "melanoma"):
        for number, file in enumerate(sorted((real_data / "skin" / "uda1" / name).iterdir())[:6]):
            place = tmp_path / ("test" if number < 4 else "train") / name / file.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(file)
    train = ingest(IngestSettings(source=(tmp_path / "train",), out=tmp_path / "train.parquet"))
    torch.manual_seed(0)
    backbone = timm.create_model("test_resnet", num_classes=0)
    network = Classifier(backbone, build_head("linear", backbone.num_features, 2))
    passport = Passport(
        kind="classifier", backbone=BackboneRecord(name="test_resnet", features=backbone.num_features), head="linear",
        classes=["melanoma", "nevus"], preprocess=Preprocess(image_size=48, working_size=64), method="probe",
    )  # fmt: skip
    Model.write(tmp_path / "model", passport, network.state_dict(), seen_rows(train, "train", "train.parquet"))
    evaluate(EvaluateSettings(model=tmp_path / "model", data=str(tmp_path / "test"), out=tmp_path / "eval", cache_dir=tmp_path / "cache"))
    tested = pl.read_parquet(tmp_path / "eval" / "predictions.parquet")
    table = predict(PredictSettings(model=tmp_path / "model", input=str(tmp_path / "test"), out=tmp_path / "p.csv"))
    both = tested.join(table, on="id", suffix="_predict")
    assert len(both) == 8 and both["p_nevus"].n_unique() == 8
    assert both["p_nevus"].to_list() == both["p_nevus_predict"].to_list()
    with pytest.raises(LeakageError, match="4 of 12 images were seen"):
        ingest(IngestSettings(source=(tmp_path / "train", tmp_path / "test"), out=tmp_path / "all.parquet"))
        evaluate(EvaluateSettings(model=tmp_path / "model", data=str(tmp_path / "all.parquet"), out=tmp_path / "leaky"))


def test_every_frame_of_a_dicom_file_is_answered_and_the_file_as_a_whole_where_asked(
    world: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pytest.importorskip("pydicom.data", reason="reading DICOM needs the extra dicom")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # where the site's key is made
    shipped = Path(data.__file__).parent / "test_files"
    (tmp_path / "scans").mkdir()
    for name in ("SC_rgb_rle_2frame.dcm", "SC_rgb_small_odd.dcm"):
        (tmp_path / "scans" / name).write_bytes((shipped / name).read_bytes())
    table = world.run(tmp_path / "scans")
    assert table["uri"].to_list() == ["SC_rgb_rle_2frame.dcm#frame=0", "SC_rgb_rle_2frame.dcm#frame=1", "SC_rgb_small_odd.dcm"]
    assert (table["status"] == "ok").all() and table["p_dark"].null_count() == 0
    whole = world.run(tmp_path / "scans", out="whole.csv", pool_by="file")
    assert whole.select("file", "images").rows() == [("SC_rgb_rle_2frame.dcm", 2), ("SC_rgb_small_odd.dcm", 1)]
    assert whole["p_dark"][0] == pytest.approx(table["p_dark"][:2].mean())


def test_files_that_cannot_be_opened_as_slides_get_a_row_that_says_so(world: SimpleNamespace, tmp_path: Path) -> None:
    pytest.importorskip("openslide", reason="slides need the extra slides")
    (tmp_path / "case.svs").write_bytes(b"no slide")
    with pytest.raises(IsograftError, match="none of the 1 inputs"):
        world.run(tmp_path / "case.svs")
    table = pl.read_parquet(world.root / "p.parquet")
    assert table.select("uri", "status", "predicted").rows() == [("case.svs", "unsupported", None)]


def test_a_shard_gives_the_bits_of_its_images_as_files(world: SimpleNamespace, shard: Path, shards: Any) -> None:
    for name, data in shards.labeled().items():
        (world.root / "files" / name).parent.mkdir(parents=True, exist_ok=True)
        (world.root / "files" / name).write_bytes(data)
    files, inside = world.run(world.root / "files", out="f.parquet"), world.run(shard, out="s.parquet")
    assert inside["uri"].to_list() == [f"000.tar#s/{number:03d}.png" for number in range(12)]
    assert inside.drop("uri", "file").equals(files.drop("uri"))
    ingest(IngestSettings(source=(shard,), out=world.root / "m.parquet"))
    assert world.run(world.root / "m.parquet", out="m2.parquet")[:, 4:7].equals(inside[:, 4:7])


def test_signed_urls_are_predicted_whatever_their_state_and_the_output_holds_no_signature(
    world: SimpleNamespace, server: Any, shards: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files = {f"{name}.png": shards.png(seed) for seed, name in enumerate("abc")}
    server.troubles = {"b.png": [server.status(503)] * 9, "a.png": [server.cuts_off]}
    rows = [f"{server.url(f'{name}.png')}?sig=s3cret,{name},{server.url('thumb')}?sig=s3cret" for name in "abcd"]
    (world.root / "urls.csv").write_text("\n".join(["image,patient,thumbnail", *rows]))
    table = world.run(world.root / "urls.csv")
    assert table["status"].to_list() == ["ok", "unreachable", "ok", "missing"] and table["patient"].to_list() == list("abcd")
    assert table["uri"].to_list() == [server.url(f"{name}.png") for name in "abcd"] and "thumbnail" not in table.columns
    assert "s3cret" not in str(table.to_dicts()) + capsys.readouterr().err
    assert world.run(f"{server.url('c.png')}?sig=s3cret", out="one.parquet")["p_dark"][0] == table["p_dark"][2]


def test_a_manifest_of_urls_is_evaluated_and_predicted_alike(world: SimpleNamespace, server: Any) -> None:
    rows = ["image,label"]
    for path in sorted(world.tree.rglob("*.png")):
        server.files[path.name] = path.read_bytes()
        rows.append(f"{server.url(path.name)},{path.parent.name}")
    (world.root / "urls.csv").write_text("\n".join(rows))
    ingest(IngestSettings(source=(world.root / "urls.csv",), out=world.root / "m.parquet"))
    table = world.run(world.root / "m.parquet")
    assert table["p_dark"].to_list() == world.run(world.tree, out="files.parquet")["p_dark"].to_list()
    evaluate(EvaluateSettings(model=world.model.folder, data=str(world.root / "m.parquet"), out=world.root / "e"))
    assert pl.read_parquet(world.root / "e" / "predictions.parquet")["p_dark"].to_list() == table["p_dark"].to_list()
    server.stop()
    with pytest.raises(IsograftError, match="cannot be read any more: Connection refused"):
        evaluate(EvaluateSettings(model=world.model.folder, data=str(world.root / "m.parquet"), out=world.root / "e2"))


def test_a_csv_of_slides_or_scans_is_unfolded_like_a_folder_and_a_manifest_has_decided_already(
    world: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pytest.importorskip("pydicom.data", reason="reading DICOM needs the extra dicom")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    shipped = Path(data.__file__).parent / "test_files" / "SC_rgb_rle_2frame.dcm"
    (tmp_path / "a.dcm").write_bytes(shipped.read_bytes())
    (tmp_path / "scans.csv").write_text("file,patient\na.dcm,p1\n")
    table = world.run(tmp_path / "scans.csv")
    assert table.select("uri", "patient", "status").rows() == [("a.dcm#frame=0", "p1", "ok"), ("a.dcm#frame=1", "p1", "ok")]
    assert world.run(tmp_path / "scans.csv", out="w.csv", pool_by="patient")["images"].to_list() == [2]
    ingest(IngestSettings(source=(world.tree,), out=tmp_path / "m.parquet"))
    with pytest.raises(IsograftError, match=r"--tile-size is about slides and DICOM files; the manifest .* has decided that already"):
        world.run(tmp_path / "m.parquet", out="x.csv", tile_size=128)


def test_a_wrong_column_to_pool_by_is_told_before_the_model_is_loaded(world: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Model, "load", lambda path: pytest.fail("too late"))
    with pytest.raises(IsograftError, match="--pool-by patiant: the inputs have no such column; they have no further column"):
        world.run(world.tree, pool_by="patiant")
