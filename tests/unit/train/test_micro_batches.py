from typing import Any

import pytest
import torch
from torch import nn

from isograft.errors import IsograftError
from isograft.networks.backbones import build_backbone, feature_count
from isograft.ssl.method import build_method
from isograft.train.micro_batches import as_many_as_fit, halved, in_parts, largest_pass, least_part, out_of_memory


def small(norm: bool) -> nn.Module:
    torch.manual_seed(0)
    middle = [nn.BatchNorm2d(4)] if norm else []
    return nn.Sequential(nn.Conv2d(3, 4, 3), *middle, nn.GELU(), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def gradients(method: nn.Module, views: list[torch.Tensor], size: int | None) -> tuple[float, dict[str, torch.Tensor]]:
    method.zero_grad()
    with in_parts(method.by_image(), size):  # type: ignore[operator]
        loss = method(views, torch.arange(len(views[0])) % 2).loss
    loss.backward()
    return float(loss.detach()), {name: one.grad.clone() for name, one in method.named_parameters() if one.grad is not None}


@pytest.mark.parametrize("name", ["simclr", "vicreg", "byol", "supervised"])
@pytest.mark.parametrize("size", [3, 8, 15])
def test_the_gradient_of_a_batch_in_parts_is_that_of_the_whole_batch(name: str, size: int) -> None:
    backbone = small(norm=False)
    backbone[2] = nn.Identity()  # dropout draws for each part
    torch.manual_seed(1)
    method = build_method(name, backbone, 4, **({"classes": 2} if name == "supervised" else {}))
    views = [torch.randn(8, 3, 9, 9) for _ in range(2)]
    loss, whole = gradients(method, views, None)
    told, parts = gradients(method, views, size)
    assert told == pytest.approx(loss, rel=1e-5)
    assert whole.keys() == parts.keys()
    for key, value in whole.items():
        torch.testing.assert_close(parts[key], value, rtol=1e-4, atol=1e-6)


def test_the_gradient_of_a_masked_autoencoder_in_parts_is_that_of_the_whole_batch() -> None:
    torch.manual_seed(0)
    backbone = build_backbone("test_vit", {}, 32)
    method = build_method("mae", backbone, feature_count(backbone))
    views = [torch.randn(6, 3, 32, 32)]
    loss, whole = gradients(method, views, None)
    method.draws.zero_()  # type: ignore[operator, union-attr]
    told, parts = gradients(method, views, 4)
    assert told == pytest.approx(loss, rel=1e-5)
    for key, value in whole.items():
        torch.testing.assert_close(parts[key], value, rtol=1e-3, atol=1e-6)


def test_dropout_of_a_part_is_the_same_on_the_way_back() -> None:
    network, images = small(norm=False), torch.randn(6, 3, 9, 9)
    with in_parts([network], 2):
        torch.manual_seed(3)
        out = network(images)
    out.sum().backward()
    torch.manual_seed(3)
    parts = [network(part) for part in images.tensor_split(3)]
    assert torch.equal(torch.cat(parts), out)


def test_running_statistics_see_every_image_once() -> None:
    network, reference, images = small(norm=True), small(norm=True), torch.randn(6, 3, 9, 9)
    with in_parts([network], 3):
        network(images).sum().backward()
    for part in images.tensor_split(2):
        reference(part)
    assert all(torch.equal(value, reference.state_dict()[name]) for name, value in network.state_dict().items())


def test_a_module_is_as_before_afterwards() -> None:
    network = small(norm=True)
    with in_parts([network], 2):
        pass
    assert "forward" not in vars(network)


def test_no_part_holds_a_single_image() -> None:
    seen: list[int] = []

    class Noting(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(len(images))
            return images

    noting: Any = Noting()
    with in_parts([noting], 4), torch.no_grad():
        noting(torch.zeros(9, 1))
    assert seen == [3, 3, 3]


@pytest.mark.parametrize(
    ("size", "largest", "then"), [(None, 64, 32), (32, 64, 16), (5, 64, 2), (3, 64, None), (2, 64, None), (None, 3, None)]
)
def test_parts_are_halved_down_to_two_images(size: int | None, largest: int, then: int | None) -> None:
    assert halved(size, largest) == then


def test_a_full_memory_is_told_from_other_errors() -> None:
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"))
    assert not out_of_memory(RuntimeError("shapes do not match"))
    assert out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"))


def test_parts_of_one_image_are_small_enough_unless_a_batch_norm_is_trained() -> None:
    assert least_part(small(norm=True)) == 2
    assert least_part(small(norm=True).eval()) == 1
    assert least_part(small(norm=False)) == 1
    assert halved(3, 64, least=1) == 1
    assert halved(1, 64, least=1) is None


def test_all_views_of_one_size_go_through_a_network_at_once() -> None:
    views = [torch.zeros(4, side, side, 3) for side in (32, 32, 16, 16, 16)]
    assert largest_pass(views) == 12


def test_work_is_done_on_as_many_images_as_fit() -> None:
    tried = []

    def work(size: int) -> int:
        tried.append(size)
        if size > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return size

    assert as_many_as_fit(work, 32) == 4
    assert tried == [32, 16, 8, 4]
    with pytest.raises(IsograftError, match="not enough memory for 8 images"):
        as_many_as_fit(work, 32, least=6)
    with pytest.raises(RuntimeError, match="another error"):
        as_many_as_fit(lambda size: (_ for _ in ()).throw(RuntimeError("another error")), 32)


@pytest.mark.parametrize("images", [3, 5, 7, 21])
def test_no_part_of_an_odd_number_is_a_single_image_where_batch_norm_needs_two(images: int) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3)).train()
    seen: list[int] = []
    network[0].register_forward_hook(lambda module, given, out: seen.append(len(out)))
    with in_parts([network], 2):
        network(torch.randn(images, 4)).sum().backward()  # which refuses a single one
    assert min(seen) >= 2 and sum(seen) == images * (2 if len(seen) > 1 else 1)  # parts are seen once more on the way back
