"""Weight files of any origin: tensors only, never code; and the prefixes that other programs put before their names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from isograft.errors import IsograftError
from isograft.unpickling import PickleRefused, nothing_unpickled

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")

# Where training programs keep the tensors inside their checkpoints; averaged weights first.
_NESTED = ("state_dict_ema", "model_ema", "teacher", "state_dict", "model_state_dict", "model", "student", "module")
_PROBES = 12


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a weights file without running any code in it.

    Args:
        path: A .safetensors file, or a .pt, .pth, .ckpt or .bin file saved by torch.

    Returns:
        Name to tensor, on the CPU, in the file's order.

    Raises:
        IsograftError: Another kind of file, damaged, or with objects other than tensors in it.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise IsograftError(f"{path} is no weights file by its ending; give one of {', '.join(SUFFIXES)}")
    if suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise IsograftError(f"{path} cannot be read as safetensors ({error}); get the file again") from error
    return _find_tensors(read_torch(path, "save its state dict alone, best as .safetensors, or get the file again"), path)


def read_torch(path: Path, remedy: str) -> Any:
    """Read a file that torch.save wrote, on the CPU, without running any code in it.

    Args:
        path: The file.
        remedy: What to do about a file that is refused, for the message.

    Raises:
        IsograftError: It is damaged, or has objects other than tensors, numbers and text in it.
    """
    try:
        with nothing_unpickled(str(path)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, PickleRefused) as error:
        raise IsograftError(
            f"{path} is damaged or holds objects other than tensors, which could run code, so it was not opened; {remedy}"
        ) from error
    except Exception as error:  # a damaged file can make the unpickler stumble in any way
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise IsograftError(f"{path} cannot be read as a torch file ({reason}); {remedy}") from error


def strip_prefix(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Drop what another program put before the names (`module.`, `model.backbone.`, ...) when that makes more of them match.

    Args:
        tensors: Tensors by the names of the file.
        shapes: Shapes by the names of the network.

    Returns:
        The tensors below the best prefix under the network's names; unchanged when no prefix matches more.
    """

    def matches(prefix: str) -> int:
        return sum(1 for key, shape in shapes.items() if prefix + key in tensors and tuple(tensors[prefix + key].shape) == shape)

    sizeable = [key for key, shape in shapes.items() if len(shape) > 1]
    probes = sizeable[:: max(1, len(sizeable) // _PROBES)]
    found = {name[: -len(probe)] for probe in probes for name in tensors if name.endswith("." + probe)}
    best = max(sorted(found | {""}, key=lambda prefix: (len(prefix), prefix)), key=matches)
    if not best:
        return dict(tensors)
    return {name.removeprefix(best): tensor for name, tensor in tensors.items() if name.startswith(best)}


def _find_tensors(content: Any, path: Path) -> dict[str, Tensor]:
    """The name-to-tensor mapping inside whatever the file holds."""
    for _ in range(3):
        if not isinstance(content, Mapping):
            break
        tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        if tensors:
            return tensors
        nested = [content[key] for key in _NESTED if isinstance(content.get(key), Mapping)]
        if not nested:
            break
        content = nested[0]
    raise IsograftError(f"{path} holds no tensors by name; save the network's state dict")
