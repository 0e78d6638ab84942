"""Requests meet in batches: nobody waits for a timer, nobody pays for another, nobody who left is served."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError

import numpy as np
import pytest
from tests.unit.serve.conftest import CLASSES, Stub

from isograft.engines.torch_engine import TorchEngine
from isograft.inference import Answer, Answering
from isograft.judgement import Judgement
from isograft.model import Model
from isograft.predictions import judged
from isograft.serve import batcher as module
from isograft.serve.batcher import Batcher, judge

PATIENCE = 120  # seconds until a test gives up


def taken(batcher: Batcher) -> bool:
    """Whether a batch takes all who wait before patience ends."""
    end = time.monotonic() + PATIENCE
    while not batcher._queue.empty() and time.monotonic() < end:
        time.sleep(0.001)
    return batcher._queue.empty()


class Network(Stub):
    """Stands in for a network: an image's scores are its first value; it works while `free` is set."""

    size = 4

    def __init__(self) -> None:
        super().__init__()
        self.free = threading.Event()
        self.free.set()
        self.seen: list[list[int]] = []
        self.fails_at = -1

    def __call__(self, images: Sequence[np.ndarray]) -> list[Answer]:
        self.free.wait(PATIENCE)
        values = [int(image.flat[0]) for image in images]
        self.seen.append(values)
        if self.fails_at in values:
            raise MemoryError("too much")
        return [Answer(np.array([[v, np.inf if v == 99 else -v]], np.float32), np.zeros((1, 0), np.float32)) for v in values]


def image(value: int) -> np.ndarray:
    return np.full((2, 2, 3), value, np.uint8)


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def make(network: Network) -> Iterator[Callable[..., Batcher]]:
    made: list[Batcher] = []

    def make(**options: object) -> Batcher:
        made.append(Batcher(network, Judgement(missing="none", classes=["a", "b"]), **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    network.free.set()
    for batcher in made:
        batcher.close()


def test_those_who_come_while_the_network_works_are_its_next_batch(network: Network, make: Callable[..., Batcher]) -> None:
    sizes: list[int] = []
    batcher = make(counted=sizes.append)
    network.free.clear()
    futures = [batcher.ask(image(0), "")]
    assert taken(batcher)
    futures += [batcher.ask(image(n), "") for n in range(1, 8)]
    assert batcher.waiting == 7
    network.free.set()
    scores = [float(future.result(PATIENCE).answer.logits[0, 0]) for future in futures]
    assert scores == list(range(8)) and network.seen == [[0], [1, 2, 3, 4], [5, 6, 7]] and sizes == [1, 4, 3]


def test_a_network_that_computes_two_batches_at_a_time_gets_two_and_no_third() -> None:
    class Two(Network):
        workers, size = 2, 1

        def __init__(self) -> None:
            super().__init__()
            self.both, self.lock, self.inside, self.most = threading.Barrier(2, timeout=PATIENCE), threading.Lock(), 0, 0

        def submit(self, images: Sequence[np.ndarray]) -> object:
            with self.lock:
                self.inside += 1
                self.most = max(self.most, self.inside)
            return super().submit(images)

        def __call__(self, images: Sequence[np.ndarray]) -> list[Answer]:
            self.both.wait()  # passed by two at a time only
            answers = super().__call__(images)
            with self.lock:
                self.inside -= 1
            return answers

    network = Two()
    batcher = Batcher(network, Judgement(missing="none", classes=["a", "b"]))  # type: ignore[arg-type]
    futures = [batcher.ask(image(n), "") for n in range(6)]
    assert [float(future.result(PATIENCE).answer.logits[0, 0]) for future in futures] == [0, 1, 2, 3, 4, 5]
    assert network.most == 2
    batcher.close()


def test_one_alone_is_answered_at_once(network: Network, make: Callable[..., Batcher], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINGER", 1e6)
    assert make(expected=lambda: 0).ask(image(1), "").result(PATIENCE) and network.seen == [[1]]


def test_while_others_are_decoded_a_batch_waits_until_it_is_full(
    network: Network, make: Callable[..., Batcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINGER", 1e6)
    batcher = make(expected=lambda: 1)
    futures = []
    for number in range(network.size):
        assert not network.seen
        futures.append(batcher.ask(image(number), ""))
        assert taken(batcher)
    assert all(future.result(PATIENCE) for future in futures) and network.seen == [[0, 1, 2, 3]]


def test_a_batch_waits_for_those_who_are_decoded_only_so_long(
    network: Network, make: Callable[..., Batcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINGER", 0.001)
    assert make(expected=lambda: 1).ask(image(1), "").result(PATIENCE) and network.seen == [[1]]


def test_those_who_left_are_not_shown_to_the_network(network: Network, make: Callable[..., Batcher]) -> None:
    batcher = make()
    network.free.clear()
    first = batcher.ask(image(0), "")
    assert taken(batcher)
    futures = [batcher.ask(image(n), "") for n in range(1, 4)]
    assert futures[1].cancel()
    network.free.set()
    assert first.result(PATIENCE) and futures[0].result(PATIENCE) and futures[2].result(PATIENCE)
    assert network.seen == [[0], [1, 3]]
    with pytest.raises(CancelledError):
        futures[1].result(PATIENCE)


def test_a_crash_is_told_to_those_in_the_batch_and_the_next_is_answered(network: Network, make: Callable[..., Batcher]) -> None:
    batcher = make()
    network.fails_at = 5
    with pytest.raises(MemoryError):
        batcher.ask(image(5), "").result(PATIENCE)
    assert batcher.ask(image(6), "").result(PATIENCE).probabilities.argmax() == 0


def test_an_answer_that_is_not_finite_harms_no_neighbour(network: Network, make: Callable[..., Batcher]) -> None:
    batcher = make()
    network.free.clear()
    batcher.ask(image(0), "")
    assert taken(batcher)
    futures = [batcher.ask(image(n), "") for n in (1, 99, 2)]
    network.free.set()
    assert futures[0].result(PATIENCE) and futures[2].result(PATIENCE)
    with pytest.raises(ArithmeticError):
        futures[1].result(PATIENCE)


def test_a_closed_batcher_answers_nobody(make: Callable[..., Batcher]) -> None:
    batcher = make()
    batcher.close()
    with pytest.raises(RuntimeError):
        batcher.ask(image(1), "").result(PATIENCE)


def test_answers_are_judged_together_as_predict_judges_them_one_by_one(model: Model) -> None:
    draw = np.random.default_rng(1)
    squares = list(draw.integers(0, 256, (9, 32, 32, 3), dtype=np.uint8))
    answering = Answering(TorchEngine(model.network(), model.preprocess, batch=16))
    answers, ids = answering(squares), [f"{n:016x}" for n in range(9)]
    together = judge(model.judgement(), answers, ids)
    for number, one in enumerate(together):
        row = judged([answers[number]], [ids[number]], model.judgement(), CLASSES).row(0, named=True)
        assert {name: row[name] for name in one.verdicts} == one.verdicts
        assert one.probabilities.tolist() == [row["p_dark"], row["p_light"]]
        assert one.prediction_set is not None and ("|".join(one.prediction_set) or "none") == row["prediction_set"]
