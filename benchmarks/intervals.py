"""How long the intervals of an evaluation and a comparison take.

Claim: 2,000 resamples of 10,000 predictions of 7 classes, every figure, in under 5 seconds on two cores.

    python benchmarks/intervals.py [--images 10000] [--classes 7] [--groups 6000]
"""

from __future__ import annotations

import sys
import time

import numpy as np

from harness import arguments, described, finish, parser

LONGEST = 5.0


def main() -> int:
    """Print and write the seconds; 1 when the intervals take longer than claimed."""
    asked = parser(__doc__)
    asked.add_argument("--images", type=int, default=10_000)
    asked.add_argument("--classes", type=int, default=7)
    asked.add_argument("--groups", type=int, default=6000)
    args = arguments(asked, {"images": 400, "classes": 3, "groups": 200})
    from isograft.assess.comparison import compare
    from isograft.assess.intervals import RESAMPLES, intervals

    rng = np.random.default_rng(0)
    labels = rng.integers(0, args.classes, args.images)
    logits = rng.normal(size=(args.images, args.classes))
    logits[np.arange(args.images), labels] += 1
    p, q = (np.exp(one) / np.exp(one).sum(1, keepdims=True) for one in (logits, logits + rng.normal(size=logits.shape) * 0.3))
    groups, classes = rng.integers(0, args.groups, args.images), [f"class {k}" for k in range(args.classes)]
    with described() as figures:
        began = time.perf_counter()
        found = intervals(labels, p, classes, groups)
        alone = time.perf_counter() - began
        began = time.perf_counter()
        compare(labels, p, q, classes, groups)
        compared = time.perf_counter() - began
        figures |= {"images": args.images, "classes": args.classes, "groups": len(set(groups)), "resamples": RESAMPLES}
        figures |= {"intervals": len(found["figures"]), "intervals_seconds": round(alone, 2), "comparison_seconds": round(compared, 2)}
    finish(figures, args)
    return int(alone > LONGEST)


if __name__ == "__main__":
    sys.exit(main())
