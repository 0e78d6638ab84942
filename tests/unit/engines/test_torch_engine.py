"""Torch, a batch per core: other threads keep their cores, and an answer does not depend on how many there are."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import timm
import torch

from isograft.batching import trial_images
from isograft.data.preprocess import Preprocess
from isograft.engines.torch_engine import TorchEngine, use_one_core
from isograft.inference import answered
from isograft.networks.ensemble import Ensemble
from isograft.networks.heads import Classifier, build_head

PREPROCESS = Preprocess(image_size=32, working_size=32)


def _classifier(seed: int) -> Classifier:
    torch.manual_seed(seed)
    backbone = timm.create_model("test_resnet", num_classes=0)
    return Classifier(backbone, build_head("linear", backbone.num_features, 3)).eval()


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_a_thread_that_uses_one_core_leaves_the_others_and_new_ones_theirs(two_threads: None) -> None:
    found: dict[str, int] = {}

    def alone() -> None:
        use_one_core()
        found["alone"] = torch.get_num_threads()

    def new() -> None:
        found["new"] = torch.get_num_threads()

    for work in (alone, new):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert found == {"alone": 1, "new": 2} and torch.get_num_threads() == 2


def test_an_ensemble_answers_with_the_logits_and_features_of_each_member() -> None:
    members = [_classifier(seed) for seed in (0, 1)]
    images = trial_images(4, 32)
    with TorchEngine(Ensemble(members), PREPROCESS, batch=4) as engine:
        logits, embeddings = engine.submit(images).result()
    with torch.inference_mode():
        x = PREPROCESS.normalise(torch.from_numpy(images))
        expected = np.stack([member(x).numpy() for member in members], axis=1)
        features = np.stack([member.embed(x).numpy() for member in members], axis=1)
    assert logits.shape == (4, 2, 3) and np.allclose(logits, expected, atol=1e-5)
    assert embeddings.shape[:2] == (4, 2) and np.allclose(embeddings, features, atol=1e-5)


def test_the_number_of_batches_at_a_time_leaves_every_bit_alone() -> None:
    images = list(trial_images(30, 32))
    network = _classifier(0)
    found = []
    for workers in (1, 3):
        with TorchEngine(network, PREPROCESS, batch=4, workers=workers) as engine:
            found.append(np.stack([answer.logits for answer in answered(engine, images)]))
    assert np.array_equal(*found)


def test_fewer_images_than_a_batch_are_filled_up_and_keep_their_bits() -> None:
    images = trial_images(8, 32)
    means = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    with TorchEngine(means, PREPROCESS, batch=8) as engine:
        assert engine.size == 8
        full, alone = (engine.submit(some).result()[0] for some in (images, images[5:6]))
    assert alone.shape == full.shape and np.array_equal(alone[0], full[5])


def test_a_consumer_that_stops_early_leaves_no_thread_behind() -> None:
    taken: list[int] = []

    def images() -> Iterator[np.ndarray]:
        for number, image in enumerate(trial_images(64, 32)):
            taken.append(number)
            yield image

    with TorchEngine(_classifier(0), PREPROCESS, batch=2, workers=2) as engine:
        said = answered(engine, images())
        next(said)
        said.close()
        assert len(taken) <= 2 * 2 * 2
    assert not [one for one in threading.enumerate() if one.name.startswith("network")]
