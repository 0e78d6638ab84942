"""From files to probabilities: the same bits whatever the order, the neighbours and the number of images."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from isograft import inference
from isograft.batching import batch_size, trial_images
from isograft.data.hashing import pixel_hash
from isograft.data.preprocess import Preprocess
from isograft.errors import IsograftError
from isograft.inference import Picture, answers, classify, read_ahead, read_picture

PREPROCESS = Preprocess(image_size=32, working_size=40)


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=3).eval()


@pytest.fixture
def images(rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(11)]


def _all(network: torch.nn.Module, images: list[np.ndarray], batch: int | None = None) -> np.ndarray:
    return np.stack([answer.probabilities() for answer in answers(network, PREPROCESS, images, batch)])


def test_probabilities_are_the_softmax_of_the_networks_logits(network: torch.nn.Module, images: list[np.ndarray]) -> None:
    p = _all(network, images, batch=4)
    with torch.inference_mode():
        expected = network(PREPROCESS.normalise(torch.from_numpy(np.stack(images)))).double().softmax(1).numpy()
    assert p.shape == (11, 3) and p.dtype == np.float64
    assert np.allclose(p, expected, atol=1e-5) and np.allclose(p.sum(1), 1)


def test_another_order_and_other_neighbours_leave_every_bit_alone(
    network: torch.nn.Module, images: list[np.ndarray], rng: np.random.Generator
) -> None:
    p, order = _all(network, images, batch=4), rng.permutation(11)
    assert np.array_equal(_all(network, [images[k] for k in order], batch=4), p[order])
    for count in (1, 3, 5):
        assert np.array_equal(_all(network, images[:count], batch=4), p[:count])
    assert np.array_equal(_all(network, [images[3], np.full((32, 32, 3), 255, np.uint8)], batch=4)[0], p[3])


class _Recorder(torch.nn.Module):
    """Answers with the mean of each channel and notes the shape of what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(x.shape))
        return x.mean((2, 3))


class _DependsOnPlace(_Recorder):
    """Rounds some images differently at odd places of a batch, as a matrix product was seen to do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = super().forward(x)
        odd = torch.arange(len(x), device=x.device)[:, None] % 2 * (logits[:, :1] > 0)
        return logits + 1e-6 * odd * torch.tensor([1.0, 2.0, 3.0], device=x.device)


def test_every_batch_has_the_same_shape_the_last_one_too(images: list[np.ndarray]) -> None:
    network = _Recorder()
    assert len(_all(network, images, batch=4)) == 11
    assert network.shapes == [(4, 3, 32, 32)] * (4 * 3 + 3)


def test_a_network_whose_rounding_depends_on_the_place_sees_one_image_at_a_time(images: list[np.ndarray]) -> None:
    network = _DependsOnPlace()
    p = _all(network, images[:6], batch=4)
    assert network.shapes[-6:] == [(1, 3, 32, 32)] * 6 and set(network.shapes[:-6]) == {(4, 3, 32, 32)}
    assert np.array_equal(_all(network, images[5::-1], batch=4), p[::-1])


def test_no_image_gives_no_row_and_asks_nothing_of_the_network() -> None:
    network = _Recorder()
    assert list(answers(network, PREPROCESS, [])) == [] and network.shapes == []


def test_numbers_that_are_not_finite_are_an_error(images: list[np.ndarray]) -> None:
    class Broken(_Recorder):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * float("nan")

    with pytest.raises(IsograftError, match="not finite"):
        _all(Broken(), images, batch=4)


@pytest.mark.parametrize(
    ("side", "parameters", "size"),
    [(32, 11e6, 16), (64, 11e6, 16), (96, 11e6, 8), (128, 11e6, 8), (160, 11e6, 1), (224, 11e6, 1), (2048, 11e6, 1), (64, 73e6, 1)],
)
def test_the_batch_is_chosen_by_the_model_and_the_device_alone(side: int, parameters: float, size: int) -> None:
    assert batch_size(side, int(parameters), "cpu") == size
    assert batch_size(side, int(parameters), "cuda") == (64 if side <= 224 else 1)


def test_a_file_is_read_up_to_the_networks_square_with_the_hash_of_its_pixels(
    tmp_path: Path, small_image: np.ndarray, write_image: Callable[[Path, np.ndarray], Path]
) -> None:
    picture = read_picture(write_image(tmp_path / "a.png", small_image), PREPROCESS)
    assert picture.status == "ok" and picture.reason is None
    assert picture.pixel_hash == pixel_hash(small_image)
    assert np.array_equal(picture.pixels, PREPROCESS.fit(PREPROCESS.working(small_image)))


@pytest.mark.parametrize(
    ("content", "status"), [(b"", "empty"), (b"just text", "unsupported"), (b"\xff\xd8\xff\xe0cut", "truncated|corrupt"), (None, "missing")]
)
def test_a_bad_file_becomes_a_picture_that_says_so(tmp_path: Path, content: bytes | None, status: str) -> None:
    path = tmp_path / "bad.jpg"
    if content is not None:
        path.write_bytes(content)
    picture = read_picture(path, PREPROCESS)
    assert picture.pixels is None and picture.status in status.split("|") and picture.reason


def test_a_file_with_too_many_pixels_is_refused(tmp_path: Path, small_image: np.ndarray, write_image: Callable) -> None:
    assert read_picture(write_image(tmp_path / "a.png", small_image), PREPROCESS, max_pixels=100).status == "too_large"


def test_bad_pictures_keep_their_place_among_good_ones(images: list[np.ndarray]) -> None:
    bad = Picture(None, "corrupt", "broken")
    pictures = [bad, Picture(images[0]), bad, bad, Picture(images[1]), Picture(images[2]), bad]
    pairs = list(classify(_Recorder(), PREPROCESS, pictures, batch=2))
    assert [picture for picture, _ in pairs] == pictures
    assert [row is None for _, row in pairs] == [True, False, True, True, False, False, True]
    assert np.array_equal(pairs[4][1].probabilities(), _all(_Recorder(), images, batch=2)[1])
    assert [row for _, row in classify(_Recorder(), PREPROCESS, [bad, bad])] == [None, None]


def test_reading_ahead_is_in_order_bounded_and_stops_with_its_consumer(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    lock = threading.Lock()

    def fake(path: Path, preprocess: Preprocess, max_pixels: int) -> Picture:
        with lock:
            started.append(path.name)
        return Picture(None, "corrupt", path.name)

    monkeypatch.setattr(inference, "read_picture", fake)
    taken: list[str] = []

    def paths() -> Iterator[Path]:
        for number in range(1000):
            taken.append(str(number))
            yield Path(str(number))

    pictures = read_ahead(paths(), PREPROCESS, threads=3, ahead=8)
    assert [next(pictures).reason for _ in range(20)] == [str(number) for number in range(20)]
    assert len(taken) <= 20 + 8
    pictures.close()
    assert len(started) <= len(taken) <= 20 + 8
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_the_images_that_are_tried_are_always_the_same_and_all_different() -> None:
    images = trial_images(16, 24)
    assert np.array_equal(images, trial_images(16, 24))
    assert len(np.unique(images.reshape(16, -1), axis=0)) == 16 and np.ptp(images.mean((1, 2, 3))) > 50


@pytest.mark.real
@pytest.mark.parametrize("name", ["resnet10t", "test_vit", "test_efficientnet", "alzubaidi_light"])
def test_real_images_keep_their_bits_in_any_order(real_data: Path, name: str, rng: np.random.Generator) -> None:
    import isograft.networks.alzubaidi  # noqa: F401  registers the network

    files = sorted((real_data / "skin" / "uda1" / "melanoma").iterdir())[:10]
    torch.manual_seed(0)
    size = {"test_vit": 160}.get(name, 64)
    preprocess = Preprocess(image_size=size, working_size=size)
    network = timm.create_model(name, num_classes=2, **({"width": 8} if name == "alzubaidi_light" else {})).eval()

    def numbers(paths: list[Path]) -> np.ndarray:
        return np.stack([answer.probabilities() for _, answer in classify(network, preprocess, read_ahead(paths, preprocess, 2), batch=8)])

    p, order = numbers(files), rng.permutation(10)
    assert len(np.unique(p[:, 0])) == 10
    assert np.array_equal(numbers([files[k] for k in order]), p[order])
    assert np.array_equal(numbers(files[7:8]), p[7:8])
