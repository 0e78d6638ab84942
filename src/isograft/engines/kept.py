"""What was measured and converted for a model on this machine, kept in the cache folder; safe to delete."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isograft.data.source import default_cache_dir
from isograft.errors import IsograftError
from isograft.run import write_atomic

if TYPE_CHECKING:
    from isograft.model import Model

_PACKAGES = ("isograft", "torch", "timm", "numpy", "onnx", "onnxscript", "onnxruntime")


MOST_GRAPHS = 8
"""Networks that are kept, each with a copy of its weights: the newest."""


@dataclass(frozen=True)
class Kept:
    """The notes of one model on one kind of machine under one set of package versions.

    Attributes:
        folder: Where they lie.
        key: What they are valid for.
    """

    folder: Path
    key: str

    @classmethod
    def of(cls, model: Model) -> Kept:
        """The notes of a model on this machine."""
        told = json.dumps([model.content_hash, versions(), machine()], sort_keys=True)
        return cls(default_cache_dir() / "engines", hashlib.sha256(told.encode()).hexdigest()[:32])

    @property
    def record(self) -> dict[str, Any] | None:
        """Which `engine` was chosen, and `why`; None where nothing was measured, or its note is not whole."""
        try:
            record = json.loads((self.folder / f"{self.key}.json").read_bytes())
        except (OSError, ValueError):
            return None
        sound = isinstance(record, dict) and record.get("engine") in {"torch", "onnxruntime"} and isinstance(record.get("why"), str)
        return record if sound else None

    def remember(self, engine: str, why: str) -> None:
        """Keep a choice; a cache folder that cannot be written costs another measurement."""
        self._write(f"{self.key}.json", json.dumps({"engine": engine, "why": why}, indent=2).encode())

    def graph(self) -> bytes | None:
        """The ONNX graph, or None where none was kept whole."""
        try:
            data = (self.folder / f"{self.key}.onnx").read_bytes()
        except OSError:
            return None
        digest, graph = data[:32], data[32:]
        return graph if hashlib.sha256(graph).digest() == digest else None

    def keep_graph(self, graph: bytes) -> None:
        """Keep an ONNX graph behind its hash."""
        self._write(f"{self.key}.onnx", hashlib.sha256(graph).digest() + graph)
        with suppress(OSError):  # another process may tidy up, too
            graphs = sorted(self.folder.glob("*.onnx"), key=lambda path: path.stat().st_mtime, reverse=True)
            for old in graphs[MOST_GRAPHS:]:
                old.unlink(missing_ok=True)

    def _write(self, name: str, data: bytes) -> None:
        try:
            write_atomic(self.folder / name, data)
        except IsograftError:
            return


def versions() -> dict[str, str]:
    """The packages that decide an answer's bits, as far as they are installed."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """What kind of machine this is, as far as speed and rounding go: 16 hexadecimal digits."""
    import torch

    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    kinds = sorted({line for line in lines if line.startswith(("model name", "flags", "CPU part"))})
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    told = [platform.system(), platform.machine(), platform.processor(), str(os.cpu_count()), gpu, *kinds]
    return hashlib.sha256("\0".join(told).encode()).hexdigest()[:16]
