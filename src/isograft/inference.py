"""From image files to probabilities, the same way for every verb, to the bit.

`evaluate` and `predict` both come through here, and both read the original files. The network always
sees batches of one fixed shape, the last one filled up with black images, because a numerical library
may choose another kernel, hence another rounding, for another batch size.

How many images a batch holds, and when one alone is safe, is decided in `batching.py`; what computes it is an `Engine`.
Files are decoded, batches computed and answers taken at the same time.
The bits still belong to the machine: another processor or another torch may round differently.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from isograft.data.address import Address
from isograft.data.containers import read_unchanged
from isograft.data.hashing import pixel_hash
from isograft.data.proportions import unfit
from isograft.data.readers import Pixels, ReadError, to_rgb8
from isograft.data.symmetries import IDENTITY, turned
from isograft.errors import IsograftError, Unreachable

if TYPE_CHECKING:
    import torch

    from isograft.data.preprocess import Preprocess
    from isograft.engines.engine import Engine, Outputs

Image = npt.NDArray[np.uint8]
Row = npt.NDArray[np.float64]

MAX_PIXELS = 200_000_000
"""Images larger than this are reported as too_large and not decoded (the default of `ingest`)."""

NOT_FINITE = "the network gives numbers that are not finite; its training diverged or its folder is damaged: train it again"

BEGUN = 2
"""Batches begun per core of the engine: one is computed, one waits, so that no core waits for the consumer."""


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
        row: Row = votes([self], temperature)[0]
        return row

    def probabilities(self, temperature: float = 1.0) -> Row:
        """Mean of the A softmaxes of logits / temperature: float64 (K,) in [0, 1], sum 1."""
        row: Row = probabilities([self], temperature)[0]
        return row


def votes(answers: Sequence[Answer], temperature: float = 1.0) -> Row:
    """`Answer.votes` of N answers: float64 (N, K), each row with the bits it has alone."""
    rows: Row = np.median(_softmaxes(answers, temperature), axis=1)
    return rows


def probabilities(answers: Sequence[Answer], temperature: float = 1.0) -> Row:
    """`Answer.probabilities` of N answers: float64 (N, K), each row with the bits it has alone."""
    rows: Row = _softmaxes(answers, temperature).mean(axis=1)
    return rows


def _softmaxes(answers: Sequence[Answer], temperature: float) -> Row:
    return softmax(np.stack([answer.logits for answer in answers]).astype(np.float64) / temperature)


@dataclass(frozen=True)
class Picture:
    """One input, ready for the network or refused with a reason.

    Attributes:
        pixels: uint8 (S, S, 3) RGB, or None when the file cannot be used.
        status: `ok`, or why not: `corrupt` `truncated` `empty` `unsupported` `too_large` `missing` `unreachable`,
            or `changed`, where a manifest knows other pixels than the file has now.
        reason: One sentence about a status that is not `ok`, or a note on how an unusual file was read.
        pixel_hash: SHA-256 of the decoded pixels before any scaling.
        unfit: Whether too little of it is left to judge, so that no answer is to be relied on.
    """

    pixels: Image | None
    status: str = "ok"
    reason: str | None = None
    pixel_hash: str | None = None
    unfit: bool = False

    @property
    def told(self) -> Picture:
        """What is told of it, without the pixels."""
        return replace(self, pixels=None)


def read_picture(place: Address | Path, preprocess: Preprocess, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read one image up to the square the network sees; a bad one, or one that has changed, becomes a Picture that says so.

    Args:
        place: Where the image lies; one with a pixel hash is held to it.
        preprocess: The model's preprocessing.
        max_pixels: Refuse to decode more than this many pixels.
    """
    try:
        decoded, found = read_unchanged(place, max_pixels)
    except ReadError as error:
        if not place.exists():
            return Picture(None, "missing", f"there is no file {place}")
        return Picture(None, error.status, error.reason)
    except Unreachable as error:
        return Picture(None, error.status, error.reason)
    return squared(decoded, preprocess, found)


def squared(decoded: Pixels, preprocess: Preprocess, known: str | None = None) -> Picture:
    """A decoded image, ready for the network; its pixel hash is computed unless it is known."""
    why = unfit(*decoded.array.shape[:2])
    note = "; ".join(filter(None, (decoded.note, why))) or None
    found = known or pixel_hash(decoded.array)
    return Picture(preprocess.square(to_rgb8(decoded.array)), reason=note, pixel_hash=found, unfit=bool(why))


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
    """Pair every picture, in order, with the network's answer by torch, or None when it could not be read."""
    return paired(pictures, lambda images: answers(network, preprocess, images, batch, symmetries))


def paired(pictures: Iterable[Picture], ask: Callable[[Iterator[Image]], Iterator[Answer]]) -> Iterator[tuple[Picture, Answer | None]]:
    """Pair every picture, in order, with its answer, or None when it could not be read.

    Args:
        pictures: Taken as they are needed.
        ask: Squares uint8 (S, S, 3) to an answer each, in order; it may take squares ahead of what it answers.
    """
    waiting: deque[Picture] = deque()

    def usable() -> Iterator[Image]:
        for picture in pictures:
            waiting.append(picture)
            if picture.pixels is not None:
                yield picture.pixels

    for answer in ask(usable()):
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
    """Give the network's answer to each image by torch, independent of its neighbours and its place, to the bit.

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
    from isograft.engines.torch_engine import TorchEngine

    with TorchEngine(network, preprocess, batch, side=first.shape[0]) as engine:
        yield from answered(engine, chain([first], todo), symmetries)


def answered(engine: Engine, images: Iterable[Image], symmetries: Sequence[str] = (IDENTITY,)) -> Iterator[Answer]:
    """Give an engine's answer to each image, in order, while the next images are taken and computed; see `answers`."""
    todo = iter(images)
    begun: deque[tuple[int, list[Future[Outputs]]]] = deque()
    try:
        while True:
            while len(begun) < BEGUN * engine.workers and (held := list(islice(todo, engine.size))):
                batch = np.stack(held)
                begun.append((len(held), [engine.submit(turned(batch, name)) for name in symmetries]))
            if not begun:
                return
            count, shown = begun.popleft()
            for answer in _taken([one.result() for one in shown], count):
                if not answer.finite:
                    raise IsograftError(NOT_FINITE)
                yield answer
    finally:
        for _, shown in begun:
            for one in shown:
                one.cancel()


class Answering:
    """An engine for those who have no stream of images, but a few at a time; the answers have the bits of `answers`.

    Args:
        engine: What computes; closed with this.

    Attributes:
        size: Images of a batch at most.
        workers: Batches that are computed at a time.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.size, self.workers = engine.size, engine.workers

    def submit(self, images: Sequence[Image]) -> Future[list[Answer]]:
        """Begin to answer 1 to `size` images uint8 (S, S, 3) RGB; the answers are perhaps not finite."""
        answered: Future[list[Answer]] = Future()

        def take(computed: Future[Outputs]) -> None:
            if computed.cancelled():
                answered.cancel()
            elif error := computed.exception():
                answered.set_exception(error)
            else:
                answered.set_result(_taken([computed.result()], len(images)))

        self._engine.submit(np.stack(images)).add_done_callback(take)
        return answered

    def __call__(self, images: Sequence[Image]) -> list[Answer]:
        """The answers to 1 to `size` images; see `submit`."""
        return self.submit(images).result()

    def close(self) -> None:
        """Wait for what was begun, drop what was not."""
        self._engine.close()


def _taken(shown: list[Outputs], count: int) -> list[Answer]:
    """The answers to the first images of a batch, from what was computed under each symmetry."""
    logits = np.concatenate([scores for scores, _ in shown], axis=1)
    return [Answer(one, embeddings) for one, embeddings in zip(logits[:count], shown[0][1], strict=False)]


def softmax(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Probabilities float64 (..., K) of logits (..., K)."""
    raised = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True).astype(np.float64))
    row: npt.NDArray[np.float64] = raised / raised.sum(axis=-1, keepdims=True)
    return row
