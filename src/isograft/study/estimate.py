"""How long jobs will take: by those of the same kind that are finished, otherwise by a measured pass of the network."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from isograft.study.jobs import Job
from isograft.study.results import done
from isograft.train.threads import computing_on

BATCH = 16
LEAST_SECONDS = 1.0
JOB_SECONDS = 1.0
"""What a job takes besides its images in a warm process: its manifest, its network, its files."""
_VIEWS = {"supervised": 1, "mae": 1, "dino": 3}
"""Passes over an image in one step of pretraining, where it is not two views; DINO's small views together count as one."""


def passes(job: Job) -> int:
    """Images that a job passes forward and backward, views counted."""
    return job.images * (_VIEWS.get(job.payload["options"]["method"], 2) if job.kind == "pretrain" else 1)


def estimate(jobs: Sequence[Job], folder: Path | None, threads: int) -> dict[str, float]:
    """Seconds that each unfinished job will take, by key.

    Args:
        jobs: All jobs of a study.
        folder: The study's folder, if it exists: what finished jobs took tells what others of their kind and backbone will.
        threads: Threads of a job.
    """
    records = {job.key: record for job in jobs if folder is not None and (record := done(folder, job)) is not None}
    spent: dict[tuple[str, str], tuple[float, int]] = {}
    for job in jobs:
        if job.key in records:
            seconds, images = spent.get(_sort(job), (0.0, 0))
            spent[_sort(job)] = seconds + records[job.key]["seconds"], images + job.images
    recorded = {sort: seconds / images for sort, (seconds, images) in spent.items() if images}
    measured: dict[str, float] = {}
    found = {}
    for job in jobs:
        if job.key in records:
            continue
        if _sort(job) in recorded:
            found[job.key] = recorded[_sort(job)] * job.images
            continue
        backbone = job.payload["backbone"]
        if backbone not in measured:
            measured[backbone] = seconds_per_pass(job, threads)
        found[job.key] = JOB_SECONDS + measured[backbone] * passes(job)
    return found


def time_needed(jobs: Sequence[Job], seconds: dict[str, float], slots: int) -> float:
    """Seconds until all jobs have ended, when the next that may begin takes the first free slot.

    Args:
        jobs: Parents before children.
        seconds: Of every job that is not finished, by key.
        slots: Jobs at a time.
    """
    waiting = [job for job in jobs if job.key in seconds]
    running: list[tuple[float, str]] = []
    open_keys = {job.key for job in waiting}
    now = 0.0
    while waiting or running:
        for job in [job for job in waiting if not open_keys & {*job.parents}][: slots - len(running)]:
            waiting.remove(job)
            heapq.heappush(running, (now + seconds[job.key], job.key))
        now, key = heapq.heappop(running)
        open_keys.discard(key)
    return now


def seconds_per_pass(job: Job, threads: int) -> float:
    """Measured time of one image, forward and backward, in the network, size, arithmetic and number of threads of a job."""
    import torch

    from isograft.networks.backbones import build_backbone, parse_arguments
    from isograft.train.engine import training_device
    from isograft.train.precision import one_step

    payload, device = job.payload, training_device()
    size = payload["image_size"]
    network = build_backbone(payload["backbone"], parse_arguments(tuple(payload["backbone_args"])), size)
    network = network.to(memory_format=torch.channels_last).to(device).train()
    images = torch.zeros(BATCH, 3, size, size, device=device).to(memory_format=torch.channels_last)
    with computing_on(threads):
        return _mean_seconds(lambda: one_step(network, images, autocast=payload["precision"] == "bf16")) / BATCH


def _mean_seconds(once: Callable[[], None]) -> float:
    once()  # compiles kernels
    began, repeats = time.perf_counter(), 0
    while (spent := time.perf_counter() - began) < LEAST_SECONDS or not repeats:
        once()
        repeats += 1
    return spent / repeats


def _sort(job: Job) -> tuple[str, str]:
    return job.kind, str(job.payload["backbone"])
