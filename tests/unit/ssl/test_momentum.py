"""Teachers follow their students as lightly's do."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightly.models.utils import update_momentum
from lightly.utils.scheduler import cosine_schedule
from timm.layers import DropPath
from torch import nn

from isograft.ssl.momentum import follow, momentum_at, teacher_of


def test_following_agrees_with_lightly() -> None:
    torch.manual_seed(0)
    student, teacher = nn.Linear(4, 3), nn.Linear(4, 3)
    oracle = copy.deepcopy(teacher)
    follow(teacher, student, 0.97)
    update_momentum(student, oracle, 0.97)
    torch.testing.assert_close(teacher.state_dict(), oracle.state_dict())


@pytest.mark.parametrize("step", [0, 1, 13, 50, 99])
def test_the_schedule_agrees_with_lightly(step: int) -> None:
    assert momentum_at(step / 99, 0.99) == pytest.approx(cosine_schedule(step, 100, 0.99, 1.0), abs=1e-12)


@given(base=st.floats(0, 1), first=st.floats(0, 1), second=st.floats(0, 1))
def test_momentum_rises_from_its_base_to_one(base: float, first: float, second: float) -> None:
    early, late = sorted((first, second))
    assert base - 1e-12 <= momentum_at(early, base) <= momentum_at(late, base) + 1e-12 <= 1 + 2e-12


def test_progress_beyond_the_end_is_the_end() -> None:
    assert momentum_at(1.2, 0.9) == 1.0


def test_a_teacher_in_training_mode_drops_nothing() -> None:
    student = nn.Sequential(nn.Dropout(0.5), DropPath(0.5))
    teacher = teacher_of(student).train()
    x = torch.ones(64, 8)
    assert torch.equal(teacher(x), x)
    assert not torch.equal(student(x), x)
    assert student[0].p == 0.5
