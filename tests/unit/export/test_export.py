import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import polars as pl
import pytest
import timm
import torch
from PIL import Image
from safetensors import safe_open

import isograft
from isograft.errors import IsograftError
from isograft.export import export as verb
from isograft.export.parity import compare
from isograft.export.trial import find_ranges, find_trial, refer
from isograft.model import Model


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def ask(running: onnxruntime.InferenceSession, file: Path) -> np.ndarray:
    """What a program without isograft would do."""
    return running.run(["probabilities"], {"image": np.asarray(Image.open(file).convert("RGB"))[None]})[0][0]


@pytest.mark.parametrize("name", ["classifier", "ensemble"])
def test_onnx_runtime_and_pillow_alone_give_the_probabilities_of_predict(world: Path, tmp_path: Path, name: str):
    found = isograft.export(world / name, to="onnx", out=tmp_path / "m.onnx")
    running = session(tmp_path / "m.onnx")
    table = isograft.predict(world / name, world / "images", out=tmp_path / "p.parquet", engine="torch")
    for row in table[::7].iter_rows(named=True):
        expected = [row["p_melanoma"], row["p_nevus"]]
        assert ask(running, world / "images" / row["uri"]) == pytest.approx(expected, abs=1e-5)
    assert found["images"] > 10 and found["largest_difference"] < 1e-5 and found["agreement"] == 1
    assert found["compared_on"] == f"the test split of {name}"


def test_the_file_says_what_it_needs_to_be_used_by_itself(world: Path, tmp_path: Path):
    isograft.export(world / "classifier", to="onnx", out=tmp_path / "m.onnx")
    running = session(tmp_path / "m.onnx")
    told = running.get_modelmeta().custom_metadata_map
    model = Model.load(world / "classifier")
    assert json.loads(told["classes"]) == ["melanoma", "nevus"]
    assert told["content_hash"] == model.content_hash and "research use only" in told["use"]
    assert "resnet" in told["lineage"] and "licence" in told["licence"]
    points = json.loads(told["operating_points"])
    assert "screening" in {point["name"] for point in points}
    files = sorted((world / "images").rglob("*.png"))
    table = isograft.predict(model.folder, world / "images", out=tmp_path / "p.parquet")
    screening = next(point["least_probability"] for point in points if point["name"] == "screening")
    least = json.loads(told["prediction_set"])["least_probability"]
    edges = 0
    for file, row in zip(files, table.sort("uri").iter_rows(named=True), strict=True):
        p = ask(running, file)
        on_the_edge = [abs(p[k] - edge) < 1e-6 for k, edge in ((0, screening), *enumerate(least)) if edge is not None]
        if any(on_the_edge):  # where the threshold was found, on this very image: the last digit decides
            edges += 1
            continue
        assert (p[0] >= screening) == row["screening"]
        held = [name for k, name in enumerate(("melanoma", "nevus")) if least[k] is None or p[k] >= least[k]]
        assert ("|".join(held) or "none") == row["prediction_set"]
    assert edges <= 3  # one per threshold


def test_any_number_of_images_of_one_size_is_answered_at_once_with_their_embeddings(world: Path, tmp_path: Path):
    isograft.export(world / "ensemble", to="onnx", out=tmp_path / "m.onnx")
    files = [file for file in sorted((world / "images").rglob("*.png")) if file.stem[-1] != "0"][:5]
    pixels = np.stack([np.asarray(Image.open(file)) for file in files])
    p, embedding = session(tmp_path / "m.onnx").run(["probabilities", "embedding"], {"image": pixels})
    alone = [session(tmp_path / "m.onnx").run(["probabilities"], {"image": one[None]})[0][0] for one in pixels]
    assert p == pytest.approx(np.stack(alone), abs=1e-5) and p.sum(axis=1) == pytest.approx(1)
    assert embedding.shape[:2] == (5, 2)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_smaller_numbers_make_a_smaller_file_and_tell_what_they_cost(world: Path, tmp_path: Path, precision: str, capsys):
    whole = isograft.export(world / "classifier", to="onnx", out=tmp_path / "whole.onnx")
    found = isograft.export(world / "classifier", to="onnx", out=tmp_path / "m.onnx", precision=precision)
    assert found["bytes"] < whole["bytes"] and 0 < found["largest_difference"] < 0.2
    assert found["auc"]["before"] is not None and found["agreement"] > 0.8
    assert "ROC AUC" in capsys.readouterr().err


def test_timm_loads_the_folder_and_gives_the_same_scores(world: Path, tmp_path: Path):
    isograft.export(world / "classifier", to="timm", out=tmp_path / "folder")
    network = timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True).eval()
    model = Model.load(world / "classifier")
    x = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(network(x), model.network()(x), atol=1e-5)
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    assert config["label_names"] == ["melanoma", "nevus"] and config["pretrained_cfg"]["mean"] == list(model.preprocess.mean)
    assert not {"license", "tag", "origin_url"} & config["pretrained_cfg"].keys()  # those of timm's own weights are not true of these


def test_a_safetensors_file_holds_the_weights_to_the_bit_and_what_they_are(world: Path, tmp_path: Path):
    isograft.export(world / "ensemble", to="safetensors", out=tmp_path / "m.safetensors")
    tensors = Model.load(world / "ensemble").tensors()
    with safe_open(tmp_path / "m.safetensors", framework="pt") as stored:
        assert set(stored.keys()) == set(tensors) and all(torch.equal(stored.get_tensor(name), tensors[name]) for name in tensors)
        assert json.loads(stored.metadata()["classes"]) == ["melanoma", "nevus"]


@pytest.mark.parametrize(("to", "out"), [("onnx", "b.onnx"), ("timm", "b"), ("safetensors", "b.safetensors")])
def test_a_backbone_is_exported_with_its_embedding(world: Path, tmp_path: Path, to: str, out: str):
    found = isograft.export(world / "backbone", to=to, out=tmp_path / out, images=world / "images")
    assert found["embedding_difference"] < 1e-4 and "largest_difference" not in found
    if to == "onnx":
        assert [one.name for one in session(tmp_path / out).get_outputs()] == ["embedding"]


def test_an_ensemble_has_no_place_in_timm(world: Path, tmp_path: Path):
    with pytest.raises(IsograftError, match="ensemble of 2 networks, and timm holds one; use --to onnx"):
        isograft.export(world / "ensemble", to="timm", out=tmp_path / "folder")
    assert not list(tmp_path.iterdir())


def test_an_export_that_answers_differently_is_not_written(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = Model.load(world / "classifier")
    other = model.network()
    with torch.no_grad():
        next(iter(other.head.parameters())).mul_(1.5)
    right = verb.refer
    monkeypatch.setattr(verb, "refer", lambda model, network, trial: right(model, other, trial))
    with pytest.raises(IsograftError, match=r"differs from predict by up to 0\.\d+, over the tolerance of 0.0001"):
        isograft.export(world / "classifier", to="onnx", out=tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_an_export_that_mixes_images_up_is_found_out(world: Path) -> None:
    model = Model.load(world / "classifier")
    trial = find_trial(model, None)
    expected = refer(model, model.network(), trial)
    right = dict(zip((image.tobytes() for image in trial.images), expected.probabilities, strict=True))

    def run(images):
        p = np.stack([right.get(image.tobytes(), np.array([k / 10, 1 - k / 10])) for k, image in enumerate(images)])
        return p, expected.embeddings[[0] * len(images)] if len(images) > 1 else expected.embeddings[_place(trial, images[0])][None]

    with pytest.raises(IsograftError, match=r"differently, by .*when others stand beside it"):
        compare(run, trial, expected, model.classes, "fp32")


def _place(trial, image) -> int:
    return next((place for place, one in enumerate(trial.images) if one.tobytes() == image.tobytes()), 0)


def test_one_image_is_too_few_for_int8(world: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.png").write_bytes(next((world / "images" / "nevus").glob("*.png")).read_bytes())
    model = Model.load(world / "classifier")
    with pytest.raises(IsograftError, match="int8 needs at least 2 images"):
        find_ranges(replace(model, tmp_path), find_trial(model, str(tmp_path / "one")))


def replace(model: Model, folder: Path) -> Model:
    """The same model, elsewhere, without the record of its images."""
    return Model(folder, model.passport)


def test_without_any_image_nothing_is_exported(world: Path, tmp_path: Path):
    with pytest.raises(IsograftError, match="name some images with --images"):
        isograft.export(world / "backbone", to="onnx", out=tmp_path / "b.onnx")
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "x.png").write_bytes(b"no image")
    with pytest.raises(IsograftError):
        isograft.export(world / "backbone", to="onnx", out=tmp_path / "b.onnx", images=bad)
    assert not (tmp_path / "b.onnx").exists()


def test_what_exists_is_not_overwritten(world: Path, tmp_path: Path):
    (tmp_path / "m.onnx").write_bytes(b"precious")
    with pytest.raises(IsograftError, match="already exists"):
        isograft.export(world / "classifier", to="onnx", out=tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"to": "onnx", "out": "m.bin"}, "must end in .onnx"),
        ({"to": "timm", "out": "m", "precision": "int8"}, "goes with --to onnx"),
        ({"to": "tflite", "out": "m"}, "must be one of onnx, safetensors, timm"),
    ],
)
def test_a_wrong_option_is_one_sentence(options: dict[str, str], told: str):
    with pytest.raises(IsograftError, match=told):
        isograft.export("model", **options)


def test_a_missing_package_is_named_with_its_extra(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(IsograftError, match=r"isograft\[onnx\]"):
        isograft.export(world / "classifier", to="onnx", out=tmp_path / "m.onnx")


def test_labels_unknown_to_the_model_do_not_enter_its_auc(world: Path, tmp_path: Path):
    (tmp_path / "list.csv").write_text(
        "file,label\n" + "".join(f"{file},{'other' if n % 2 else file.parent.name}\n" for n, file in enumerate(_files(world)))
    )
    found = isograft.export(world / "classifier", to="onnx", out=tmp_path / "m.onnx", images=tmp_path / "list.csv")
    assert found["images"] == 80 and found["auc"]["before"] is not None
    assert pl.read_csv(tmp_path / "list.csv")["label"].n_unique() == 3


def _files(world: Path) -> list[Path]:
    return sorted((world / "images").rglob("*.png"))
