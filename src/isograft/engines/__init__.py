"""What computes a network's answers to ready squares of pixels: torch, or ONNX Runtime."""

from isograft.engines.choice import engine_for
from isograft.engines.engine import Engine

__all__ = ["Engine", "engine_for"]
