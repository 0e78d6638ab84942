"""What an exported network costs and gains, against torch in the same process.

For each model folder and each arithmetic: size, images per second of the network on ready squares relative to torch, one at a time
and sixteen at a time, and what the comparison with `predict` on the model's own test split says. Ratios are medians over turns.

    python benchmarks/export.py MODEL...
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

import isograft
from harness import IMAGES, arguments, described, finish, parser
from isograft.export.graph import network_graph
from isograft.export.reduced import to_fp16, to_int8
from isograft.export.trial import find_ranges, find_trial
from material import classifier, photographs


def ratio(ours: Callable[[], Any], theirs: Callable[[], Any], turns: int) -> float:
    """How many times as fast `ours` is: median over turns."""
    found = []
    for _ in range(turns + 1):
        seconds = []
        for call in (ours, theirs):
            began = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - began)
        found.append(seconds[1] / seconds[0])
    return statistics.median(found[1:])


def measure(folder: Path, precision: str, turns: int, threads: int) -> dict[str, Any]:
    """One row of the table."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "m.onnx"
        told = isograft.export(folder, to="onnx", out=out, precision=precision)
    model = isograft.Model.load(folder)
    network = model.network()
    graph = network_graph(network, model.preprocess)
    if precision == "int8":
        graph = to_int8(graph, find_ranges(model, find_trial(model, None))[0].squares(model))
    elif precision == "fp16":
        graph = to_fp16(graph)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options)
    row = {
        "model": f"{model.passport.backbone.name}@{model.preprocess.image_size} x {model.passport.members}",
        "precision": precision,
        "mb": told["bytes"] / 1e6,
        "largest": told["largest_difference"],
        "agreement": told["agreement"],
        "auc_change": None if told["auc"]["before"] is None else told["auc"]["after"] - told["auc"]["before"],
    }
    for batch in (1, 16):
        side = model.preprocess.image_size
        pixels = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), dtype=np.uint8)

        def by_torch(pixels: np.ndarray = pixels) -> None:
            with torch.inference_mode():
                network(model.preprocess.normalise(torch.from_numpy(pixels)))

        row[f"x_torch_{batch}"] = ratio(lambda pixels=pixels: session.run(None, {"pixels": pixels}), by_torch, turns)
    return row


def made(work: Path, args: Any) -> Path:
    """A classifier with random weights: of EfficientNet-Lite0 at 96 px, or of a tiny network with --quick."""
    images = args.images or photographs(work / "drawn", 60)
    return classifier(work / "model", images, *(("test_resnet", 32) if args.quick else ("tf_efficientnet_lite0", 96)))


def main() -> None:
    """Print and write the figures."""
    asked = parser(__doc__)
    asked.add_argument("models", nargs="*", type=Path, help="model folders whose test images are where they were [default: a random one]")
    asked.add_argument("--images", type=Path, default=IMAGES, help="images of the model that is made when none is given")
    asked.add_argument("--turns", type=int, default=15)
    asked.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    args = arguments(asked, {"images": None, "turns": 1, "threads": 1})
    torch.set_num_threads(args.threads)
    with described() as result, tempfile.TemporaryDirectory() as work:
        models = args.models or [made(Path(work), args)]
        rows = [measure(folder, precision, args.turns, args.threads) for folder in models for precision in ("fp32", "fp16", "int8")]
        result["exports"] = rows
    finish(result, args)


if __name__ == "__main__":
    main()
