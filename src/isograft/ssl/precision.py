"""Losses are computed in float32 even when the network runs in lower precision."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def in_float32(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Decorate a loss: autocast is off inside, and half-precision tensor arguments (alone or in lists) become float32.

    Float64 stays float64. Gradients return in the precision of the arguments.
    """

    @wraps(function)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        device = _device_type(args)
        with torch.autocast(device_type=device, enabled=False):
            return function(*[_promote(a) for a in args], **{k: _promote(v) for k, v in kwargs.items()})

    return call


def _promote(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
    if isinstance(value, list | tuple):
        return [_promote(item) for item in value]
    return value


def _device_type(args: tuple[Any, ...]) -> str:
    for value in args:
        first = value[0] if isinstance(value, list | tuple) and value else value
        if isinstance(first, Tensor):
            return first.device.type
    return "cpu"
