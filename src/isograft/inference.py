"""From image files to probabilities, the same way for every verb, to the bit.

`evaluate` and `predict` both come through here, and both read the original files. The network always
sees batches of one fixed shape, the last one filled up with black images, because a numerical library
may choose another kernel, hence another rounding, for another batch size.

A fixed shape alone is not enough: the matrix product of a fully connected layer was seen to round the odd
rows of a batch differently from the even ones, by their alignment in memory. So every run first tries
the same images at other places of the batch, and a network whose bits change is run on one image at a time.
What is tried depends on the model alone, so `evaluate` and `predict` decide alike.

The bits still belong to the machine: another processor, another number of torch threads or another torch may round differently.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from isograft.data.address import Address
from isograft.data.containers import read
from isograft.data.hashing import pixel_hash
from isograft.data.readers import ReadError, to_rgb8
from isograft.errors import IsograftError, Unreachable

if TYPE_CHECKING:
    import torch

    from isograft.data.preprocess import Preprocess

Image = npt.NDArray[np.uint8]
Row = npt.NDArray[np.float64]

MAX_PIXELS = 200_000_000
"""Images larger than this are reported as too_large and not decoded (the default of `ingest`)."""

# Measured on CPUs: batches pay up to about 128 px (2 to 3 times as fast at 64 px), not at 224 px, and not for large networks.
_CPU_BATCH, _CPU_PIXELS = 16, 8 * 128 * 128
_GPU_BATCH, _GPU_PIXELS = 64, 64 * 256 * 256
_CPU_LARGE = 40_000_000
_TRIED = 16


@dataclass(frozen=True)
class Picture:
    """One input, ready for the network or refused with a reason.

    Attributes:
        pixels: uint8 (S, S, 3) RGB, or None when the file cannot be used.
        status: `ok`, or why not: `corrupt` `truncated` `empty` `unsupported` `too_large` `missing` `unreachable`.
        reason: One sentence about a status that is not `ok`, or a note on how an unusual file was read.
        pixel_hash: SHA-256 of the decoded pixels before any scaling.
    """

    pixels: Image | None
    status: str = "ok"
    reason: str | None = None
    pixel_hash: str | None = None


def read_picture(place: Address | Path, preprocess: Preprocess, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read one image up to the square the network sees; a bad one becomes a Picture that says so.

    Args:
        place: Where the image lies.
        preprocess: The model's preprocessing.
        max_pixels: Refuse to decode more than this many pixels.
    """
    try:
        decoded = read(place, max_pixels)
    except ReadError as error:
        if not place.exists():
            return Picture(None, "missing", f"there is no file {place}")
        return Picture(None, error.status, error.reason)
    except Unreachable as error:
        return Picture(None, error.status, error.reason)
    pixels = preprocess.fit(preprocess.working(to_rgb8(decoded.array)))
    return Picture(np.ascontiguousarray(pixels), reason=decoded.note or None, pixel_hash=pixel_hash(decoded.array))


def read_ahead(
    places: Iterable[Address | Path], preprocess: Preprocess, threads: int, max_pixels: int = MAX_PIXELS, ahead: int = 64
) -> Iterator[Picture]:
    """Read files on threads, in order, at most `ahead` of the consumer, so that memory stays flat.

    Args:
        places: Where the images lie, taken one at a time.
        preprocess: The model's preprocessing.
        threads: Decoding threads.
        max_pixels: Refuse to decode more than this many pixels.
        ahead: Pictures held at most.
    """
    todo = iter(places)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        flying: deque[Future[Picture]] = deque(pool.submit(read_picture, place, preprocess, max_pixels) for place in islice(todo, ahead))
        while flying:
            picture = flying.popleft().result()
            flying.extend(pool.submit(read_picture, place, preprocess, max_pixels) for place in islice(todo, 1))
            yield picture
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def classify(
    network: torch.nn.Module, preprocess: Preprocess, pictures: Iterable[Picture], batch: int | None = None
) -> Iterator[tuple[Picture, Row | None]]:
    """Pair every picture, in order, with its probabilities float64 (K,), or None when it could not be read."""
    waiting: deque[Picture] = deque()

    def usable() -> Iterator[Image]:
        for picture in pictures:
            waiting.append(picture)
            if picture.pixels is not None:
                yield picture.pixels

    for row in probabilities(network, preprocess, usable(), batch):
        while waiting[0].pixels is None:
            yield waiting.popleft(), None
        yield waiting.popleft(), row
    while waiting:
        yield waiting.popleft(), None


def probabilities(network: torch.nn.Module, preprocess: Preprocess, images: Iterable[Image], batch: int | None = None) -> Iterator[Row]:
    """Give each image's class probabilities, independent of its neighbours and its place, to the bit.

    Args:
        network: Classifier giving logits float32 (B, K); moved to the GPU when there is one.
        preprocess: The model's preprocessing; only `normalise` is applied here.
        images: uint8 (S, S, 3) RGB squares.
        batch: Images per batch, fixed shape; None chooses by image size and device.

    Yields:
        float64 (K,) in [0, 1], sum 1 (softmax in float64), in the order of `images`.

    Raises:
        IsograftError: The network gives numbers that are not finite.
    """
    todo = iter(images)
    first = next(todo, None)
    if first is None:
        return
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = network.to(device).eval()
    size = batch or batch_size(first.shape[0], sum(one.numel() for one in network.parameters()), device.type)
    if not _place_is_free(network, preprocess, first.shape[0], size, device):
        size = 1
    held = [first, *islice(todo, size - 1)]
    while held:
        filled = np.zeros((size, *first.shape), dtype=np.uint8)
        for place, image in enumerate(held):
            filled[place] = image
        for logits in _logits(network, preprocess, filled, device)[: len(held)]:
            if not np.isfinite(logits).all():
                raise IsograftError(
                    "the network gives numbers that are not finite; its training diverged or its folder is damaged: train it again"
                )
            yield _softmax(logits)
        held = list(islice(todo, size))


def batch_size(image_size: int, parameters: int, device: str) -> int:
    """Choose images per batch by the model and the device alone, so that every verb chooses alike.

    Args:
        image_size: Side of the network's square in pixels.
        parameters: Number of weights of the network.
        device: `cpu` or `cuda`.

    Returns:
        A power of two; 1 where a batch would not be faster.
    """
    if device != "cuda" and parameters > _CPU_LARGE:
        return 1
    most, pixels = (_GPU_BATCH, _GPU_PIXELS) if device == "cuda" else (_CPU_BATCH, _CPU_PIXELS)
    fitting = max(1, min(most, pixels // image_size**2))
    return 1 << (fitting.bit_length() - 1) if device == "cuda" or fitting >= 8 else 1


def _place_is_free(network: torch.nn.Module, preprocess: Preprocess, side: int, size: int, device: torch.device) -> bool:
    """Whether images keep their logits' bits when they move by 1, 2, 4, ... places: tried with fixed images."""
    shifts = [1 << power for power in range(size.bit_length()) if 1 << power < size]
    images = _trial_images(max(size, _TRIED) if shifts else 0, side)
    for start in range(0, len(images), size):
        tried = np.resize(images[start : start + size], (size, side, side, 3))
        expected = _logits(network, preprocess, tried, device)
        for by in shifts:
            if not np.array_equal(_logits(network, preprocess, np.roll(tried, by, axis=0), device), np.roll(expected, by, axis=0)):
                return False
    return True


def _trial_images(count: int, side: int) -> npt.NDArray[np.uint8]:
    """Fixed images uint8 (count, side, side, 3) from smooth to noisy, dark to light, so that a network answers them differently."""
    import cv2

    draw = np.random.default_rng(0)
    images = np.empty((count, side, side, 3), dtype=np.uint8)
    for place in range(count):
        cells = (2, 3, 5, 9)[place % 4]
        smooth = cv2.resize(draw.uniform(-70, 70, (cells, cells, 3)), (side, side), interpolation=cv2.INTER_LINEAR)
        noise = draw.normal(0, 4 * (place % 5), (side, side, 3))
        images[place] = np.clip(draw.uniform(60, 200) + smooth + noise, 0, 255).astype(np.uint8)
    return images


def _logits(
    network: torch.nn.Module, preprocess: Preprocess, batch: npt.NDArray[np.uint8], device: torch.device
) -> npt.NDArray[np.float32]:
    """The network's answer, uint8 (B, S, S, 3) to float32 (B, K), in full float32 with repeatable kernels."""
    import torch

    quiet = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    with torch.inference_mode(), quiet:
        logits = network(preprocess.normalise(torch.from_numpy(batch).to(device)))
    answer: npt.NDArray[np.float32] = logits.float().cpu().numpy()
    return answer


def _softmax(logits: npt.NDArray[np.float32]) -> Row:
    """Probabilities float64 (K,) of one image's logits (K,)."""
    raised = np.exp(logits.astype(np.float64) - float(logits.max()))
    row: Row = raised / raised.sum()
    return row
