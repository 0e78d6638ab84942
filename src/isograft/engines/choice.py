"""Which engine computes: as asked, or by a measurement that is kept, so that a machine that has chosen gives the same bytes again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from isograft import console
from isograft.batching import trial_images
from isograft.engines.engine import Engine
from isograft.engines.kept import Kept
from isograft.errors import IsograftError

if TYPE_CHECKING:
    from torch import nn

    from isograft.model import Model

MANY_PIXELS = 250_000_000
"""Pixels that the network has to see before `auto` measures: 5,000 images of 224 px, 60,000 of 64 px, about a minute of torch."""

FASTER = 1.25
"""How much faster ONNX Runtime must be to be taken."""

AGREEMENT = 1e-4
"""Largest difference in probability at which both give the same answers."""

_TRIED = 32
_REPEATS = 3


def engine_for(model: Model, name: str, images: int, network: nn.Module | None = None) -> Engine:
    """Make what computes a model's answers.

    Args:
        model: A classifier.
        name: `torch`, `onnxruntime`, or `auto`: torch for few images or on a GPU; for many the faster of both, measured once for
            a model and a machine.
        images: How many will be asked about.
        network: Of the model, if it was loaded before.

    Raises:
        IsograftError: ONNX Runtime is asked for and not installed, the network cannot be turned into ONNX, or it answers differently there.
    """
    network = network or model.network()
    if name == "torch" or (name == "auto" and not _worth_measuring(model, images)):
        return _torch_engine(model, network)
    if name == "auto":
        return _chosen(model, network)
    if name != "onnxruntime":
        raise IsograftError(f"there is no engine {name} for one process; use torch or onnxruntime")
    engine = _onnx_engine(model, network, Kept.of(model))
    with _torch_engine(model, network) as plain:
        difference = _difference(plain, engine)
    if difference > AGREEMENT:
        raise IsograftError(
            f"--engine onnxruntime: its probabilities differ from torch's by up to {difference:.2g} on trial images; use --engine torch"
        )
    return engine


def _worth_measuring(model: Model, images: int) -> bool:
    import torch

    return images * model.preprocess.image_size**2 >= MANY_PIXELS and not torch.cuda.is_available()


def _chosen(model: Model, network: nn.Module) -> Engine:
    """The faster engine, as measured now or before."""
    from importlib.util import find_spec

    if missing := [one for one in ("onnxruntime", "onnx", "onnxscript") if find_spec(one) is None]:
        console.say(f"engine: torch ({missing[0]} is not installed; with pip install 'isograft[onnx]' it may be faster)")
        return _torch_engine(model, network)
    kept = Kept.of(model)
    known = kept.record
    if known is not None and known["engine"] == "torch":
        console.say(f"engine: torch ({known['why']}, measured before)")
        return _torch_engine(model, network)
    try:
        fast = _onnx_engine(model, network, kept)
    except IsograftError as error:
        console.say(f"engine: torch ({error})")
        kept.remember("torch", str(error))
        return _torch_engine(model, network)
    if known is not None:
        console.say(f"engine: onnxruntime ({known['why']}, measured before)")
        return fast
    plain = _torch_engine(model, network)
    difference, ratio = _difference(plain, fast), _speedup(plain, fast)
    told = f"onnxruntime {ratio:.2f} times as fast as torch, probabilities within {difference:.1g}"
    taken, left = (fast, plain) if ratio >= FASTER and difference <= AGREEMENT else (plain, fast)
    left.close()
    if difference > AGREEMENT:
        console.warn(f"onnxruntime answers differently from torch: probabilities differ by up to {difference:.2g}; it is not used")
    console.say(f"engine: {taken.name} ({told})")
    kept.remember(taken.name, told)
    return taken


def _torch_engine(model: Model, network: nn.Module) -> Engine:
    from isograft.engines.torch_engine import TorchEngine

    return TorchEngine(network, model.preprocess)


def _onnx_engine(model: Model, network: Any, kept: Kept) -> Engine:
    """The engine of the graph that was kept, or of a new one."""
    from isograft.engines.onnx_engine import OnnxEngine
    from isograft.export.graph import network_graph
    from isograft.extras import needed

    needed("onnxruntime", "onnx")
    graph = kept.graph()
    if graph is None:
        console.say("turning the network into ONNX")
        graph = network_graph(network, model.preprocess).SerializeToString()
        kept.keep_graph(graph)
    return OnnxEngine(graph, model.preprocess.image_size, sum(one.numel() for one in network.parameters()))


def _difference(plain: Engine, fast: Engine) -> float:
    """The largest difference in probability on fixed images."""
    from isograft.inference import softmax

    images = trial_images(_TRIED, plain.side)
    return float(np.abs(softmax(_answer(plain, images)) - softmax(_answer(fast, images))).max())


def _speedup(plain: Engine, fast: Engine) -> float:
    """How many times as fast the second is on fixed images, each at its best."""
    images = trial_images(_TRIED, plain.side)
    slow, quick = ([_seconds(engine, images) for _ in range(_REPEATS)] for engine in (plain, fast))
    return min(slow) / min(quick)


def _answer(engine: Engine, images: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    begun = [engine.submit(images[start : start + engine.size]) for start in range(0, len(images), engine.size)]
    logits: Sequence[Any] = [one.result()[0] for one in begun]
    return np.concatenate(logits)[: len(images)]


def _seconds(engine: Engine, images: np.ndarray[Any, np.dtype[np.uint8]]) -> float:
    began = time.perf_counter()
    _answer(engine, images)
    return time.perf_counter() - began
