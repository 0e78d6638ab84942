"""`PLACE@sha256:SEAL` is one exact model and no other, wherever a model is named."""

import hashlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

import isograft
from isograft.data.places import SPARED_FILES
from isograft.data.preprocess import Preprocess
from isograft.errors import IsograftError
from isograft.lineage import SEEN_SCHEMA
from isograft.model import BackboneRecord, Model, Passport
from isograft.networks.backbones import build_backbone
from isograft.networks.heads import Classifier, build_head
from isograft.networks.weights import resolve_init
from isograft.passport import canonical
from isograft.seal import split_seal, with_seal, without_seal
from isograft.study.starts import Starts, unknown_past

CASES = io.BytesIO()
pl.DataFrame({"id": ["x"], "uri": ["x.png"], "label": ["a"]}).write_parquet(CASES)
EXTRA = {
    "history.csv": "step,loss\n",
    **dict.fromkeys(SPARED_FILES, b"what a file holds"),
    "cases.parquet": CASES.getvalue(),
    "cases.safetensors": save({"embeddings": np.zeros((1, 1, 4), np.float32)}),
}
OTHER = 64 * "0"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Model:
    torch.manual_seed(0)
    backbone = build_backbone("alzubaidi_light", {"width": 2}, 32)
    features = backbone.num_features
    network = Classifier(backbone, build_head("linear", features, 2))
    passport = Passport(
        kind="classifier",
        head="linear",
        classes=["a", "b"],
        backbone=BackboneRecord(name="alzubaidi_light", arguments={"width": 2}, features=features),
        preprocess=Preprocess(image_size=32, working_size=48),
        method="probe",
        metrics={"auc": 0.9},
    )
    return Model.write(tmp_path_factory.mktemp("m") / "model", passport, network.state_dict(), pl.DataFrame(schema=SEEN_SCHEMA), EXTRA)


@pytest.fixture
def copy(model, tmp_path) -> Path:
    return shutil.copytree(model.folder, tmp_path / "copy")


def reseal(folder: Path, **changed) -> None:
    """What somebody does who changes a model and then makes its passport fit again."""
    record = json.loads((folder / "model.json").read_bytes()) | changed
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in record["files"] if name != "model.json"}
    own = hashlib.sha256(canonical({**record, "files": files})).hexdigest()
    (folder / "model.json").write_bytes(canonical({**record, "files": {**files, "model.json": own}}))


def test_the_seal_is_what_any_program_finds_for_the_passport(model):
    assert model.seal == Model.load(model.folder).seal == hashlib.sha256((model.folder / "model.json").read_bytes()).hexdigest()


def test_the_approved_model_opens_and_another_is_refused(model):
    assert Model.load(f"{model.folder}@sha256:{model.seal.upper()}").folder == model.folder
    with pytest.raises(IsograftError, match=rf"has the seal {model.seal}, but {OTHER} was asked for: this is not the approved model"):
        Model.load(f"{model.folder}@sha256:{OTHER}")


@pytest.mark.parametrize("name", ["model.safetensors", "seen.parquet", "README.md", *EXTRA])
def test_whoever_changes_a_file_and_makes_the_passport_fit_cannot_keep_the_seal(model, copy, name):
    with (copy / name).open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(IsograftError, match=name):
        Model.load(copy)
    reseal(copy)
    with pytest.raises(IsograftError, match="not the approved model"):
        Model.load(f"{copy}@sha256:{model.seal}")


@pytest.mark.parametrize("changed", [{"classes": ["b", "a"]}, {"method": "full"}])
def test_a_content_hash_that_is_not_that_of_the_content_is_refused(copy, changed):
    reseal(copy, **changed)
    with pytest.raises(IsograftError, match=r"model\.json is damaged or was edited"):
        Model.load(copy)


def test_what_the_content_hash_leaves_out_is_in_the_seal(model, copy):
    reseal(copy, metrics={"auc": 0.99})
    assert Model.load(copy).content_hash == model.content_hash
    with pytest.raises(IsograftError, match="not the approved model"):
        Model.load(f"{copy}@sha256:{model.seal}")


@pytest.mark.parametrize("name", SPARED_FILES)
def test_what_tells_of_single_images_may_be_left_out_but_not_brought_along(model, copy, name):
    (copy / name).unlink()
    assert Model.load(f"{copy}@sha256:{model.seal}").seal == model.seal
    assert f"left out: {name}" in isograft.show(copy)
    record = json.loads((copy / "model.json").read_bytes())
    del record["files"][name]
    reseal(copy, files=record["files"])
    Model.load(copy)
    (copy / name).write_bytes(b"from somewhere else")
    with pytest.raises(IsograftError, match=rf"{name} does not belong to this model"):
        Model.load(copy)


def test_show_prints_the_seal_and_what_it_does_not_stand_for(model, copy):
    (copy / "more").mkdir()
    (copy / "more" / "notes.txt").write_text("x")
    shown = isograft.show(f"{copy}@sha256:{model.seal}")
    assert f"seal          {model.seal}" in shown
    assert f"{len(EXTRA) + 4} as sealed; not sealed: more/notes.txt" in shown
    with pytest.raises(IsograftError, match="not the approved model"):
        isograft.show(f"{copy}@sha256:{OTHER}")


VERBS = [
    lambda place, out: isograft.finetune("no-data", out=out, init=place),
    lambda place, out: isograft.predict(place, "no-input", out=f"{out}.csv"),
    lambda place, out: isograft.explain(place, "no-input", out=out),
    lambda place, out: isograft.evaluate(place, out=out),
    lambda place, out: isograft.export(place, to="safetensors", out=f"{out}.safetensors"),
    lambda place, out: isograft.serve(place, port=0),
    lambda place, out: isograft.suggest(place, "no-pool", n=1, out=f"{out}.csv"),
]


@pytest.mark.parametrize("verb", VERBS, ids=["finetune", "predict", "explain", "evaluate", "export", "serve", "suggest"])
def test_every_verb_refuses_a_model_that_is_not_the_approved_one(verb, model, image_tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("no-data", "no-input", "no-pool"):
        shutil.copytree(image_tree, tmp_path / name)
    with pytest.raises(IsograftError, match="not the approved model"):
        verb(f"{model.folder}@sha256:{OTHER}", tmp_path / "out")


def test_audit_refuses_it_too(model, image_tree, tmp_path):
    isograft.ingest(image_tree, out=tmp_path / "m.parquet")
    with pytest.raises(IsograftError, match="not the approved model"):
        isograft.audit(tmp_path / "m.parquet", model=f"{model.folder}@sha256:{OTHER}")


@pytest.mark.parametrize("file", ["", "/model.safetensors"])
def test_a_start_is_the_approved_one_or_refused(model, file):
    assert resolve_init(f"{model.folder}{file}@sha256:{model.seal}", "auto", {}).model.seal == model.seal
    with pytest.raises(IsograftError, match="not the approved model"):
        resolve_init(f"{model.folder}{file}@sha256:{OTHER}", "auto", {})


def test_a_weights_file_has_a_seal_too(model, tmp_path):
    path = tmp_path / "w.pt"
    torch.save(model.tensors(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert resolve_init(f"{path}@sha256:{digest}", "alzubaidi_light", {"width": 2}).tensors
    with pytest.raises(IsograftError, match="not the approved"):
        resolve_init(f"{path}@sha256:{OTHER}", "alzubaidi_light", {"width": 2})
    assert Starts().identity(f"{path}@sha256:{digest}") == digest
    assert unknown_past([[f"{path}@sha256:{digest}"]]) == ["w.pt"]
    with pytest.raises(IsograftError, match="not the approved"):
        Starts().identity(f"{path}@sha256:{OTHER}")


def test_a_study_knows_a_sealed_start_as_the_same_model(model):
    assert Starts().identity(f"{model.folder}@sha256:{model.seal}") == model.content_hash
    with pytest.raises(IsograftError, match="not the approved"):
        Starts().identity(f"{model.folder}@sha256:{OTHER}")


@pytest.mark.parametrize("place", ["m@sha256:", "m@sha256:12ab", f"m@sha256:{63 * '0'}g", f"@sha256:{OTHER}", f"m@sha256:{OTHER}0"])
def test_half_a_seal_is_refused_and_never_taken_for_none(place):
    with pytest.raises(IsograftError, match="with the 64 hexadecimal digits that isograft show prints"):
        split_seal(place)


PLACES = st.text("abC./@:5 -", min_size=1).filter(lambda text: "@sha256:" not in text)
SEALS = st.none() | st.text("0123456789abcdef", min_size=64, max_size=64)


@given(PLACES, SEALS)
def test_a_place_is_taken_apart_and_put_together_again(text, seal):
    path = Path(text)
    assert split_seal(with_seal(path, seal)) == (path, seal)
    assert without_seal(with_seal(path, seal)) == path
