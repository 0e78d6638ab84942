"""Functions of the step number alone, so that a resumed run needs no schedule state."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch


def warmup_cosine(step: int, warmup: float, progress: Callable[[int], float]) -> float:
    """Return the learning-rate factor in [0, 1]: linear warm-up, then half a cosine to zero (arXiv:1608.03983).

    Args:
        step: Steps already done, from 0.
        warmup: Share of the run in which the rate rises, in [0, 1).
        progress: Share of the run that is done after so many steps.
    """
    done = progress(step)
    if done < warmup:
        return min(1.0, progress(step + 1) / warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (done - warmup) / (1 - warmup))))


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Seed torch's generator as a function of (seed, step, process), so that dropout needs no state to be resumed."""
    mine = f":{rank}" if rank else ""
    digest = hashlib.blake2b(f"step:{seed}:{step}{mine}".encode(), digest_size=8).digest()
    torch.manual_seed(int.from_bytes(digest, "little") >> 1)


@dataclass(frozen=True)
class ResolutionSchedule:
    """Progressive resolution: small views first, the wanted size last (after FixRes, arXiv:1906.06423).

    Attributes:
        sizes: View sides in pixels, in order of use.
        shares: Share of the steps spent at each; they sum to 1.
    """

    sizes: tuple[int, ...]
    shares: tuple[float, ...]

    def size_at(self, progress: float) -> int:
        """Return the view side in pixels when a share of the run, in [0, 1], is done."""
        edge = 0.0
        for size, share in zip(self.sizes, self.shares, strict=True):
            edge += share
            if progress < edge - 1e-9:
                return size
        return self.sizes[-1]

    @classmethod
    def constant(cls, size: int) -> ResolutionSchedule:
        """Return the schedule of one size throughout."""
        return cls((size,), (1.0,))


def parse_schedule(pairs: Sequence[Sequence[float]]) -> ResolutionSchedule:
    """Rebuild a schedule from the `[[size, share], ...]` a plan stores."""
    return ResolutionSchedule(tuple(int(size) for size, _ in pairs), tuple(float(share) for _, share in pairs))
