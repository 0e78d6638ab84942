"""Images of which too little is left to judge: so small, or so long and thin, that the network sees a smear."""

from __future__ import annotations

SHORTEST = 8
"""Pixels of the short side at least."""

LONGEST = 16
"""The long side has at most so many times the pixels of the short one."""


def unfit(height: int, width: int) -> str:
    """Why an image of this height and width, in pixels, cannot be judged; empty where nothing speaks against it."""
    short, long = sorted((height, width))
    if short < SHORTEST:
        return f"{width} x {height} pixels are too few to judge, so the model abstains"
    if long > LONGEST * short:
        return f"{width} x {height} pixels are too long and thin to judge, so the model abstains"
    return ""
