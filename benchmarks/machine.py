"""What machine a figure comes from: cores, processor and the instructions that matter, memory, accelerator, load, packages, commit."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import resource
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16", "amx_int8", "sha_ni")
"""Instructions that change a figure by more than noise: vectors, bf16 and matrices, and SHA-256."""
PACKAGES = (
    "isograft",
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "pytorch-lightning",
    "polars",
    "lightly",
)


def machine() -> dict[str, Any]:
    """Describe this machine, what is installed, and which version of the code runs."""
    model, flags = _processor()
    return {
        "processor": model,
        "cores": cores(),
        "instructions": ", ".join(flag for flag in FLAGS if flag in flags) or "none of " + ", ".join(FLAGS),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": _gpu(),
        "load": load(),
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "packages": ", ".join(f"{name} {version}" for name in PACKAGES if (version := _version(name))),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
    }


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load() -> float:
    """Processes that wanted a core in the last minute, on average."""
    return round(os.getloadavg()[0], 2)


def peak_gb() -> float:
    """Most memory this process held at one time, in units of 2**30 bytes; what the process held that started it does not count."""
    with contextlib.suppress(OSError):  # the kernel's own figure of `getrusage` begins with the parent's
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def commit() -> str:
    """The commit of the checkout, with `+` and a hash of what was changed since in src and benchmarks; `unknown` outside a checkout."""
    git = ("git", "-C", str(ROOT))
    head = _output(*git, "rev-parse", "--short=12", "HEAD")
    if not head:
        return "unknown"
    changed = [_output(*git, what, *how, "--", "src", "benchmarks/*.py") for what, how in (("status", ["--porcelain"]), ("diff", ["HEAD"]))]
    return head + (f"+{hashlib.sha256(''.join(changed).encode()).hexdigest()[:6]}" if changed[0] else "")


def _processor() -> tuple[str, set[str]]:
    model, flags = platform.processor() or platform.machine(), set()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                model = value.strip()
            elif name.strip() in {"flags", "Features"}:
                flags = set(value.split())
    return model, flags


def _gpu() -> str:
    if shutil.which("nvidia-smi") is None:
        return "none"
    return _output("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader").replace("\n", "; ") or "none"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
