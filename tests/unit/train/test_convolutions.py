import pytest
import torch

from isograft.networks.backbones import build_backbone
from isograft.networks.matrix_convolution import MatrixConv2d
from isograft.plan import Edits, Plan
from isograft.train.convolutions import apply_convolutions, decide_convolutions

CPU = torch.device("cpu")


def planned(precision: str = "fp32", edits: Edits | None = None) -> Plan:
    plan = Plan(edits=edits)
    plan.decide("precision", precision, "test")
    return plan


def changed(network: torch.nn.Module) -> bool:
    return any(isinstance(module, MatrixConv2d) for module in network.modules())


@pytest.mark.parametrize(
    ("capability", "precision", "chosen"),
    [
        ("AVX2", "fp32", "products"),
        ("AVX2", "bf16", "library"),
        ("AVX512", "fp32", "dense"),
        ("AVX512", "bf16", "dense"),
        ("DEFAULT", "fp32", "library"),
    ],
)
def test_kernels_are_chosen_by_rule_so_that_the_clock_decides_nothing(
    capability: str, precision: str, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    network, plan = build_backbone("test_resnet", {}, 32), planned(precision)
    decide_convolutions(plan, network, CPU)
    assert plan["convolutions"] == chosen and not changed(network)
    apply_convolutions(plan, network)
    assert changed(network) == (chosen != "library")


def test_a_gpu_a_network_without_such_convolutions_and_a_plan_file_keep_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    for plan, network, device in (
        (planned(), build_backbone("test_resnet", {}, 32), torch.device("cuda")),
        (planned(), build_backbone("test_vit", {}, 32), CPU),
        (planned(edits=Edits(wanted={"convolutions": "library"}, origin="plan.json")), build_backbone("test_resnet", {}, 32), CPU),
    ):
        decide_convolutions(plan, network, device)
        assert plan["convolutions"] == "library"


@pytest.mark.parametrize("kept", ["library", "dense", "products"])
def test_a_resumed_run_keeps_its_kernels_on_another_machine(kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    began = planned()
    began.decide("convolutions", kept, "test")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT" if kept == "products" else "AVX2")
    resumed, network = Plan.load(began.dump()), build_backbone("test_resnet", {}, 32)
    decide_convolutions(resumed, network, CPU)
    apply_convolutions(resumed, network)
    assert resumed["convolutions"] == kept and changed(network) == (kept != "library")


def test_a_plan_of_an_earlier_version_means_the_library() -> None:
    network = build_backbone("test_resnet", {}, 32)
    apply_convolutions(Plan(), network)
    assert not changed(network)
