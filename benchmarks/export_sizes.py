"""The preprocessing inside an exported graph against that of `predict`, on images of random sizes.

Claim: a pixel is at most one grey level off, and of most sizes none is. Where a mean lies half-way between two grey levels, the graph and
OpenCV may round it to different sides.

Sides are drawn from 1 to 600 pixels; networks see 24, 48, 64 or 224 pixels. No model is needed, and no clock is read.

    python benchmarks/export_sizes.py [--sizes 1660] [--json figures.json]
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import onnxruntime

from harness import arguments, described, finish, parser
from isograft.data.preprocess import Preprocess
from isograft.export.preprocessing import preprocessing_graph

KINDS = [Preprocess(image_size=side, working_size=working) for side, working in ((24, 32), (48, 48), (64, 96), (224, 256))]


def picture(draw: np.random.Generator) -> np.ndarray:
    """A smooth, noisy colour image of a random size, uint8 (H, W, 3)."""
    width, height = draw.integers(1, 601, 2).tolist()
    smooth = cv2.resize(draw.uniform(0, 255, (5, 6, 3)), (width, height), interpolation=cv2.INTER_LINEAR)
    return (smooth + draw.normal(0, 20, smooth.shape)).clip(0, 255).astype(np.uint8)


def compare(count: int) -> dict[str, Any]:
    """How many sizes have a pixel that differs, and by how much."""
    draw = np.random.default_rng(0)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = [onnxruntime.InferenceSession(preprocessing_graph(kind).SerializeToString(), options) for kind in KINDS]
    differing, share, largest = 0, 0.0, 0
    for number in range(count):
        image, place = picture(draw), number % len(KINDS)
        apart = np.abs(sessions[place].run(None, {"image": image[None]})[0][0].astype(int) - KINDS[place].square(image))
        differing += bool(apart.any())
        share, largest = max(share, float((apart > 0).mean())), max(largest, int(apart.max()))
    return {"sizes": count, "sizes_that_differ": differing, "most_values_that_differ": share, "largest_difference": largest}


def main() -> int:
    """Compare, print, and say whether the claim holds."""
    asked = parser(__doc__)
    asked.add_argument("--sizes", type=int, default=1660)
    args = arguments(asked, {"sizes": 20})
    with described() as result:
        result.update(compare(args.sizes))
    finish(result, args)
    return 0 if result["largest_difference"] <= 1 and 2 * result["sizes_that_differ"] < args.sizes else 1


if __name__ == "__main__":
    raise SystemExit(main())
