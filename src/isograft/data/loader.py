"""Batches of rendered views, made ahead of the training step by background threads.

Which image comes when, and what its views look like, are pure functions of (seed, epoch, position, image),
so the bytes of a batch depend neither on the number of threads nor on the ranks that share it, and an epoch
may start at any batch.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from isograft.data.augment import ViewPolicy, Views, render_opencv, sample_views
from isograft.data.draws import PICK_STREAM, permutation, uniforms
from isograft.data.render import one_thread_per_call, padded
from isograft.data.render_torch import Packed, render_torch
from isograft.errors import IsograftError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Images rendered by one task: small enough to stay in a core's cache and to share a batch evenly.
_ROWS_PER_TASK = 16
# An image drawn more than once in an epoch gets another id each time, so that its views differ.
_VISIT = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class ViewSpec:
    """So many views of every image, of one size and policy."""

    count: int
    size: int
    policy: ViewPolicy


@dataclass(frozen=True)
class Batch:
    """Rendered views of B images.

    Attributes:
        views: uint8 (B, S, S, 3) RGB tensors, all views of the first spec, then of the second, ...
        index: int64 (B,), row of each image in the sequence given to the loader.
        labels: int64 (B,), or None without labels.
    """

    views: list[torch.Tensor]
    index: torch.Tensor
    labels: torch.Tensor | None

    def to(self, device: torch.device) -> Batch:
        """The batch on a device; the pixels travel as uint8, a quarter of the bytes of float input."""
        moved = [view.to(device, non_blocking=True) for view in self.views]
        return Batch(moved, self.index, None if self.labels is None else self.labels.to(device, non_blocking=True))


@dataclass(frozen=True)
class PackedBatch(Batch):
    """A batch whose views are rendered where it is moved to; until then `views` is empty.

    Attributes:
        images: the B working images.
        sampled: size in pixels and numbers of every view.
    """

    images: Packed
    sampled: list[tuple[int, Views]]

    def to(self, device: torch.device) -> Batch:
        """The batch on a device, its views rendered there."""
        images, rest = self.images.to(device), super().to(device)
        return Batch([render_torch(images, views, size) for size, views in self.sampled], rest.index, rest.labels)


class ViewLoader:
    """Iterate over epochs of rendered views.

    Args:
        images: uint8 (h, w, 3) RGB images by row; an `ImageCache` or any sequence. One with an attribute
            `shapes`, (N, 2) heights and widths, is not read in advance; one with the methods `order` and `stop`, such as
            `BlockImages`, says itself in which order an epoch takes its rows, and takes no weights.
        ids: uint64 (N,), the id that each image's draws depend on.
        specs: the views to render.
        batch_size: images per step over all ranks.
        seed: seed of the order and of the views.
        labels: int64 (N,) class numbers, handed on with the batches.
        rank: number of this process.
        world_size: number of processes; each renders its slice of every batch.
        threads: rendering threads.
        prefetch: batches rendered ahead; the memory in use is that of `prefetch` + 1 batches.
        drop_last: leave out the last batch when it is not full; otherwise it is smaller.
        weights: float64 (N,); if given, each of the N images of an epoch is drawn with these odds, with
            replacement. A repeated image gets different views.
        on_device: leave the rendering to the device that a batch is moved to; the bytes agree to rounding.
        pinned: keep batches in memory that can be copied to a GPU while it computes.

    Raises:
        IsograftError: an epoch has no batch, or ranks cannot share a batch evenly.
    """

    def __init__(
        self,
        images: Sequence[NDArray[np.uint8]],
        ids: NDArray[np.uint64],
        specs: Sequence[ViewSpec],
        batch_size: int,
        seed: int,
        labels: NDArray[np.int64] | None = None,
        rank: int = 0,
        world_size: int = 1,
        threads: int = 2,
        prefetch: int = 2,
        drop_last: bool = True,
        weights: NDArray[np.float64] | None = None,
        on_device: bool = False,
        pinned: bool = False,
    ) -> None:
        _check(len(images), batch_size, world_size, drop_last)
        if weights is not None and hasattr(images, "order"):
            raise ValueError("images with an order of their own cannot be drawn by weights")
        for name, values in {"ids": ids, "labels": labels, "weights": weights}.items():
            if values is not None and len(values) != len(images):
                raise ValueError(f"{len(values)} {name} for {len(images)} images")
        self.images, self.ids, self.specs = images, np.asarray(ids, np.uint64), tuple(specs)
        self.batch_size, self.seed, self.labels = batch_size, seed, labels
        self.rank, self.world_size = rank, world_size
        self.on_device, self.pinned = on_device, pinned
        self.threads, self.prefetch, self.drop_last, self.weights = max(1, threads), max(1, prefetch), drop_last, weights
        shapes: Any = getattr(images, "shapes", None)
        if shapes is None:
            shapes = [image.shape[:2] for image in images]
        self._shapes: NDArray[np.int64] = np.asarray(shapes, np.int64).reshape(-1, 2)

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches in a whole epoch."""
        whole, rest = divmod(len(self.images), self.batch_size)
        return whole if self.drop_last or not rest else whole + 1

    def epoch(self, epoch: int, start: int = 0, specs: Sequence[ViewSpec] | None = None) -> Iterator[Batch]:
        """Batches of this epoch from number `start` on, rendered ahead; `specs` replaces the loader's own.

        Closing the iterator stops its threads. An exception in a thread is raised here.
        """
        rows, ids = self._order(epoch)
        chosen = self.specs if specs is None else tuple(specs)
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="isograft-render", initializer=one_thread_per_call)
        ahead: deque[_Job] = deque()
        try:
            for number in range(start, self.batches_per_epoch):
                mine = self._slice(number, len(rows))
                ahead.append(_Job(self, epoch, rows[mine], ids[mine], chosen, pool))
                if len(ahead) > self.prefetch:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            if stop := getattr(self.images, "stop", None):
                stop()
            pool.shutdown(cancel_futures=True)

    def _order(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """Row and id at every position of the epoch."""
        count = len(self.images)
        own_order = getattr(self.images, "order", None)
        if own_order is not None:
            rows = own_order(self.seed, epoch, self.batch_size, self.rank, self.world_size)
        elif self.weights is None:
            rows = permutation(self.seed, epoch, count)
        else:
            steps = np.cumsum(self.weights)
            draws = uniforms(self.seed, epoch, np.arange(count, dtype=np.uint64), PICK_STREAM, 1)[:, 0]
            # `side="right"` passes over images of weight 0; the minimum guards against rounding at the top.
            last = int(np.flatnonzero(self.weights)[-1])
            rows = np.minimum(np.searchsorted(steps, draws * steps[-1], side="right"), last)
        ids = self.ids[rows]
        return rows, ids + _visits(ids) * _VISIT

    def _slice(self, number: int, count: int) -> slice:
        """Positions of this rank in a batch: an even cut, the last batch as even as can be."""
        first = number * self.batch_size
        size = min(self.batch_size, count - first)
        return slice(first + size * self.rank // self.world_size, first + size * (self.rank + 1) // self.world_size)


class _Job:
    """One batch being rendered: its tensors, its sampled views, and the tasks that fill them."""

    def __init__(
        self,
        loader: ViewLoader,
        epoch: int,
        rows: NDArray[np.int64],
        ids: NDArray[np.uint64],
        specs: Sequence[ViewSpec],
        pool: ThreadPoolExecutor,
    ) -> None:
        self._loader, self._epoch, self._rows, self._ids, self._specs = loader, epoch, rows, ids, specs
        self._lock = threading.Lock()
        self._sampled: list[tuple[int, Views]] | None = None
        self._views: list[torch.Tensor] = []
        self._packed = Packed.empty(loader._shapes[rows], pinned=loader.pinned) if loader.on_device else None
        if self._packed is None:
            sizes = [spec.size for spec in specs for _ in range(spec.count)]
            self._views = [torch.empty(len(rows), size, size, 3, dtype=torch.uint8, pin_memory=loader.pinned) for size in sizes]
        self._targets = [view.numpy() for view in self._views]
        starts = range(0, len(rows), _ROWS_PER_TASK)
        self._tasks: list[Future[None]] = [pool.submit(self._render, start, min(start + _ROWS_PER_TASK, len(rows))) for start in starts]

    def result(self) -> Batch:
        """Wait for the tasks; raise what the first failed one raised."""
        wait(self._tasks, return_when=FIRST_EXCEPTION)
        for task in self._tasks:
            if task.done():
                task.result()
        labels, index = self._loader.labels, torch.from_numpy(self._rows.astype(np.int64))
        chosen = None if labels is None else torch.from_numpy(np.asarray(labels, np.int64)[self._rows])
        if self._packed is not None:
            return PackedBatch([], index, chosen, self._packed, self._sample())
        return Batch(self._views, index, chosen)

    def _render(self, start: int, stop: int) -> None:
        """Render all views of rows start to stop, reading each image once; or pack the images for the device that will."""
        sampled = self._sample()
        if self._packed is not None:
            self._packed.fill(start, [np.asarray(self._loader.images[row]) for row in self._rows[start:stop].tolist()])
            return
        images = [padded(self._loader.images[row]) for row in self._rows[start:stop].tolist()]
        for target, (size, views) in zip(self._targets, sampled, strict=True):
            render_opencv(images, views.part(start, stop), size, target[start:stop], 0, stop - start)

    def _sample(self) -> list[tuple[int, Views]]:
        """Sizes and numbers of all views of the batch; drawn once, all views of a spec together, by the first task to come."""
        with self._lock:
            if self._sampled is None:
                self._sampled = self._sample_all()
            return self._sampled

    def _sample_all(self) -> list[tuple[int, Views]]:
        heights, widths = self._loader._shapes[self._rows].T
        count, first, sampled = len(self._rows), 0, []
        for spec in self._specs:
            numbers = np.repeat(np.arange(first, first + spec.count), count)
            repeated = [np.tile(values, spec.count) for values in (self._ids, heights, widths)]
            views = sample_views(spec.policy, self._loader.seed, self._epoch, repeated[0], numbers, repeated[1], repeated[2], spec.size)
            sampled += [(spec.size, views.part(number * count, (number + 1) * count)) for number in range(spec.count)]
            first += spec.count
        return sampled


def _visits(ids: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """How often each id has come before, by position: [7, 9, 7, 7] gives [0, 0, 1, 2]."""
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    fresh = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    positions = np.arange(len(ids))
    visits = np.empty(len(ids), np.uint64)
    visits[order] = positions - np.maximum.accumulate(np.where(fresh, positions, 0))
    return visits


def _check(count: int, batch_size: int, world_size: int, drop_last: bool) -> None:
    if count == 0:
        raise IsograftError("there are no images to load; check the data and --where")
    if batch_size % world_size:
        raise IsograftError(f"a batch of {batch_size} images cannot be shared evenly by {world_size} processes; change --batch-size")
    if drop_last and count < batch_size:
        raise IsograftError(f"a batch of {batch_size} images cannot be filled from {count}; choose a smaller --batch-size")
