"""What a pool of a given size costs, from what one image costs: sums without a clock or a disk, for sizing.py.

Time on the machine that was measured is measured; time on a GPU is computed from the peak that its maker publishes and the share of it
that is assumed to be reached. Prices come from whoever asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

HOUR = 3600.0
GB = 1e9

PEAK_TFLOPS = {"L4": 121.0, "A100 SXM": 312.0, "RTX 4090": 165.2, "H100 SXM": 989.4}
"""Dense bf16 tensor peaks with fp32 sums, as NVIDIA's data sheets give them (half of what stands there "with sparsity")."""


@dataclass(frozen=True)
class Pool:
    """What is asked about.

    Attributes:
        images: How many.
        epochs: Passes over them.
    """

    images: int
    epochs: float


@dataclass(frozen=True)
class Network:
    """What one image costs a network in training, all its views together, forward and backward.

    Attributes:
        name: The network with its input size.
        seconds: On the measured machine, all its cores.
        flops: Floating point operations, a multiplication and an addition being two.
        feeding: Core seconds to read the image and make its views.
    """

    name: str
    seconds: float
    flops: float
    feeding: float


def storage(pool: Pool, bytes_each: Mapping[str, float], price_gb_month: float | None = None) -> list[dict[str, Any]]:
    """Gigabytes of everything that is kept, and what they cost a month where a price is given."""
    rows = []
    for what, each in bytes_each.items():
        gigabytes = pool.images * each / GB
        rows.append({"what": what, "bytes_per_image": each, "gb": gigabytes, **_money("money_per_month", gigabytes, price_gb_month)})
    return rows


def preparation(pool: Pool, core_seconds: Mapping[str, float], cores: int) -> list[dict[str, Any]]:
    """Core hours of what is done once for every image, and hours when so many cores share it."""
    rows = []
    for what, each in core_seconds.items():
        hours = pool.images * each / HOUR
        rows.append({"what": what, "core_ms_per_image": 1e3 * each, "core_hours": hours, f"hours_on_{cores}_cores": hours / cores})
    return rows


def quadratic(sizes: Sequence[int], seconds: Sequence[float]) -> tuple[float, float]:
    """The terms a and b of `a N + b N²` through the smallest and the largest size; neither is below 0.

    Raises:
        ValueError: There are no two different sizes.
    """
    (few, first), (many, last) = min(zip(sizes, seconds, strict=True)), max(zip(sizes, seconds, strict=True))
    if few == many:
        raise ValueError(f"two different sizes are needed to see growth, not {few:,} alone")
    square = max(0.0, (last / many - first / few) / (many - few))
    return max(0.0, last / many - square * many), square


def search(pool: Pool, sizes: Sequence[int], seconds: Sequence[float], gigabytes: Sequence[float]) -> dict[str, float]:
    """Hours of one core, and memory, to look for near-duplicates among the whole pool, from two smaller searches."""
    linear, square = quadratic(sizes, seconds)
    few, many = sizes.index(min(sizes)), sizes.index(max(sizes))
    each = max(0.0, gigabytes[many] - gigabytes[few]) / (sizes[many] - sizes[few])
    return {
        "hours_of_one_core": (linear * pool.images + square * pool.images**2) / HOUR,
        "memory_gb": gigabytes[many] + each * (pool.images - sizes[many]),
        "bytes_of_memory_per_further_image": each * GB,
    }


def training(
    pool: Pool,
    networks: Sequence[Network],
    machine: str,
    peaks: Mapping[str, float],
    utilisation: float,
    prices: Mapping[str, float],
) -> list[dict[str, Any]]:
    """One row per network and hardware: hours of training, how they are known, what they cost, and the cores that keep up.

    Args:
        pool: Images and epochs.
        networks: What an image costs each.
        machine: Name of the machine that was measured.
        peaks: TFLOP/s by GPU.
        utilisation: Share of the peak that is reached, in (0, 1].
        prices: Money per hour by name of the hardware; what has none costs an unknown sum.

    Raises:
        ValueError: The share is no share, or a price is for hardware that is not in the table.
    """
    if not 0 < utilisation <= 1:
        raise ValueError(f"a utilisation of {utilisation:g} is no share of a peak; give one above 0 and up to 1")
    if unknown := sorted(set(prices) - {machine, *peaks}):
        raise ValueError(f"there is a price for {', '.join(unknown)}, but the table has {', '.join([machine, *peaks])}")
    rows = []
    for network in networks:
        seconds = {machine: network.seconds} | {name: network.flops / (peak * 1e12 * utilisation) for name, peak in peaks.items()}
        for name, each in seconds.items():
            hours = pool.images * pool.epochs * each / HOUR
            rows.append(
                {
                    "network": network.name,
                    "hardware": name,
                    "images_per_s": 1 / each,
                    "hours": hours,
                    "days": hours / 24,
                    "how_known": "measured per image" if name == machine else f"computed at {utilisation:.0%} of peak",
                    "cores_to_feed_it": None if name == machine else network.feeding / each,
                    **_money("money", hours, prices.get(name)),
                }
            )
    return rows


def _money(name: str, amount: float, price: float | None) -> dict[str, float]:
    """A column for money, which is not there where no price was given."""
    return {} if price is None else {name: amount * price}
