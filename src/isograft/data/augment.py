"""Sampling of views: the numbers of one warp and one colour matrix per view.

A view of an image is a 2×3 affine and a 3×4 colour matrix, then an optional blur and solarisation.
They are drawn here for a whole batch at once; `render.py` turns them into pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from isograft.data.draws import VIEW_STREAM, uniforms
from isograft.data.policy import POLICIES, ViewPolicy
from isograft.data.render import render_opencv

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["NO_SOLARIZE", "POLICIES", "ViewPolicy", "Views", "render_opencv", "sample_views"]

NO_SOLARIZE = 2.0  # a threshold above white: nothing is inverted

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as in the grey of PIL, OpenCV and torchvision
_BLUR_REFERENCE = 224  # view side, in pixels, in which a policy's sigma is given

# Each kind of draw has its own column, so that changing one part of a policy leaves the others' draws as they are.
_AREA, _ASPECT, _ANGLE, _CENTRE_X, _CENTRE_Y, _FLIP_X, _FLIP_Y, _BRIGHTNESS = range(8)
_CONTRAST, _SATURATION, _HUE, _GREY, _BLUR, _SIGMA, _SOLARIZE, _THRESHOLD = range(8, 16)
_STAIN = 16  # nine columns
_COLUMNS = 25


@dataclass(frozen=True)
class Views:
    """Sampled numbers of B views.

    Attributes:
        affine: float32 (B, 2, 3), from output to input pixel coordinates (0 is the middle of the first pixel).
        colour: float32 (B, 3, 4) on [0, 1] RGB: new = colour[:, :3] · old + colour[:, 3], clipped to [0, 1].
        blur: float32 (B,), standard deviation in output pixels; 0 is no blur.
        solarize: float32 (B,), threshold on [0, 1] from which a value x becomes 1 - x; above 1 is none.
    """

    affine: NDArray[np.float32]
    colour: NDArray[np.float32]
    blur: NDArray[np.float32]
    solarize: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.affine)

    def part(self, start: int, stop: int) -> Views:
        """The views of rows start to stop."""
        return Views(self.affine[start:stop], self.colour[start:stop], self.blur[start:stop], self.solarize[start:stop])


def sample_views(
    policy: ViewPolicy,
    seed: int,
    epoch: int,
    ids: NDArray[np.uint64],
    view: int | NDArray[np.int64],
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    size: int,
) -> Views:
    """Draw the numbers of one view per image, a pure function of (seed, epoch, id, view) and the image's shape.

    The crop lies inside the image as far as its rotation allows; beyond the border the image is
    mirrored. With no variation the view is the whole field of view stretched to the square, as
    `Preprocess.fit` shows it at inference.

    Args:
        policy: what may vary.
        seed: seed of the run.
        epoch: number of the epoch.
        ids: uint64 (B,), one per image.
        view: number of the view, 0 to 65,279: one for all, or int64 (B,), one per row.
        heights: (B,) heights of the images in pixels.
        widths: (B,) widths of the images in pixels.
        size: side of the square view in pixels.
    """
    draws = uniforms(seed, epoch, ids, VIEW_STREAM + view, _COLUMNS if policy.stain else _STAIN)
    sigma = _between(draws[:, _SIGMA], *policy.blur_sigma) * (size / _BLUR_REFERENCE)
    threshold = 0.5 + 0.5 * draws[:, _THRESHOLD]
    return Views(
        affine=_affines(policy, draws, np.asarray(heights, np.float64), np.asarray(widths, np.float64), size),
        colour=_colours(policy, draws),
        blur=np.where(draws[:, _BLUR] < policy.blur, sigma, 0).astype(np.float32),
        solarize=np.where(draws[:, _SOLARIZE] < policy.solarize, threshold, NO_SOLARIZE).astype(np.float32),
    )


def _affines(policy: ViewPolicy, draws: Floats, heights: Floats, widths: Floats, size: int) -> NDArray[np.float32]:
    """Crop, stretch, rotation and flips as float32 (B, 2, 3), output to input pixels."""
    area = _between(draws[:, _AREA], *policy.crop)
    aspect = np.exp(_between(draws[:, _ASPECT], *np.log(policy.aspect)))
    crop_width = widths * np.minimum(1, np.sqrt(area * aspect))
    crop_height = heights * np.minimum(1, np.sqrt(area / aspect))
    angle = np.deg2rad(policy.rotation) * _signed(draws[:, _ANGLE])
    cosine, sine = np.cos(angle), np.sin(angle)
    flip_x = np.where(draws[:, _FLIP_X] < policy.flip_horizontal, -1.0, 1.0) * crop_width / size
    flip_y = np.where(draws[:, _FLIP_Y] < policy.flip_vertical, -1.0, 1.0) * crop_height / size
    linear = np.stack([cosine * flip_x, -sine * flip_y, sine * flip_x, cosine * flip_y], axis=1).reshape(-1, 2, 2)
    reach_x = (np.abs(cosine) * crop_width + np.abs(sine) * crop_height) / 2
    reach_y = (np.abs(sine) * crop_width + np.abs(cosine) * crop_height) / 2
    centre = np.stack([_centre(draws[:, _CENTRE_X], widths, reach_x), _centre(draws[:, _CENTRE_Y], heights, reach_y)], axis=1)
    # The middle of the view, (size - 1) / 2 in pixel coordinates, shows the centre, whose pixel coordinate is centre - 1/2.
    offset = centre - 0.5 - linear.sum(axis=2) * ((size - 1) / 2)
    return np.concatenate([linear, offset[:, :, None]], axis=2).astype(np.float32)


def _centre(draw: Floats, extent: Floats, reach: Floats) -> Floats:
    """Centre of a crop that stays inside the image where it can, and in the middle where it cannot."""
    return extent / 2 + (draw * 2 - 1) * np.maximum(0, extent / 2 - reach)


def _colours(policy: ViewPolicy, draws: Floats) -> NDArray[np.float32]:
    """Stain, brightness, contrast, saturation, hue and grey, in this order, as float32 (B, 3, 4).

    Each is affine on RGB, so their chain is one matrix; values are clipped once, at the end.
    """
    count = len(draws)
    matrix = np.broadcast_to(np.eye(3), (count, 3, 3))
    offset = np.zeros((count, 3))
    if policy.stain:
        # Absorbance 1 - x is mixed, the first order of mixing optical densities, so white stays white.
        matrix = matrix + policy.stain * _signed(draws[:, _STAIN:_COLUMNS]).reshape(-1, 3, 3)
        offset = 1 - matrix.sum(axis=2)
    gain = (1 + policy.brightness * _signed(draws[:, _BRIGHTNESS]))[:, None]
    contrast = (1 + policy.contrast * _signed(draws[:, _CONTRAST]))[:, None]
    matrix, offset = matrix * (gain * contrast)[:, :, None], offset * gain * contrast + 0.5 * (1 - contrast)
    if policy.saturation or policy.hue or policy.grey:
        mixing = _chroma(policy, draws)
        matrix, offset = mixing @ matrix, (mixing @ offset[:, :, None])[:, :, 0]
    return np.concatenate([matrix, offset[:, :, None]], axis=2).astype(np.float32)


def _chroma(policy: ViewPolicy, draws: Floats) -> Floats:
    """Saturation, hue and grey as float64 (B, 3, 3): luma kept, chroma scaled and turned.

    The turn is a rotation about the grey axis (1, 1, 1); the chroma it turns has no luma, and the
    little luma that the turn brings back is removed, so brightness is kept exactly.
    """
    angle = 2 * np.pi * policy.hue * _signed(draws[:, _HUE])
    saturation = 1 + policy.saturation * _signed(draws[:, _SATURATION])
    saturation = np.where(draws[:, _GREY] < policy.grey, 0.0, saturation)
    to_luma = np.tile(_LUMA, (3, 1))  # every row gives the pixel's luma
    chroma = np.eye(3) - to_luma
    # Rodrigues' formula: rotation about the unit axis (1, 1, 1) / sqrt(3).
    axis = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / np.sqrt(3)
    cosine, sine = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    turn = cosine * np.eye(3) + sine * axis + (1 - cosine) / 3
    return np.asarray(to_luma + saturation[:, None, None] * (chroma @ turn @ chroma))


def _between(draw: Floats, low: float, high: float) -> Floats:
    return low + (high - low) * draw


def _signed(draw: Floats) -> Floats:
    """Draws on [0, 1) spread over [-1, 1)."""
    return 2 * draw - 1
