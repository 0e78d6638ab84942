"""The three forms of an export: each is made, run as another program would run it, and kept only if its answers hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from isograft.export.about import about, as_text
from isograft.export.parity import Run
from isograft.export.trial import Image, Trial
from isograft.inference import answers, softmax
from isograft.model import Model
from isograft.run import whole_folder, write_atomic
from isograft.settings import ExportSettings

if TYPE_CHECKING:
    from torch import nn


def write(
    settings: ExportSettings, model: Model, network: nn.Module, ranges: Trial | None, check: Callable[[Run], dict[str, Any]]
) -> dict[str, Any]:
    """Write the form that is asked for.

    Args:
        settings: What is asked.
        model: The model.
        network: Its network.
        ranges: Images on which the ranges of int8 numbers are found.
        check: Compares the answers of what was made with the model's own, and raises where they differ; then nothing is written.

    Returns:
        What `check` found.
    """
    if settings.to == "timm":
        from isograft.export.tensors import write_timm

        with whole_folder(settings.out) as folder:
            write_timm(model, folder)
            return check(_timm_run(model, folder))
    content, run = _onnx(settings, model, network, ranges) if settings.to == "onnx" else _safetensors(model, network)
    found = check(run)
    write_atomic(settings.out, content)
    return found


def _onnx(settings: ExportSettings, model: Model, network: nn.Module, ranges: Trial | None) -> tuple[bytes, Run]:
    import onnxruntime

    from isograft.export.assembled import assembled
    from isograft.export.graph import network_graph

    graph = network_graph(network, model.preprocess)
    if settings.precision != "fp32":
        from isograft.export.reduced import to_fp16, to_int8

        graph = to_int8(graph, ranges.squares(model)) if ranges is not None else to_fp16(graph)
    content = assembled(graph, model.preprocess, model.judgement().temperature, as_text(about(model))).SerializeToString()
    onnxruntime.disable_telemetry_events()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]

    def run(images: Sequence[Image]) -> tuple[Any, Any]:
        said = dict(zip(names, session.run(names, {"image": np.stack(images)}), strict=True))
        p = said.get("probabilities")
        return (None if p is None else p.astype(np.float64)), said["embedding"].reshape(len(images), model.passport.members, -1)

    return content, run


def _safetensors(model: Model, network: nn.Module) -> tuple[bytes, Run]:
    from safetensors.torch import load

    from isograft.export.tensors import safetensors_bytes

    content = safetensors_bytes(model)
    network.load_state_dict(load(content))

    def run(images: Sequence[Image]) -> tuple[Any, Any]:
        said = list(answers(network, model.preprocess, map(model.preprocess.square, images), batch=1))
        if model.classes is None:
            return None, np.stack([one.logits for one in said])
        return model.judgement().probabilities(said), np.stack([one.embeddings for one in said])

    return content, run


def _timm_run(model: Model, folder: Path) -> Run:
    """A timm folder as another program would run it, with our preprocessing."""
    from isograft.export.tensors import apply, features_of, load_timm

    scores, features = load_timm(folder), features_of(load_timm(folder))
    temperature = model.judgement().temperature

    def run(images: Sequence[Image]) -> tuple[Any, Any]:
        x = model.preprocess.normalise(torch.from_numpy(np.stack([model.preprocess.square(image) for image in images])))
        embeddings = apply(features, x).numpy()[:, None]
        return (None if model.classes is None else softmax(apply(scores, x).numpy() / temperature)), embeddings

    return run
