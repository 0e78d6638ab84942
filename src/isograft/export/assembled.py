"""One ONNX file from an image to calibrated probabilities: preprocessing, network and calibration in one graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
from onnx import TensorProto, compose, helper

from isograft._version import __version__
from isograft.data.preprocess import Preprocess
from isograft.errors import IsograftError
from isograft.export.preprocessing import IR_VERSION, preprocessing_graph

_NETWORK = "network/"


def assembled(network: Any, preprocess: Preprocess, temperature: float, told: Mapping[str, str]) -> Any:
    """Put preprocessing before a network's graph and calibration behind it.

    Args:
        network: `isograft.export.graph.network_graph` of it.
        preprocess: Its preprocessing.
        temperature: What logits are divided by.
        told: Metadata of the file.

    Returns:
        An `onnx.ModelProto`. In: `image` uint8 (B, H, W, 3) RGB of any height and width. Out: `probabilities` float32 (B, K), calibrated;
        `logits` float32 (B, M, K) of M networks before calibration; `embedding` float32 (B, D), the pooled features,
        or (B, M, D) when M > 1. Of a backbone there is only `embedding`.

    Raises:
        IsograftError: ONNX finds the graph unsound.
    """
    inside = compose.add_prefix(network, _NETWORK)
    inside.ir_version = IR_VERSION
    del inside.metadata_props[:]
    whole = compose.merge_models(preprocessing_graph(preprocess), inside, io_map=[("pixels", f"{_NETWORK}pixels")])
    _calibrate(whole.graph, temperature)
    for name, value in told.items():
        whole.metadata_props.add(key=name, value=value)
    whole.producer_name, whole.producer_version = "isograft", __version__
    whole.graph.name = "isograft"
    try:
        onnx.checker.check_model(whole, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise IsograftError(f"the ONNX graph is not sound: {str(error).splitlines()[0]}; export it with --to safetensors") from error
    return whole


def _calibrate(graph: Any, temperature: float) -> None:
    """Turn the network's outputs into those of the file."""
    logits, features = (f"{_NETWORK}{name}" for name in ("logits", "embeddings"))
    shapes = {one.name: [side.dim_value or side.dim_param for side in one.type.tensor_type.shape.dim] for one in graph.output}
    batch, members, length = shapes[features]
    made: list[tuple[str, list[Any]]] = []
    graph.node.append(helper.make_node("Constant", [], ["members"], value_ints=[1]))
    if logits in shapes:
        graph.node.extend(
            [
                helper.make_node("Constant", [], ["temperature"], value_float=float(temperature)),
                helper.make_node("Div", [logits, "temperature"], ["cooled"]),
                helper.make_node("Softmax", ["cooled"], ["each"], axis=2),
                helper.make_node("ReduceMean", ["each", "members"], ["probabilities"], keepdims=0),
                helper.make_node("Identity", [logits], ["logits"]),
            ]
        )
        made += [("probabilities", [batch, shapes[logits][2]]), ("logits", shapes[logits])]
    if members > 1:
        graph.node.append(helper.make_node("Identity", [features], ["embedding"]))
    else:
        graph.node.append(helper.make_node("Squeeze", [features, "members"], ["embedding"]))
    made.append(("embedding", [batch, members, length] if members > 1 else [batch, length]))
    del graph.output[:]
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in made)
