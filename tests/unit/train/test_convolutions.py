import pytest
import torch

from isograft.networks.backbones import build_backbone
from isograft.networks.matrix_convolution import MatrixConv2d
from isograft.plan import Edits, Plan
from isograft.ssl.method import build_method
from isograft.train import convolutions
from isograft.train.convolutions import apply_convolutions, decide_convolutions, measured_gain

CPU = torch.device("cpu")


def planned(precision: str = "fp32", edits: Edits | None = None) -> Plan:
    plan = Plan(edits=edits)
    for name, value in {"precision": precision, "image_size": 32, "resolution": [[16, 0.8], [32, 0.2]]}.items():
        plan.decide(name, value, "test")
    return plan


def changed(network: torch.nn.Module) -> bool:
    return any(type(module) is MatrixConv2d for module in network.modules())


def test_on_avx2_products_are_chosen_by_rule_and_the_network_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr(convolutions, "measured_gain", lambda *args, **options: pytest.fail("nothing needs measuring"))
    network, plan = build_backbone("test_resnet", {}, 32), planned()
    decide_convolutions(plan, network, CPU)
    assert plan["convolutions"] == "products" and changed(network)


@pytest.mark.parametrize(("gain", "chosen"), [(1.6, "products"), (1.1, "library"), (0.5, "library")])
def test_elsewhere_products_must_be_clearly_faster_at_the_size_that_most_steps_see(
    gain: float, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(convolutions, "measured_gain", lambda backbone, size, autocast: (sizes.append(size), gain)[1])
    method = build_method("simclr", build_backbone("test_resnet", {}, 32), 64)
    plan = planned()
    decide_convolutions(plan, method, CPU)
    assert (plan["convolutions"], changed(method), sizes) == (chosen, chosen == "products", [16])


def test_a_gpu_a_network_without_such_convolutions_and_a_plan_file_keep_the_library() -> None:
    for plan, network, device in (
        (planned(), build_backbone("test_resnet", {}, 32), torch.device("cuda")),
        (planned(), build_backbone("test_vit", {}, 32), CPU),
        (planned(edits=Edits(wanted={"convolutions": "library"}, origin="plan.json")), build_backbone("test_resnet", {}, 32), CPU),
    ):
        decide_convolutions(plan, network, device)
        assert plan["convolutions"] == "library" and not changed(network)


def test_a_plan_of_an_earlier_version_means_the_library() -> None:
    network = build_backbone("test_resnet", {}, 32)
    apply_convolutions(Plan(), network)
    assert not changed(network)


@pytest.mark.parametrize("autocast", [False, True])
def test_the_measurement_gives_a_ratio_of_speeds(autocast: bool) -> None:
    assert measured_gain(build_backbone("test_resnet", {}, 32), 32, autocast=autocast) > 0
