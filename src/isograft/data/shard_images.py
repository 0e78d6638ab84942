"""The images of a pool in tar shards, read from them while a network is trained, without a copy of the pool on this machine.

`ingest` noted where in its shard every image lies. In an epoch, whole blocks of neighbouring images are read by one request each and kept
in memory, as they are coded, until they are used; a few images that are wanted again and again (to watch the embedding) are read one by
one and kept likewise. Every image is held to the hash its pixels had at ingest, so a shard that has changed is found, whatever its size
and time say.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from isograft.data import shards
from isograft.data.address import Address
from isograft.data.blocks import BLOCK_BYTES, LANES, WINDOW, block_order, blocks_of, part_of
from isograft.data.cache_build import decode_working, unusable
from isograft.data.manifest import MEMBER, part_of_uri
from isograft.data.readers import ReadError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from isograft.data.manifest import Manifest
    from isograft.data.preprocess import Preprocess

KEPT_BYTES = 256 << 20
"""Coded images that were read one by one are kept up to this size together."""

_READERS = 4
_AT_ONCE = 3  # windows of a lane held in memory: one that is used up, the present one, and the next


def lie_in_shards(manifest: Manifest) -> bool:
    """Whether it is known of every image where in a tar shard it lies."""
    return all(name in manifest.frame.columns and not manifest.frame[name].null_count() for name in MEMBER)


class ShardImages(Sequence["NDArray[np.uint8]"]):
    """Read-only sequence of the images of a pool at working size, one per row of the manifest; for a few rows, in any order.

    `images[i]` is uint8 (h, w, 3) RGB, the same pixels as an `ImageCache` gives; safe from several threads.

    Args:
        manifest: Usable rows, all in shards.
        preprocess: Says the working size.

    Attributes:
        shapes: int64 (N, 2), height and width of every row in pixels.
        files: The shards, as paths or URLs.
        shard: int64 (N,), the shard of every row.
        offsets: int64 (N,), where in the shard its bytes begin.
        sizes: int64 (N,), how many there are.
    """

    def __init__(self, manifest: Manifest, preprocess: Preprocess) -> None:
        self._frame = manifest.frame.select("uri", "pixel_hash", "height", "width")
        self._preprocess = preprocess
        sides, kind = np.unique(self._frame.select("height", "width").to_numpy(), axis=0, return_inverse=True)
        self.shapes: NDArray[np.int64] = np.array([preprocess.working_shape(*pair) for pair in sides.tolist()], np.int64)[kind.reshape(-1)]
        names = self._frame["uri"].str.split_exact("#", 1).struct.field("field_0")
        distinct = names.unique().sort()
        self.shard: NDArray[np.int64] = names.replace_strict(distinct, range(len(distinct)), return_dtype=pl.Int64).to_numpy()
        self.files = [place.file for place in manifest.take(np.unique(self.shard, return_index=True)[1]).addresses()]
        self.offsets, self.sizes = (manifest.frame[name].cast(pl.Int64).to_numpy() for name in MEMBER)
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._kept_bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, row: int) -> NDArray[np.uint8]:  # type: ignore[override]  # no slices
        with self._lock:
            data = self._kept.get(row)
        if data is None:
            data = self.read(row, int(self.offsets[row]), int(self.sizes[row]))
            with self._lock:
                self._kept_bytes += len(data) - len(self._kept.pop(row, b""))
                self._kept[row] = data
                while self._kept_bytes > KEPT_BYTES:
                    self._kept_bytes -= len(self._kept.popitem(last=False)[1])
        return self.decoded(row, data)

    def in_blocks(self, block_bytes: int = BLOCK_BYTES) -> BlockImages:
        """The same images for whole epochs."""
        return BlockImages(self, block_bytes)

    def read(self, row: int, offset: int, size: int) -> bytes:
        """Bytes of the shard that a row lies in.

        Raises:
            IsograftError: They cannot be had.
        """
        try:
            return shards.read_bytes(self.files[self.shard[row]], offset, size)
        except ReadError as error:
            raise unusable(self._place(row), error) from error

    def decoded(self, row: int, data: bytes) -> NDArray[np.uint8]:
        """The image of a row from its bytes.

        Raises:
            IsograftError: They are not those of the image that was ingested.
        """
        height, width = self._frame["height"][row], self._frame["width"][row]
        shape, pixels = decode_working(self._place(row), height * width, self._preprocess, coded=False, data=data)
        return np.frombuffer(pixels, np.uint8).reshape(*shape, 3)

    def _place(self, row: int) -> Address:
        return Address(self.files[self.shard[row]], part_of_uri(self._frame["uri"][row]), self._frame["pixel_hash"][row])


class BlockImages(Sequence["NDArray[np.uint8]"]):
    """The images of a pool for whole epochs, in the order it gives; other orders work, but read whole blocks for single images.

    At most 48 blocks of 8 MiB are held with all lanes in one process, and fewer with several processes, each of which reads its own part.
    Where images are so large that a batch needs more, a block may be read twice.

    Args:
        images: The pool.
        block_bytes: Bytes of a block.

    Attributes:
        shapes: int64 (N, 2), height and width of every row in pixels.
        blocks: int64 (N,), the block of every row.
    """

    def __init__(self, images: ShardImages, block_bytes: int) -> None:
        self.shapes = images.shapes
        self.blocks = blocks_of(images.shard, images.offsets, block_bytes)
        self._images = images
        self._first = np.unique(self.blocks, return_index=True)[1]
        count = len(self._first)
        self._starts = np.full(count, np.iinfo(np.int64).max)
        self._stops = np.zeros(count, np.int64)
        np.minimum.at(self._starts, self.blocks, images.offsets)
        np.maximum.at(self._stops, self.blocks, images.offsets + images.sizes)
        self._held: OrderedDict[int, Future[bytes]] = OrderedDict()
        self._lock = threading.Lock()
        self._ahead = LANES * WINDOW
        self._coming: list[int] = []  # the blocks of the present epoch in the order of their first use
        self._turn: dict[int, int] = {}
        self._asked = 0  # how many of them were asked for
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="isograft-blocks")

    def __len__(self) -> int:
        return len(self.shapes)

    def order(self, seed: int, epoch: int, batch_size: int, rank: int, world_size: int) -> NDArray[np.int64]:
        """The rows of an epoch over all processes; see `block_order`. From now on blocks are read ahead in this order."""
        rows = block_order(self.blocks, batch_size, seed, epoch, world_size)
        used = self.blocks[part_of(rows, batch_size, rank, world_size)]
        numbers, places = np.unique(used, return_index=True)
        coming = numbers[np.argsort(places)].tolist()
        with self._lock:
            self._coming, self._turn, self._asked = coming, {number: turn for turn, number in enumerate(coming)}, 0
            self._ahead = -(-LANES // world_size) * WINDOW
        return rows

    def stop(self) -> None:
        """Begin no further reading ahead: the epoch has ended, or was left."""
        with self._lock:
            self._coming, self._turn = [], {}
            for number, reading in list(self._held.items()):
                if reading.cancel():
                    del self._held[number]

    def __getitem__(self, row: int) -> NDArray[np.uint8]:  # type: ignore[override]  # no slices
        number = int(self.blocks[row])
        data = self._block(number)
        begin = int(self._images.offsets[row] - self._starts[number])
        return self._images.decoded(row, data[begin : begin + int(self._images.sizes[row])])

    def _block(self, number: int) -> bytes:
        """The bytes of a block, and those that come next on their way."""
        with self._lock:
            wanted = self._asked_for(number)
            turn = self._turn.get(number, -1)
            for later in self._coming[max(self._asked, turn + 1) : turn + 1 + self._ahead] if turn >= 0 else ():
                self._asked_for(later)
            self._asked = max(self._asked, turn + 1 + self._ahead)
            while len(self._held) > _AT_ONCE * self._ahead:
                self._held.popitem(last=False)
        try:
            return wanted.result()
        except BaseException:
            with self._lock:  # a second try may have more luck
                if self._held.get(number) is wanted:
                    del self._held[number]
            raise

    def _asked_for(self, number: int) -> Future[bytes]:
        """The reading of a block, begun now unless it was; with the lock held."""
        if number not in self._held:
            self._held[number] = self._readers.submit(self._read, number)
        self._held.move_to_end(number)
        return self._held[number]

    def _read(self, number: int) -> bytes:
        start = int(self._starts[number])
        return self._images.read(int(self._first[number]), start, int(self._stops[number]) - start)
