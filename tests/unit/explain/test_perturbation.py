"""Occlusion against loops, and the axioms of integrated gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.unit.explain.conftest import trained
from torch import nn

from isograft.explain.perturbation import integrated_gradients, occlusion, window
from isograft.explain.scores import LogOdds, blurred


@pytest.mark.parametrize("side", [16, 21])
def test_occlusion_is_the_mean_fall_over_the_windows_that_cover_a_pixel(side: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * (side - 2) ** 2, 3)).eval()
    images = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    size, stride = window(side)
    odds, plain = LogOdds(network), blurred(images)
    falls, covered = np.zeros((side, side)), np.zeros((side, side))
    places = [stride * step for step in range(-(-(side - size) // stride) + 1)]
    with torch.no_grad():
        for row in places:
            for column in places:
                hidden = images.clone()
                box = (..., slice(row, row + size), slice(column, column + size))
                hidden[box] = plain[box]
                falls[box] += float(odds(images)[0, 2] - odds(hidden)[0, 2])
                covered[box] += 1
    assert covered.min() >= 1
    np.testing.assert_allclose(occlusion(network, images, 2).numpy(), falls / covered, rtol=1e-4, atol=1e-6)


def test_the_shares_of_the_pixels_add_up_to_what_the_image_changes(batch: torch.Tensor) -> None:
    network = trained("alzubaidi_light")
    with torch.no_grad():
        difference = LogOdds(network)(torch.cat([batch[:1], blurred(batch[:1])]))[:, 0]
    shares, note = integrated_gradients(network, batch[:1], 0)
    wanted = float(difference[0] - difference[1])
    assert abs(wanted) > 0.5 and note == ""
    assert float(shares.sum()) == pytest.approx(wanted, abs=0.05 * max(1.0, abs(wanted)))


def test_of_a_linear_network_every_pixel_gets_its_weight_times_its_difference() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2)).eval()
    images = torch.randn(1, 3, 16, 16)
    weights = (network[1].weight[1] - network[1].weight[0]).detach().reshape(3, 16, 16)
    shares, note = integrated_gradients(network, images, 1)
    torch.testing.assert_close(shares, (weights * (images - blurred(images))[0]).sum(0), rtol=1e-4, atol=1e-6)
    assert note == ""


def test_shares_that_do_not_add_up_are_told() -> None:
    class Step(nn.Module):
        """Jumps by 10 without any slope."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            jump = 10.0 * (images.std((1, 2, 3)) > 0.8)
            return torch.stack([jump + 0 * images.sum((1, 2, 3)), torch.zeros(len(images))], 1)

    shares, note = integrated_gradients(Step().eval(), torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)), 0)
    assert float(shares.abs().max()) == 0
    assert note == "the shares of the pixels add up to 0.00, not to the 10.00 they explain"
