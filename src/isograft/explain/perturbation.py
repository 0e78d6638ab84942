"""Methods that ask what changes against a blurred image: occlusion, and integrated gradients. They fit any network.

Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014, section 4.2; Sundararajan, Taly, Yan, Axiomatic
Attribution for Deep Networks, ICML 2017, equation 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from isograft.explain.scores import LogOdds, blurred

STEPS = (32, 128)
MISSING = 0.05
_AT_A_TIME = 16


def window(side: int) -> tuple[int, int]:
    """Side and stride of the occluding window in pixels: an eighth of the image, moved by half of that."""
    size = max(2, round(side / 8))
    return size, max(1, size // 2)


def occlusion(network: nn.Module, images: Tensor, target: int) -> Tensor:
    """How far the log-odds of a class fall when a window of the image is blurred, averaged over the windows that cover a pixel.

    Args:
        network: (B, 3, S, S) to logits (B, K).
        images: One normalised float image (1, 3, S, S).
        target: The class.

    Returns:
        Float (S, S), log-odds (nats); negative where the class becomes more probable.
    """
    from captum.attr import Occlusion

    size, stride = window(images.shape[-1])
    with torch.no_grad():
        falls = Occlusion(LogOdds(network)).attribute(
            images,
            sliding_window_shapes=(images.shape[1], size, size),
            strides=(images.shape[1], stride, stride),
            baselines=blurred(images),
            target=target,
            perturbations_per_eval=_AT_A_TIME,
        )
    fall: Tensor = falls[0, 0]
    return fall


def integrated_gradients(network: nn.Module, images: Tensor, target: int) -> tuple[Tensor, str]:
    """Every pixel's share of the difference in log-odds between the image and its blurred copy.

    Args:
        network: (B, 3, S, S) to logits (B, K).
        images: One normalised float image (1, 3, S, S).
        target: The class.

    Returns:
        Float (S, S), summed over colours, log-odds (nats), and a note: empty when the shares add up to the difference within 5 % of
        the larger of the difference and 1.
    """
    from captum.attr import IntegratedGradients

    method, baseline = IntegratedGradients(LogOdds(network)), blurred(images)
    with torch.no_grad():
        ends = LogOdds(network)(torch.cat([images, baseline]))[:, target]
    difference, note = float(ends[0] - ends[1]), ""
    for steps in STEPS:
        shares = method.attribute(images, baselines=baseline, target=target, n_steps=steps, internal_batch_size=_AT_A_TIME).detach()
        missing = float(shares.sum()) - difference
        if abs(missing) <= MISSING * max(1.0, abs(difference)):
            break
    else:
        note = f"the shares of the pixels add up to {difference + missing:.2f}, not to the {difference:.2f} they explain"
    return shares[0].sum(dim=0), note
