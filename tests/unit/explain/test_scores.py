"""Log-odds and the blurred image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from isograft.explain.scores import LogOdds, blurred


@pytest.mark.parametrize("classes", [2, 5])
def test_log_odds_are_those_of_the_softmax_and_ignore_a_constant(classes: int) -> None:
    logits = torch.randn(4, classes, dtype=torch.float64).float()
    p = torch.softmax(logits.double(), 1)
    expected = torch.log(p / (1 - p)).float()
    torch.testing.assert_close(LogOdds(nn.Identity())(logits), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(LogOdds(nn.Identity())(logits + 7), expected, rtol=1e-4, atol=1e-4)


def test_the_blurred_image_is_that_of_opencv_with_the_border_repeated() -> None:
    image = np.random.default_rng(0).normal(size=(32, 32)).astype(np.float32)
    expected = cv2.GaussianBlur(image, (65, 65), 8, borderType=cv2.BORDER_REPLICATE)
    got = blurred(torch.from_numpy(image).expand(1, 3, 32, 32).contiguous())
    np.testing.assert_allclose(got[0, 1].numpy(), expected, atol=2e-4)


def test_a_plain_image_is_its_own_blurred_image() -> None:
    plain = torch.tensor([0.3, -1.0, 2.0]).view(1, 3, 1, 1).expand(1, 3, 24, 24).contiguous()
    torch.testing.assert_close(blurred(plain), plain)
