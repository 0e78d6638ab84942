"""The eight ways to turn and mirror a square image, and which of them leave the meaning of a domain's images unchanged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from isograft.data.policy import ViewPolicy

IDENTITY = "identity"

_QUARTERS = {IDENTITY: 0, "quarter": 1, "half": 2, "three-quarters": 3}
_MIRRORED = {"mirror": 0, "mirror-quarter": 1, "flip": 2, "mirror-three-quarters": 3}
SYMMETRIES = (*_QUARTERS, *_MIRRORED)
"""Turns counter-clockwise, then the same after a left-right mirror; `flip` (upside down) is a mirror and half a turn."""


def turned(images: npt.NDArray[np.uint8], symmetry: str) -> npt.NDArray[np.uint8]:
    """Turn or mirror square images uint8 (..., S, S, 3), by a name of `SYMMETRIES`; no pixel changes its value."""
    if symmetry in _MIRRORED:
        return np.ascontiguousarray(np.rot90(images[..., ::-1, :], _MIRRORED[symmetry], axes=(-3, -2)))
    return np.ascontiguousarray(np.rot90(images, _QUARTERS[symmetry], axes=(-3, -2)))


def harmless(policy: ViewPolicy) -> Sequence[str]:
    """The symmetries that a domain's variations allow: `identity` first.

    Args:
        policy: The variations under which an image keeps its meaning.

    Returns:
        All eight where any rotation is allowed and one of the mirrors is; a radiograph, which is neither turned nor mirrored, keeps one.
    """
    across, down, turns = policy.flip_horizontal > 0, policy.flip_vertical > 0, policy.rotation >= 90
    if turns:
        return SYMMETRIES if across or down else tuple(_QUARTERS)
    return (IDENTITY, *(["mirror"] if across else []), *(["flip"] if down else []), *(["half"] if across and down else []))
