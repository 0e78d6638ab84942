"""A model folder comes back as it was written, and any damage is found and named."""

import errno
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from isograft.data.preprocess import Preprocess
from isograft.errors import IsograftError
from isograft.lineage import SEEN_SCHEMA
from isograft.model import BackboneRecord, Model, Passport
from isograft.networks.backbones import build_backbone
from isograft.networks.heads import Classifier, build_head
from isograft.networks.weights import resolve_init
from isograft.passport import PASSPORT_FILE

SEEN = pl.DataFrame(
    {"pixel_hash": ["aa"], "perceptual_hash": [2**63], "look": [None], "group_hash": [None], "role": ["train"], "origin": ["pool"]},
    schema=SEEN_SCHEMA,
)


def make(folder: Path, head: str | None = "linear", extra=None, seed: int = 0, **fields) -> tuple[Model, torch.nn.Module]:
    torch.manual_seed(seed)
    network = build_backbone("alzubaidi_light", {"width": 2}, 32)
    features = network.num_features
    if head:
        network = Classifier(network, build_head(head, features, 2))
        fields = {"head": head, "classes": ["mole", "Überbein"], **fields}
    passport = Passport(
        kind="classifier" if head else "backbone",
        backbone=BackboneRecord(name="alzubaidi_light", arguments={"width": 2}, features=features),
        preprocess=Preprocess(image_size=32, working_size=48),
        method="probe",
        **fields,
    )
    return Model.write(folder, passport, network.state_dict(), SEEN, extra), network.eval()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "one"
    model, network = make(folder, extra={"history.csv": "step,loss\n1,0.5\n", "more/split.parquet": b"\x00\x01"})
    return model, network


@pytest.mark.parametrize("head", ["linear", "paper", None])
def test_a_loaded_network_gives_the_same_numbers(tmp_path, head):
    _, network = make(tmp_path / "m", head)
    loaded = Model.load(tmp_path / "m")
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded.network()(images), network(images))
    assert not loaded.network().training


def test_everything_written_comes_back(written):
    model = Model.load(written[0].folder)
    assert model.passport == written[0].passport
    assert model.classes == ["mole", "Überbein"]
    assert model.preprocess == Preprocess(image_size=32, working_size=48)
    assert model.seen().equals(SEEN)
    assert (model.folder / "history.csv").read_text() == "step,loss\n1,0.5\n"
    assert set(model.passport.files) == {
        "model.safetensors", "seen.parquet", "README.md", "model.json", "history.csv", "more/split.parquet",
    }  # fmt: skip


def test_the_card_names_classes_and_content_hash(written):
    card = (written[0].folder / "README.md").read_text()
    assert "mole, Überbein" in card and written[0].content_hash in card and "isograft predict" in card


def test_a_moved_folder_still_loads(written, tmp_path):
    shutil.copytree(written[0].folder, tmp_path / "elsewhere")
    assert Model.load(tmp_path / "elsewhere").content_hash == written[0].content_hash


@pytest.mark.parametrize("name", ["model.safetensors", "seen.parquet", "README.md", "model.json", "history.csv", "more/split.parquet"])
@pytest.mark.parametrize("place", [0.0, 0.3, 0.999])
def test_a_flipped_byte_is_found_and_the_file_named(written, tmp_path, name, place):
    folder = shutil.copytree(written[0].folder, tmp_path / "copy")
    content = bytearray((folder / name).read_bytes())
    content[int(place * len(content))] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(IsograftError, match=name if name == "model.json" else f"{name}|model.json"):
        Model.load(folder)


def test_no_flipped_bit_of_the_passport_goes_unnoticed(written, tmp_path):
    folder = shutil.copytree(written[0].folder, tmp_path / "copy")
    content = (folder / PASSPORT_FILE).read_bytes()
    for place in np.linspace(0, len(content) - 1, 60).astype(int):
        changed = bytearray(content)
        changed[place] ^= 1 << int(place % 7)
        (folder / PASSPORT_FILE).write_bytes(changed)
        with pytest.raises(IsograftError):
            Model.load(folder)


def test_a_missing_file_is_named(written, tmp_path):
    folder = shutil.copytree(written[0].folder, tmp_path / "copy")
    (folder / "seen.parquet").unlink()
    with pytest.raises(IsograftError, match=r"seen\.parquet is missing"):
        Model.load(folder)


def test_what_is_no_model_folder_is_told_apart(tmp_path):
    with pytest.raises(IsograftError, match="there is no model folder"):
        Model.load(tmp_path / "none")
    with pytest.raises(IsograftError, match="is no model folder"):
        Model.load(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(IsograftError, match="not finished"):
        Model.load(tmp_path)


def test_a_passport_of_a_newer_format_says_to_update(written, tmp_path):
    folder = shutil.copytree(written[0].folder, tmp_path / "copy")
    text = (folder / PASSPORT_FILE).read_text()
    (folder / PASSPORT_FILE).write_text(text.replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(IsograftError, match="newer version"):
        Model.load(folder)


def test_the_content_hash_of_equal_runs_is_equal_and_of_other_weights_is_not(tmp_path):
    plan = [{"name": "epochs", "value": 3, "reason": "measured 1.31 s"}]
    one, _ = make(tmp_path / "1", created="2024", metrics={"seconds": 1.0}, plan=plan)
    same, _ = make(tmp_path / "2", created="2025", metrics={"seconds": 2.0}, plan=[{**plan[0], "reason": "measured 1.32 s"}])
    longer, _ = make(tmp_path / "3", plan=[{**plan[0], "value": 4}])
    other, _ = make(tmp_path / "4", plan=plan, seed=1)
    assert one.content_hash == same.content_hash
    assert len({one.content_hash, longer.content_hash, other.content_hash}) == 3


def test_equal_weights_give_equal_bytes(tmp_path):
    make(tmp_path / "1")
    make(tmp_path / "2")
    for name in ("model.safetensors", "seen.parquet"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_figures_that_json_does_not_know_are_stored_as_what_they_mean(tmp_path):
    metrics = {"auc": float("nan"), "f1": np.float64(0.5), "sizes": (1, 2), "path": Path("a")}
    make(tmp_path / "m", metrics=metrics)
    assert Model.load(tmp_path / "m").passport.metrics == {"auc": None, "f1": 0.5, "sizes": [1, 2], "path": "a"}


def test_a_file_already_in_the_folder_is_only_listed(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "history.csv").write_text("a\n")
    model, _ = make(tmp_path / "m", extra={"history.csv": tmp_path / "m" / "history.csv"})
    assert "history.csv" in Model.load(model.folder).passport.files


@pytest.mark.parametrize("name", ["../x", "/x", "model.json"])
def test_further_files_cannot_leave_the_folder_or_replace_its_own(tmp_path, name):
    with pytest.raises(IsograftError, match="cannot be a further file"):
        make(tmp_path / "m", extra={name: b""})


def test_a_full_disk_leaves_no_passport_and_says_so(tmp_path, monkeypatch):
    def full(self, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(IsograftError, match="No space left on device"):
        make(tmp_path / "m")
    assert not (tmp_path / "m" / PASSPORT_FILE).exists()


def test_a_classifier_without_classes_is_refused():
    with pytest.raises(ValueError, match="has a head and classes"):
        Passport(
            kind="classifier",
            backbone=BackboneRecord(name="x", features=2),
            preprocess=Preprocess(image_size=8, working_size=8),
            method="probe",
        )


@pytest.mark.parametrize("file", ["", "model.safetensors"])
def test_a_start_from_the_folder_or_its_weights_keeps_the_lineage(written, file):
    found = resolve_init(str(written[0].folder / file), "auto", {})
    assert found.model is not None and found.model.content_hash == written[0].content_hash
    assert (found.backbone, found.arguments, found.mean) == ("alzubaidi_light", {"width": 2}, written[0].preprocess.mean)
    assert set(found.tensors) == set(written[1].backbone.state_dict())
