"""A network computed by ONNX Runtime on the CPU: the same network, other kernels, hence other last digits."""

from __future__ import annotations

from typing import Any

import torch

from isograft.batching import batch_size
from isograft.engines.engine import Engine, Images, Outputs
from isograft.errors import IsograftError
from isograft.extras import needed


class OnnxEngine(Engine):
    """One session, in which every batch is computed on one core; ONNX Runtime's telemetry is off.

    Args:
        graph: The bytes of an ONNX graph as `isograft.export.graph.network_graph` makes it.
        side: S, side of the square the network sees, in pixels.
        parameters: Number of weights of the network.
        batch: Images per batch; None chooses by the size of images and network.
        workers: Batches at a time; None for as many as torch would use threads.

    Raises:
        IsograftError: ONNX Runtime is not installed.
    """

    name = "onnxruntime"

    def __init__(self, graph: bytes, side: int, parameters: int, batch: int | None = None, workers: int | None = None) -> None:
        runtime: Any = needed("onnxruntime", "onnx")
        runtime.disable_telemetry_events()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its own classes, and RuntimeError
            reason = str(error).strip().splitlines()[0]
            raise IsograftError(f"ONNX Runtime cannot load the network: {reason}; use --engine torch, or another version of it") from error
        super().__init__(side, batch or batch_size(side, parameters, "cpu"), workers or torch.get_num_threads())

    def _compute(self, batch: Images) -> Outputs:
        logits, embeddings = self._session.run(["logits", "embeddings"], {"pixels": batch})
        return logits, embeddings
