r"""Whether heatmaps depend on what a network has learned: their rank correlation with those of the same network with random weights.

For up to 30 held-out test images of each model, the map of the predicted class is compared with that of random weights (Adebayo et al.
2018) by Spearman's correlation; 1 would mean that the map shows the image, not the network. Empty maps are left out and counted.

    isograft finetune ../shared/data/foot --labels ../shared/data/foot/patches.csv --group-column source_image --init scratch \
        --backbone resnet10t --image-size 64 --out MODEL
    python benchmarks/heatmap_sanity.py MODEL [MODEL ...]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

MOST = 30
METHODS = ("grad-cam", "rollout", "occlusion", "integrated-gradients")


def agreement(folder: Path, seed: int) -> dict[str, dict[str, Any]]:
    """Mean and middle half of the correlation by each method that fits the network."""
    import torch
    from scipy.stats import spearmanr

    from isograft import Model
    from isograft.errors import IsograftError
    from isograft.evaluation.labeled import own_test_split
    from isograft.explain.explainer import Explainer
    from isograft.inference import answers, read_picture
    from isograft.networks.backbones import build_backbone, feature_count
    from isograft.networks.heads import Classifier, build_head

    model = Model.load(folder)
    places = own_test_split(model, None).places
    places = places[:: max(1, len(places) // MOST)][:MOST]
    pixels = [read_picture(place, model.preprocess).pixels for place in places]
    torch.manual_seed(seed)
    record = model.passport.backbone
    backbone = build_backbone(record.name, record.arguments, model.preprocess.image_size)
    drawn = Classifier(backbone, build_head("linear", feature_count(backbone), len(model.classes))).eval()
    predicted = [int(answer.probabilities().argmax()) for answer in answers(model.network(), model.preprocess, pixels)]
    found = {}
    for method in METHODS:
        try:
            trained, random = (Explainer(network, model.preprocess, method) for network in (model.network(), drawn))
        except IsograftError:
            continue  # the method does not fit this kind of network
        pairs = [(trained.explain(one, k).values, random.explain(one, k).values) for one, k in zip(pixels, predicted, strict=True)]
        rho = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in pairs if np.ptp(a) and np.ptp(b)]
        low, high = np.percentile(rho, [25, 75]) if rho else (np.nan, np.nan)
        found[method] = {
            "mean": float(np.mean(rho)) if rho else None,
            "quartiles": [low, high],
            "maps": len(rho),
            "empty": len(pairs) - len(rho),
        }
    return found


def main() -> int:
    """Print a table and its JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", help="classifiers with a held-out test split")
    parser.add_argument("--seed", type=int, default=1, help="seed of the random weights")
    args = parser.parse_args()
    everything = {}
    for folder in args.models:
        everything[folder.name] = agreement(folder, args.seed)
        for method, one in everything[folder.name].items():
            low, high = one["quartiles"]
            told = f"mean {one['mean']:+.2f}, middle half {low:+.2f} to {high:+.2f}, {one['maps']} maps, {one['empty']} empty"
            print(f"{folder.name:20s} {method:22s} {told}")
    print(json.dumps(everything, indent=2, default=float))
    return 0


if __name__ == "__main__":
    sys.exit(main())
