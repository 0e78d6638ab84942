"""A network as an ONNX graph: from the square it sees to its scores and pooled features."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from isograft.errors import IsograftError
from isograft.extras import needed
from isograft.networks.ensemble import Ensemble
from isograft.networks.heads import Classifier

if TYPE_CHECKING:
    from isograft.data.preprocess import Preprocess

OPSET = 18
"""Of ONNX; ONNX Runtime 1.14 and later know it."""


class Shown(nn.Module):
    """A network that takes pixels as they are.

    Args:
        network: A classifier, an ensemble of them, or a backbone, on the CPU.
        preprocess: Its preprocessing, of which only `normalise` is applied.
    """

    def __init__(self, network: nn.Module, preprocess: Preprocess) -> None:
        super().__init__()
        self.network = network
        self._normalise = preprocess.normalise

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Pixels uint8 (B, S, S, 3) to logits (B, M, K) and pooled features (B, M, D) of M networks; of a backbone to features alone."""
        x = self._normalise(pixels)
        if isinstance(self.network, Classifier | Ensemble):
            return self.network.outputs(x)
        return (self.network(x).unsqueeze(1),)


def network_graph(network: nn.Module, preprocess: Preprocess) -> Any:
    """Turn a network into an ONNX graph.

    Args:
        network: A classifier, an ensemble of them, or a backbone; it is left on the CPU in evaluation mode.
        preprocess: Its preprocessing.

    Returns:
        An `onnx.ModelProto`: `pixels` uint8 (B, S, S, 3) RGB in, `logits` float32 (B, M, K) and `embeddings` float32 (B, M, D) out, for
        any batch B; of a backbone only `embeddings`.

    Raises:
        IsograftError: The packages for it are not installed, or the network holds something that ONNX cannot say.
    """
    needed("onnx", "onnx")
    needed("onnxscript", "onnx")
    shown, side = Shown(network.cpu().eval(), preprocess).eval(), preprocess.image_size
    loud = logging.getLogger("torch.onnx")
    before = loud.level
    try:
        loud.setLevel(logging.ERROR)
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                shown,
                (torch.zeros((2, side, side, 3), dtype=torch.uint8),),
                dynamo=True,
                input_names=["pixels"],
                output_names=["logits", "embeddings"] if isinstance(network, Classifier | Ensemble) else ["embeddings"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                opset_version=OPSET,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise IsograftError(f"the network cannot be turned into ONNX: {reason}; export it with --to safetensors or --to timm") from error
    finally:
        loud.setLevel(before)
    if program is None:
        raise IsograftError("this version of torch gave no ONNX program; update torch")
    return program.model_proto
