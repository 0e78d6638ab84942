"""Which engine computes: asked for, or measured once and kept; ONNX Runtime only where it agrees."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch

from isograft.batching import trial_images
from isograft.data.preprocess import Preprocess
from isograft.engines import choice, engine_for, kept
from isograft.engines.engine import Engine
from isograft.errors import IsograftError
from isograft.inference import answered, softmax
from isograft.networks.heads import Classifier, build_head

PREPROCESS = Preprocess(image_size=32, working_size=32)
FEW, MANY = 100, 10**7


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What engines need of a model, and an empty cache folder."""
    monkeypatch.setattr(kept, "default_cache_dir", lambda: tmp_path / "cache")
    torch.manual_seed(0)
    backbone = timm.create_model("test_resnet", num_classes=0)
    network = Classifier(backbone, build_head("linear", backbone.num_features, 3)).eval()
    return SimpleNamespace(network=lambda: network, preprocess=PREPROCESS, content_hash="c0ffee", cache=tmp_path / "cache")


def _measured(monkeypatch: pytest.MonkeyPatch, speedup: float, difference: float = 1e-7) -> None:
    monkeypatch.setattr(choice, "_speedup", lambda plain, fast: speedup)
    monkeypatch.setattr(choice, "_difference", lambda plain, fast: difference)


def _logits(engine: Engine, images: np.ndarray) -> np.ndarray:
    with engine:
        return np.stack([answer.logits for answer in answered(engine, images)])


def test_few_images_are_torchs_without_a_measurement(model: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_chosen", lambda *_: pytest.fail("measured"))
    assert engine_for(model, "auto", FEW).name == "torch"


def test_onnxruntime_gives_torchs_probabilities_and_an_answer_does_not_depend_on_its_neighbours(model: SimpleNamespace) -> None:
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    images = trial_images(21, 32)
    plain = _logits(engine_for(model, "torch", FEW), images)
    fast = _logits(engine_for(model, "onnxruntime", FEW), images)
    assert fast.shape == plain.shape == (21, 1, 3) and fast.dtype == np.float32
    assert np.abs(softmax(fast) - softmax(plain)).max() < 1e-5
    assert np.array_equal(_logits(engine_for(model, "onnxruntime", FEW), images[::-1]), fast[::-1])
    assert np.array_equal(_logits(engine_for(model, "onnxruntime", FEW), images[4:5]), fast[4:5])


def test_a_choice_is_kept_so_that_a_noisy_clock_changes_no_bits(
    model: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    _measured(monkeypatch, 3.0)
    assert engine_for(model, "auto", MANY).name == "onnxruntime"
    assert "engine: onnxruntime (onnxruntime 3.00 times as fast as torch, probabilities within 1e-07)" in capsys.readouterr().err
    _measured(monkeypatch, 0.5)
    assert engine_for(model, "auto", MANY).name == "onnxruntime"
    assert "measured before" in capsys.readouterr().err
    graph = next(model.cache.glob("engines/*.onnx"))
    graph.write_bytes(graph.read_bytes()[:-1])
    assert engine_for(model, "auto", MANY).name == "onnxruntime"  # a damaged graph is made again
    model.content_hash = "another"
    assert engine_for(model, "auto", MANY).name == "torch"


@pytest.mark.parametrize(("speedup", "difference", "said"), [(1.2, 1e-7, "1.20 times"), (9.0, 1e-3, "answers differently from torch")])
def test_little_gain_or_other_answers_leave_it_at_torch(
    model: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    speedup: float,
    difference: float,
    said: str,
) -> None:
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    monkeypatch.setattr(choice, "_onnx_engine", lambda model, network, kept: choice._torch_engine(model, network))
    _measured(monkeypatch, speedup, difference)
    assert engine_for(model, "auto", MANY).name == "torch"
    assert said in capsys.readouterr().err


def test_asked_for_onnxruntime_with_other_answers_is_refused(model: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_onnx_engine", lambda model, network, kept: choice._torch_engine(model, network))
    _measured(monkeypatch, 1.0, 0.01)
    with pytest.raises(IsograftError, match=r"differ from torch's by up to 0\.01"):
        engine_for(model, "onnxruntime", FEW)


def test_without_onnxruntime_auto_takes_torch_and_says_so_and_asking_for_it_names_the_extra(
    model: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "onnxruntime" else real(name, *rest))
    assert engine_for(model, "auto", MANY).name == "torch"
    assert "onnxruntime is not installed; with pip install 'isograft[onnx]'" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(IsograftError, match=r"pip install 'isograft\[onnx\]'"):
        engine_for(model, "onnxruntime", FEW)


def test_another_machine_or_other_software_measures_anew(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    here = kept.Kept.of(model)
    here.remember("torch", "it was measured")
    assert kept.Kept.of(model).record == {"engine": "torch", "why": "it was measured"}
    monkeypatch.setattr(kept, "versions", lambda: {"torch": "0"})
    assert kept.Kept.of(model).record is None
    (here.folder / f"{here.key}.json").write_text("{")
    monkeypatch.undo()
    assert here.record is None


def test_only_the_newest_networks_are_kept(tmp_path: Path) -> None:
    for number in range(kept.MOST_GRAPHS + 3):
        kept.Kept(tmp_path, f"{number:02}").keep_graph(b"graph")
        os.utime(tmp_path / f"{number:02}.onnx", (number, number))
    kept.Kept(tmp_path, "last").keep_graph(b"graph")
    assert len(list(tmp_path.glob("*.onnx"))) == kept.MOST_GRAPHS and kept.Kept(tmp_path, "last").graph() == b"graph"
    assert kept.Kept(tmp_path, "00").graph() is None


def test_a_network_that_onnx_runtime_cannot_load_is_one_sentence() -> None:
    from isograft.engines.onnx_engine import OnnxEngine

    with pytest.raises(IsograftError, match="cannot load the network"):
        OnnxEngine(b"no graph", 32, 1000)
