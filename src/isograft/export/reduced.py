"""Networks in smaller numbers: fp16 and int8."""

from __future__ import annotations

import copy
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

from isograft.export.trial import Image


def to_fp16(network: Any) -> Any:
    """A network's graph with weights and arithmetic in float16, its inputs and outputs as before."""
    return convert_float_to_float16(copy.deepcopy(network), keep_io_types=True)


def to_int8(network: Any, squares: Sequence[Image]) -> Any:
    """A network's graph with int8 weights and activations.

    Weights have a scale per channel; ranges of activations are those seen on images (static quantisation; Jacob et al. 2018,
    arXiv:1712.05877).

    Args:
        network: `isograft.export.graph.network_graph` of it.
        squares: uint8 (S, S, 3), as the network sees images.
    """
    loud = logging.getLogger()
    before = loud.level
    with tempfile.TemporaryDirectory() as folder:
        given, ready, done = (Path(folder) / name for name in ("given.onnx", "ready.onnx", "done.onnx"))
        onnx.save(network, str(given))
        try:
            loud.setLevel(logging.ERROR)
            quant_pre_process(str(given), str(ready), skip_symbolic_shape=True)
            quantize_static(
                str(ready),
                str(done),
                _Reader(squares),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                extra_options={"WeightSymmetric": True},
            )
        finally:
            loud.setLevel(before)
        return onnx.load(str(done))


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Gives images one at a time."""

    def __init__(self, squares: Sequence[Image]) -> None:
        self._todo = iter(squares)

    def get_next(self) -> dict[str, Any] | None:
        square = next(self._todo, None)
        return None if square is None else {"pixels": np.ascontiguousarray(square)[None]}
