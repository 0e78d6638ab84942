"""How fast torch and ONNX Runtime compute the same networks, with random weights, each with a batch per core.

Torch with one batch on all cores stands beside them. The three take turns in one process; the best of several rounds counts.

    python benchmarks/engines.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from harness import arguments, described, finish, parser, significant
from isograft.batching import trial_images
from isograft.data.preprocess import Preprocess
from isograft.engines.engine import Engine
from isograft.engines.onnx_engine import OnnxEngine
from isograft.engines.torch_engine import TorchEngine
from isograft.export.graph import network_graph
from isograft.inference import answered, softmax
from isograft.networks.backbones import build_backbone
from isograft.networks.heads import Classifier, build_head

NETWORKS = (
    "tf_efficientnet_lite0@64",
    "tf_efficientnet_lite0@96",
    "tf_efficientnet_lite0@224",
    "resnet18@64",
    "resnet18@224",
    "vit_tiny_patch16_224@224",
    "alzubaidi_dcnn@224",
)


def classifier(name: str, side: int) -> Classifier:
    """A network of five classes with random weights."""
    torch.manual_seed(0)
    backbone = build_backbone(name, {}, side).eval()
    with torch.inference_mode():
        features = backbone(torch.zeros(1, 3, side, side)).shape[1]
    return Classifier(backbone, build_head("linear", features, 5)).eval()


def compared(name: str, side: int, seconds: float, rounds: int) -> dict[str, Any]:
    """Milliseconds per image of each way, and how much the answers differ."""
    network, preprocess = classifier(name, side), Preprocess(image_size=side, working_size=side)
    plain = TorchEngine(network, preprocess)
    began = time.perf_counter()
    graph = network_graph(network, preprocess).SerializeToString()
    converted = time.perf_counter() - began
    fast = OnnxEngine(graph, side, sum(one.numel() for one in network.parameters()))
    images = list(trial_images(16, side)) * (4 if plain.size > 1 else 1)  # several batches for every core

    def by(engine: Engine) -> Callable[[], np.ndarray]:
        return lambda: np.stack([answer.logits[0] for answer in answered(engine, images)])

    def all_cores() -> None:
        with torch.inference_mode():
            for start in range(0, len(images), plain.size):
                network.outputs(preprocess.normalise(torch.from_numpy(np.stack(images[start : start + plain.size]))))

    todo: dict[str, Callable[[], Any]] = {"torch": by(plain), "onnxruntime": by(fast), "torch, all cores on one batch": all_cores}
    said = [softmax(todo[engine]()) for engine in ("torch", "onnxruntime")]
    best = dict.fromkeys(todo, float("inf"))
    for _ in range(rounds):
        for way, run in todo.items():
            until = time.perf_counter() + seconds
            while (began := time.perf_counter()) < until:
                run()
                best[way] = min(best[way], (time.perf_counter() - began) / len(images))
    difference = float(np.abs(said[0] - said[1]).max())
    return {"network": f"{name}@{side}", "batch": [plain.size, fast.size], "convert_s": converted, "difference": difference} | {
        f"{way}, ms": 1e3 * value for way, value in best.items()
    }


def side_of(asked: str) -> tuple[str, int]:
    """Name and side of `NAME@SIDE`."""
    name, _, side = asked.rpartition("@")
    return name, int(side)


def main() -> None:
    """Measure; print and write the figures."""
    asked = parser(__doc__)
    asked.add_argument("--networks", nargs="+", default=NETWORKS, help="NAME@SIDE of each")
    asked.add_argument("--seconds", type=float, default=1.0, help="per way and round")
    asked.add_argument("--rounds", type=int, default=3)
    options = arguments(asked, {"networks": ["test_resnet@32"], "seconds": 0.1, "rounds": 1})
    found: list[dict[str, Any]] = []
    with described() as result:
        for name in options.networks:
            found.append(compared(*side_of(name), options.seconds, options.rounds))
            found[-1]["torch_over_onnxruntime"] = significant(found[-1]["torch, ms"] / found[-1]["onnxruntime, ms"])
        result["networks"] = found
    finish(result, options)


if __name__ == "__main__":
    main()
