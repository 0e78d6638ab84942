"""Nothing that is opened is unpickled: the second door behind torch's weights_only."""

import collections
import io
import os
import pickle
import threading
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch

from isograft.data.cache import ImageCache
from isograft.errors import IsograftError
from isograft.model import Model
from isograft.networks import weights
from isograft.networks.files import load_tensors
from isograft.networks.weights import resolve_init
from isograft.train.engine import StraightToDisk
from isograft.unpickling import PickleRefused, nothing_unpickled


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self):
        return os.mkdir, (str(self.proof),)


@pytest.fixture
def proof(tmp_path):
    return tmp_path / "it ran"


def torch_bytes(content, zipped=True) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def array_bytes(value) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([value], dtype=object), allow_pickle=True)
    return stream.getvalue()


def joblib_bytes(value) -> bytes:
    stream = io.BytesIO()
    joblib.dump(value, stream)
    return stream.getvalue()


UNSAFE = {
    "pickle": (pickle.dumps, pickle.loads),
    "the unpickler written in Python": (pickle.dumps, pickle._loads),
    "numpy": (array_bytes, lambda data: np.load(io.BytesIO(data), allow_pickle=True)),
    "joblib": (joblib_bytes, lambda data: joblib.load(io.BytesIO(data))),
    "torch": (torch_bytes, lambda data: torch.load(io.BytesIO(data), weights_only=False)),
    "torch, old format": (
        lambda value: torch_bytes(value, zipped=False),
        lambda data: torch.load(io.BytesIO(data), weights_only=False),
    ),
}


@pytest.mark.parametrize(("write", "read"), UNSAFE.values(), ids=list(UNSAFE))
def test_no_unpickler_calls_anything_while_a_file_is_opened(write, read, proof):
    data = write(Payload(proof))
    with pytest.raises(PickleRefused, match="the file x holds more than numbers: it asks for "), nothing_unpickled("the file x"):
        read(data)
    assert not proof.exists()
    read(data)
    assert proof.exists(), "the payload of this test does not work"


@pytest.mark.parametrize("zipped", [True, False])
def test_what_weights_files_hold_passes_the_guard(zipped):
    content = {
        "state_dict": collections.OrderedDict(a=torch.ones(2, dtype=torch.bfloat16), b=torch.zeros(3, dtype=torch.uint8)),
        "epoch": 3,
        "name": "x",
        "sizes": torch.Size([1, 2]),
        "rows": [{"loss": 0.5}],
    }
    with nothing_unpickled("a file"):
        found = torch.load(io.BytesIO(torch_bytes(content, zipped)), weights_only=True)
    assert torch.equal(found["state_dict"]["a"], content["state_dict"]["a"]) and found["rows"] == content["rows"]


def test_the_guard_ends_with_its_block_whatever_ends_it_and_leaves_other_threads_alone(proof):
    data = pickle.dumps(Payload(proof))
    with pytest.raises(ValueError, match="mine"), nothing_unpickled("x"):
        raise ValueError("mine")
    with nothing_unpickled("outer"):
        with nothing_unpickled("inner"):
            pass
        with pytest.raises(PickleRefused, match="outer"):
            pickle.loads(data)
        other = threading.Thread(target=pickle.loads, args=(data,))
        other.start()
        other.join()
    assert proof.exists()


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".pth", ".bin"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_weights_file_that_would_run_code_is_refused_in_one_sentence(suffix, zipped, tmp_path, proof, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(torch_bytes({"state_dict": {"a": torch.ones(1)}, "extra": Payload(proof)}, zipped))
    with pytest.raises(IsograftError, match=r"^\S+ is damaged or holds objects other than tensors, which could run code") as refused:
        resolve_init(str(path), "test_resnet", {})
    assert "\n" not in str(refused.value) and not proof.exists()


def test_a_bare_pickle_with_the_name_of_weights_is_refused(tmp_path, proof):
    for name in ("w.pt", "w.ckpt", "w.safetensors"):
        path = tmp_path / name
        path.write_bytes(pickle.dumps(Payload(proof)))
        with pytest.raises(IsograftError, match=name):
            load_tensors(path)
    assert not proof.exists()


def test_the_guard_stands_behind_torchs_own_refusal(tmp_path, proof, monkeypatch):
    """Were torch to forget weights_only, nothing would run all the same."""
    path = tmp_path / "w.pt"
    path.write_bytes(torch_bytes({"a": Payload(proof)}))
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *given, **named: load(*given, **{**named, "weights_only": False}))
    with pytest.raises(IsograftError, match="holds objects other than tensors"):
        load_tensors(path)
    assert not proof.exists()


def test_weights_from_a_hub_are_opened_under_the_guard(monkeypatch, proof):
    data = pickle.dumps(Payload(proof))
    monkeypatch.setattr(weights.timm, "create_model", lambda *given, **named: pickle.loads(data))
    with pytest.raises(IsograftError, match="hf-hub:someone/something cannot be had"):
        resolve_init("hf-hub:someone/something", "auto", {})
    assert not proof.exists()


def test_a_saved_state_is_read_without_running_anything(tmp_path, proof):
    path = tmp_path / "last.ckpt"
    for content, complaint in (
        ({"pytorch-lightning_version": "2.6", "callbacks": Payload(proof)}, "holds objects other than tensors"),
        ({"a": torch.ones(1)}, "is no saved state of a training"),
        (torch.ones(1), "is no saved state of a training"),
    ):
        torch.save(content, path)
        with pytest.raises(IsograftError, match=complaint):
            StraightToDisk().load_checkpoint(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(IsograftError, match=r"last\.ckpt (cannot be read|is damaged)"):
        StraightToDisk().load_checkpoint(path)
    assert not proof.exists()


@pytest.mark.parametrize("opened", [Model.load, Model.tensors, ImageCache._open], ids=lambda one: one.__qualname__)
def test_model_folders_and_caches_are_opened_under_the_guard(opened, monkeypatch, proof):
    """Whatever library they call: each fails here at its first look at the disk, which stands for a library that unpickles."""
    data = pickle.dumps(Payload(proof))

    def unpickles(*given, **named):
        pickle.loads(data)

    monkeypatch.setattr(Path, "is_file", unpickles)
    monkeypatch.setattr("isograft.model.load_file", unpickles)
    monkeypatch.setattr(Path, "open", unpickles)
    given = {"load": ("folder",), "tensors": (Model(Path("folder"), None),), "_open": (Path("path"), None, None, None)}[opened.__name__]
    with pytest.raises(PickleRefused):
        opened(*given)
    assert not proof.exists()
