"""`isograft export`: a model for other programs, with proof that its answers are the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from isograft import console
from isograft.errors import IsograftError
from isograft.export.about import about, as_text
from isograft.export.parity import Run, compare, tell
from isograft.export.trial import Image, Reference, Trial, find_ranges, find_trial, refer
from isograft.extras import needed
from isograft.inference import answers, softmax
from isograft.model import Model
from isograft.run import require_free, whole_folder, write_atomic
from isograft.settings import ExportSettings

if TYPE_CHECKING:
    from torch import nn


def export(settings: ExportSettings) -> dict[str, Any]:
    """Write a model for other programs, after its answers to real images were found to be those of `predict`.

    Returns:
        The comparison, see `isograft.export.parity.compare`, with `to`, `out`, `precision` and `bytes`.

    Raises:
        IsograftError: The output exists, a package is missing, no image is there to compare on, the form has no place for the model, or
            the answers differ by more than the tolerance; then nothing is written.
    """
    _require_absent(settings)
    for module in ("onnx", "onnxscript", "onnxruntime") if settings.to == "onnx" else ():
        needed(module, "onnx")
    model = Model.load(settings.model)
    network = model.network()
    trial, ranges = find_trial(model, settings.images), None
    if settings.precision == "int8":
        ranges, trial = find_ranges(model, trial)
    expected = refer(model, network, trial)
    write = {"onnx": _to_onnx, "safetensors": _to_safetensors, "timm": _to_timm}[settings.to]
    found = write(settings, model, network, trial, expected, ranges)
    tell(found)
    size = settings.out.stat().st_size if settings.out.is_file() else sum(one.stat().st_size for one in settings.out.iterdir())
    console.say(f"written to {settings.out} ({size / 1e6:.1f} MB)")
    return {**found, "to": settings.to, "out": str(settings.out), "precision": settings.precision, "bytes": size}


def _require_absent(settings: ExportSettings) -> None:
    if settings.to == "timm":
        require_free(settings.out)
    elif settings.out.exists():
        raise IsograftError(f"--out {settings.out} already exists; delete it or choose another name")


def _to_onnx(
    settings: ExportSettings, model: Model, network: nn.Module, trial: Trial, expected: Reference, ranges: Trial | None
) -> dict[str, Any]:
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

    found = compare(run, trial, expected, model.classes or (), settings.precision)
    write_atomic(settings.out, content)
    return found


def _to_safetensors(
    settings: ExportSettings, model: Model, network: nn.Module, trial: Trial, expected: Reference, ranges: Trial | None
) -> dict[str, Any]:
    from safetensors.torch import load

    from isograft.export.tensors import safetensors_bytes

    content = safetensors_bytes(model)
    network.load_state_dict(load(content))

    def run(images: Sequence[Image]) -> tuple[Any, Any]:
        said = list(answers(network, model.preprocess, Trial(list(images), [], "").squares(model), batch=1))
        if model.classes is None:
            return None, np.stack([one.logits for one in said])
        return model.judgement().probabilities(said), np.stack([one.embeddings for one in said])

    found = compare(run, trial, expected, model.classes or (), settings.precision)
    write_atomic(settings.out, content)
    return found


def _to_timm(
    settings: ExportSettings, model: Model, network: nn.Module, trial: Trial, expected: Reference, ranges: Trial | None
) -> dict[str, Any]:
    from isograft.export.tensors import write_timm

    with whole_folder(settings.out) as folder:
        write_timm(model, folder)
        return compare(_timm_run(model, folder), trial, expected, model.classes or (), settings.precision)


def _timm_run(model: Model, folder: Path) -> Run:
    """A timm folder as another program would run it, with our preprocessing."""
    from isograft.export.tensors import apply, features_of, load_timm

    scores, features = load_timm(folder), features_of(load_timm(folder))
    temperature = model.judgement().temperature

    def run(images: Sequence[Image]) -> tuple[Any, Any]:
        squares = np.stack(Trial(list(images), [], "").squares(model))
        x = model.preprocess.normalise(torch.from_numpy(squares))
        embeddings = apply(features, x).numpy()[:, None]
        return (None if model.classes is None else softmax(apply(scores, x).numpy() / temperature)), embeddings

    return run
