"""From image files to probabilities, the same way for every verb, to the bit.

`evaluate` and `predict` both come through here, and both read the original files. The network always
sees batches of one fixed shape, the last one filled up with black images, because a numerical library
may choose another kernel, hence another rounding, for another batch size.

How many images a batch holds, and when one alone is safe, is decided in `batching.py`.
The bits still belong to the machine: another processor, another number of torch threads or another torch may round differently.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from isograft.batching import batch_size, place_is_free
from isograft.data.address import Address
from isograft.data.containers import read
from isograft.data.hashing import pixel_hash
from isograft.data.readers import Pixels, ReadError, to_rgb8
from isograft.data.symmetries import IDENTITY, turned
from isograft.errors import IsograftError, Unreachable

if TYPE_CHECKING:
    import torch

    from isograft.data.preprocess import Preprocess

Image = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.float32]
Row = npt.NDArray[np.float64]

MAX_PIXELS = 200_000_000
"""Images larger than this are reported as too_large and not decoded (the default of `ingest`)."""

NOT_FINITE = "the network gives numbers that are not finite; its training diverged or its folder is damaged: train it again"


@dataclass(frozen=True)
class Answer:
    """What a model says of one image, before any calibration.

    Attributes:
        logits: float32 (A, K), of every member of an ensemble under every symmetry that the image was shown.
        embeddings: float32 (M, D), the pooled features that each member gives the image as it is; D is 0 where they are not to be had.
    """

    logits: npt.NDArray[np.float32]
    embeddings: npt.NDArray[np.float32]

    @property
    def finite(self) -> bool:
        """Whether all of it are numbers."""
        return bool(np.isfinite(self.logits).all() and np.isfinite(self.embeddings).all())

    def votes(self, temperature: float = 1.0) -> Row:
        """Median, class by class, of the A softmaxes: float64 (K,) in [0, 1]; of a single one, its probabilities.

        What was chosen for one network's answers (a threshold, a set) holds for the majority of several, not for their mean.
        """
        row: Row = np.median(softmax(self.logits.astype(np.float64) / temperature), axis=0)
        return row

    def probabilities(self, temperature: float = 1.0) -> Row:
        """Mean of the A softmaxes of logits / temperature: float64 (K,) in [0, 1], sum 1."""
        row: Row = softmax(self.logits.astype(np.float64) / temperature).mean(axis=0)
        return row


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
    return squared(decoded, preprocess)


def squared(decoded: Pixels, preprocess: Preprocess) -> Picture:
    """A decoded image, ready for the network."""
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
    network: torch.nn.Module,
    preprocess: Preprocess,
    pictures: Iterable[Picture],
    batch: int | None = None,
    symmetries: Sequence[str] = (IDENTITY,),
) -> Iterator[tuple[Picture, Answer | None]]:
    """Pair every picture, in order, with the network's answer, or None when it could not be read."""
    waiting: deque[Picture] = deque()

    def usable() -> Iterator[Image]:
        for picture in pictures:
            waiting.append(picture)
            if picture.pixels is not None:
                yield picture.pixels

    for answer in answers(network, preprocess, usable(), batch, symmetries):
        while waiting[0].pixels is None:
            yield waiting.popleft(), None
        yield waiting.popleft(), answer
    while waiting:
        yield waiting.popleft(), None


def answers(
    network: torch.nn.Module,
    preprocess: Preprocess,
    images: Iterable[Image],
    batch: int | None = None,
    symmetries: Sequence[str] = (IDENTITY,),
) -> Iterator[Answer]:
    """Give the network's answer to each image, independent of its neighbours and its place, to the bit.

    Args:
        network: A `Classifier`, an `Ensemble` of them, or any network giving logits float32 (B, K); moved to the GPU when there is one.
        preprocess: The model's preprocessing; only `normalise` is applied here.
        images: uint8 (S, S, 3) RGB squares.
        batch: Images per batch, fixed shape; None chooses by image size and device.
        symmetries: Names of `data.symmetries` under which each image is shown, the first without any.

    Yields:
        An `Answer` per image, in the order of `images`.

    Raises:
        IsograftError: The network gives numbers that are not finite.
    """
    todo = iter(images)
    first = next(todo, None)
    if first is None:
        return
    answering = Answering(network, preprocess, batch, symmetries, first.shape[0])
    held = [first, *islice(todo, answering.size - 1)]
    while held:
        for answer in answering(held):
            if not answer.finite:
                raise IsograftError(NOT_FINITE)
            yield answer
        held = list(islice(todo, answering.size))


class Answering:
    """A network ready to answer, always in batches of one shape: what every verb that asks a network has in common.

    Args:
        network: As for `answers`; moved to the GPU when there is one.
        preprocess: The model's preprocessing; only `normalise` is applied here.
        batch: Images per batch, fixed shape; None chooses by image size and device.
        symmetries: Names of `data.symmetries` under which each image is shown, the first without any.
        side: Side S of the images in pixels; None for the model's own.

    Attributes:
        size: Images of a batch.
        workers: Batches that are computed at a time.
    """

    workers = 1

    def __init__(
        self,
        network: torch.nn.Module,
        preprocess: Preprocess,
        batch: int | None = None,
        symmetries: Sequence[str] = (IDENTITY,),
        side: int | None = None,
    ) -> None:
        import torch

        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network, self._preprocess, self._symmetries = network.to(self._device).eval(), preprocess, symmetries
        self._side = side or preprocess.image_size
        self.size = batch or batch_size(self._side, sum(one.numel() for one in network.parameters()), self._device.type)
        if not place_is_free(lambda tried: _joined(self._outputs(tried)), self._side, self.size):
            self.size = 1
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="network")

    def submit(self, images: Sequence[Image]) -> Future[list[Answer]]:
        """Begin to answer up to `size` images, on a thread of its own."""
        return self._pool.submit(self, images)

    def close(self) -> None:
        """Wait for what was begun, drop what was not."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __call__(self, images: Sequence[Image]) -> list[Answer]:
        """The network's answer to each of up to `size` images uint8 (S, S, 3) RGB, perhaps not finite."""
        filled = np.zeros((self.size, self._side, self._side, 3), dtype=np.uint8)
        for place, image in enumerate(images):
            filled[place] = image
        shown = [self._outputs(turned(filled, name)) for name in self._symmetries]
        logits = np.concatenate([scores for scores, _ in shown], axis=1)
        return [Answer(one, embeddings) for one, embeddings in zip(logits[: len(images)], shown[0][1], strict=False)]

    def _outputs(self, batch: Image) -> tuple[Numbers, Numbers]:
        return _outputs(self._network, self._preprocess, batch, self._device)


def _outputs(network: torch.nn.Module, preprocess: Preprocess, batch: Image, device: torch.device) -> tuple[Numbers, Numbers]:
    """The network's answers in full float32 with repeatable kernels.

    Args:
        network: A `Classifier` or an `Ensemble`; any other network gives logits only.
        preprocess: The one preprocessing.
        batch: uint8 (B, S, S, 3).
        device: Where the network is.

    Returns:
        Logits float32 (B, M, K) and embeddings float32 (B, M, D) of M members.
    """
    import torch

    from isograft.networks.ensemble import Ensemble
    from isograft.networks.heads import Classifier

    quiet = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    with torch.inference_mode(), quiet:
        x = preprocess.normalise(torch.from_numpy(batch).to(device))
        if isinstance(network, Classifier | Ensemble):
            logits, embeddings = network.outputs(x)
        else:
            logits = network(x).unsqueeze(1)
            embeddings = logits[..., :0]
    return logits.float().cpu().numpy(), embeddings.float().cpu().numpy()


def _joined(outputs: tuple[Numbers, Numbers]) -> Numbers:
    return np.concatenate(outputs, axis=2)


def softmax(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Probabilities float64 (..., K) of logits (..., K)."""
    raised = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True).astype(np.float64))
    row: npt.NDArray[np.float64] = raised / raised.sum(axis=-1, keepdims=True)
    return row
