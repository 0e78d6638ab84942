import numpy as np
import torch
from torch import nn

from isograft.data.preprocess import Preprocess
from isograft.train.statistics import refresh_batch_statistics

PREPROCESS = Preprocess(image_size=8, working_size=12)


def images(count: int = 64) -> list[np.ndarray]:
    return [np.random.default_rng(seed).integers(0, 255, size=(12, 14, 3), dtype=np.uint8) for seed in range(count)]


def test_the_statistics_become_those_of_whole_images() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten())
    network[0].running_mean.fill_(7.0)
    assert refresh_batch_statistics(network, images(), PREPROCESS, 0) == 1
    pixels = torch.from_numpy(np.stack([PREPROCESS.fit(image) for image in images()]))
    batch = PREPROCESS.normalise(pixels)
    torch.testing.assert_close(network[0].running_mean, batch.mean(dim=(0, 2, 3)), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(network[0].running_var, batch.var(dim=(0, 2, 3)), atol=1e-3, rtol=1e-3)


def test_momentum_and_weights_stay_and_the_network_ends_in_eval_mode() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.3), nn.Flatten())
    before = network[0].weight.detach().clone()
    refresh_batch_statistics(network, images(), PREPROCESS, 0)
    assert network[1].momentum == 0.3
    assert torch.equal(network[0].weight, before)
    assert not network.training


def test_a_network_without_batch_norm_is_left_alone() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    assert refresh_batch_statistics(network, images(4), PREPROCESS, 0) == 0
