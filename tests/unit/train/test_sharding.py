"""When each of several processes holds a part of the network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from isograft.errors import IsograftError
from isograft.plan import Edits, Plan
from isograft.ssl.momentum import teacher_of
from isograft.train import sharding

CPU = torch.device("cpu")


def network(*more: nn.Module) -> nn.Module:
    """A network of 1,000 weights, and more."""
    return nn.Sequential(nn.Linear(100, 10, bias=False), *more)


@pytest.mark.parametrize(("memory", "chosen"), [(48_000, "replicated"), (47_999, "sharded"), (None, "replicated")])
def test_a_network_is_held_in_parts_when_it_would_fill_more_than_a_third_of_a_gpu(memory: int | None, chosen: str) -> None:
    assert sharding.choose_parallel(network(), memory)[0] == chosen


def test_a_teacher_counts_its_weights_alone() -> None:
    student = network()
    both = nn.ModuleList([student, teacher_of(student)])
    assert [sharding.choose_parallel(both, memory)[0] for memory in (60_000, 59_999)] == ["replicated", "sharded"]
    assert "2e-05 GB for weights, gradients and optimizer" in sharding.choose_parallel(both, 60_000)[1]


def test_a_network_with_batch_norm_is_held_whole() -> None:
    value, reason = sharding.choose_parallel(network(nn.BatchNorm1d(10)), 10_000)
    assert value == "replicated" and "batch norm is not held in parts" in reason


def test_one_process_decides_nothing_and_keeps_what_was_decided() -> None:
    plan = Plan()
    sharding.decide_parallel(plan, network(), CPU)
    assert "parallel" not in plan and not sharding.is_sharded(plan)
    plan.decide("parallel", "sharded", "test")
    assert not sharding.is_sharded(plan)


def test_a_plan_file_decides_but_not_for_batch_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharding, "world_size", lambda: 2)
    plan = Plan(edits=Edits(wanted={"parallel": "sharded"}, origin="plan.json"))
    sharding.decide_parallel(plan, network(), CPU)
    assert sharding.is_sharded(plan)
    with pytest.raises(IsograftError, match=r"has batch norm, which was not tried in parts; choose a vision transformer and --method mae"):
        sharding.decide_parallel(plan, network(nn.BatchNorm1d(10)), CPU)


def test_a_resumed_run_keeps_what_its_plan_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharding, "world_size", lambda: 2)
    plan = Plan.load([{"name": "parallel", "value": "sharded", "reason": "a smaller GPU"}])
    sharding.decide_parallel(plan, network(), CPU)
    assert plan["parallel"] == "sharded"
