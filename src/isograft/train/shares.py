"""How several processes share a batch: evenly, so that each step is that of one process with the whole batch."""

from __future__ import annotations

from isograft.errors import IsograftError
from isograft.plan import Plan
from isograft.ssl.gather import world_size


def even(batch: int) -> int:
    """The largest number of images up to `batch` that the processes can share evenly; `batch` itself where it has not one for each."""
    return batch // world_size() * world_size() or batch


def plan_processes(plan: Plan) -> None:
    """Say in the plan how many processes train; one alone says nothing. A batch that they cannot share is refused.

    Args:
        plan: Holds `batch_size`.

    Raises:
        IsograftError: The batch cannot be shared evenly.
    """
    processes, batch = world_size(), plan["batch_size"]
    if processes > 1 or "processes" in plan:
        plan.state("processes", processes, "started together; each computes an equal share of every batch")
    if batch < processes:
        raise IsograftError(f"a batch of {batch} images cannot be shared by {processes} processes; start at most {batch}")
    if batch % processes:
        raise IsograftError(f"a batch of {batch} images cannot be shared evenly by {processes} processes; give --batch-size {even(batch)}")
