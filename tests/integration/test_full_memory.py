"""A batch that does not fit into memory: it is computed in parts, the model says so, and a resumed run ends in the same bytes."""

import signal
from pathlib import Path
from typing import Any

import pytest
from tests.integration.faults import STORIES, Runs, decision, room_for, rows, signalled, weights

from isograft.errors import IsograftError, RunInterrupted
from isograft.train import pretrain_costs
from isograft.train.pretrain_plan import Costs


@pytest.mark.parametrize("story", STORIES)
def test_a_batch_that_does_not_fit_is_computed_in_parts_and_screen_plan_and_history_say_so(
    story: str, train: Runs, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    seen = room_for(monkeypatch, most=5, from_step=2, in_backward=True)
    model = train(story, "model")
    largest = 32 if story == "pretrain" else 16
    names = ["micro_batch_fold_1", "micro_batch_fold_2"] if story == "folds" else ["micro_batch"]
    steps = {"pretrain": [[2, 16], [2, 8], [2, 4]]}.get(story, [[2, 8], [2, 4]])
    assert [decision(model, name)["value"] for name in names] == [steps] * len(names)
    told = f"memory was full at step 2: from there on the network sees 4 of a batch's {largest} pictures at a time"
    assert told == decision(model, names[-1])["reason"]
    assert told in " ".join(capfd.readouterr().err.split())
    assert [float(row["micro_batch"]) for row in rows(model, "change")] == [size for _, size in steps] * len(names)
    assert decision(model, "batch_size")["value"] == 16
    assert {largest, 4} <= {*seen}
    assert not (model / "checkpoints").exists()


@pytest.mark.parametrize("story", STORIES)
def test_a_run_in_parts_that_is_stopped_goes_on_in_parts_to_the_same_bytes_on_a_machine_with_more_memory(
    story: str, train: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        room_for(patch, most=5, from_step=2)
        whole = train(story, "whole")
    with monkeypatch.context() as patch:
        room_for(patch, most=5, from_step=2)
        signalled(patch, story, 4, signal.SIGINT)
        with pytest.raises(RunInterrupted):
            train(story, "stopped")
    if story == "folds":  # the other network has changes of its own
        room_for(monkeypatch, most=5, from_step=2)
    stopped = train(story, "stopped", resume=True)
    assert weights(stopped) == weights(whole)
    assert rows(stopped, "change") == rows(whole, "change")


def test_a_run_with_the_plan_of_one_in_parts_ends_in_its_bytes(train: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        room_for(patch, most=5, from_step=2)
        first = train("finetune", "first")
    again = train("finetune", "again", plan=first / "run.json")
    assert weights(again) == weights(first)
    assert decision(again, "micro_batch")["value"] == [[2, 8], [2, 4]]


def test_a_plan_file_may_ask_for_parts_from_the_start(train: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plan.json").write_text('{"micro_batch": [[0, 4]]}')
    seen = room_for(monkeypatch, most=16)
    train("finetune", "model", plan=tmp_path / "plan.json")
    assert max(seen) == 4
    (tmp_path / "plan.json").write_text('{"micro_batch": [[0, 0]]}')
    with pytest.raises(IsograftError, match="sets micro_batch to"):
        train("finetune", "other", plan=tmp_path / "plan.json")


def test_memory_that_is_too_small_for_two_images_is_one_sentence(train: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    room_for(monkeypatch, most=1)
    with pytest.raises(IsograftError, match=r"not enough memory for 2 images at step 0; choose a smaller --image-size or --backbone"):
        train("finetune", "model")


def test_what_is_measured_before_a_training_is_measured_in_parts_too(train: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[Costs] = []
    measure = pretrain_costs.measure_costs

    def noted(*given: Any) -> Costs:
        with monkeypatch.context() as patch:
            seen = room_for(patch, most=5)
            measured.append(measure(*given))
            assert seen[:4] == [32, 16, 8, 4]
        return measured[0]

    monkeypatch.setattr("isograft.train.pretrain.measure_costs", noted)
    train("pretrain", "model", max_time="300s", epochs=1)
    assert measured[0].watch > 0


def test_one_of_several_processes_ends_and_goes_on_in_parts_when_it_is_started_again(train: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    room_for(monkeypatch, most=5)
    with monkeypatch.context() as several:
        several.setattr("isograft.train.accumulation.world_size", lambda: 2)
        with pytest.raises(IsograftError, match=r"full in process 0 at step 0: with --resume the network sees 8 of its 16 pictures"):
            train("finetune", "model")
        with pytest.raises(IsograftError, match=r"sees 4 of its 16 pictures"):
            train("finetune", "model", resume=True)
        model = train("finetune", "model", resume=True)
    assert decision(model, "micro_batch")["value"] == [[0, 8], [0, 4]]
    assert not (model / "checkpoints").exists()


def test_an_error_that_is_no_full_memory_passes(train: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr("isograft.train.finetune_module.FinetuneModule.training_step", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        train("finetune", "model")
