import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import isograft
from isograft.errors import IsograftError
from isograft.ssl.simclr import SimCLR
from isograft.train.pretrain import CLIP
from isograft.train.pretrain_module import PretrainModule

SMALL: dict[str, Any] = {"backbone": "test_resnet", "image_size": 32, "epochs": 1, "batch_size": 16, "threads": 1, "precision": "fp32"}


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def plan(folder: Path) -> dict[str, Any]:
    return {entry["name"]: entry["value"] for entry in json.loads((folder / "model.json").read_text())["plan"]}


@pytest.mark.parametrize("method", ["simclr", "vicreg", "byol", "dino", "supervised"])
def test_every_method_trains_and_writes_a_model_that_opens(method: str, tiny: Path, cache: Path, tmp_path: Path) -> None:
    model = isograft.pretrain(tiny, out=tmp_path / "model", method=method, cache_dir=cache, **SMALL)
    again = isograft.Model.load(tmp_path / "model")
    assert again.content_hash == model.content_hash
    assert again.passport.method == method
    assert again.network()(torch.zeros(2, 3, 32, 32)).shape == (2, again.passport.backbone.features)
    assert len(again.seen()) == 48
    assert not (tmp_path / "model" / "checkpoints").exists()


def test_mae_trains_a_vision_transformer(tiny: Path, cache: Path, tmp_path: Path) -> None:
    model = isograft.pretrain(tiny, out=tmp_path / "model", method="mae", cache_dir=cache, **{**SMALL, "backbone": "test_vit"})
    assert model.passport.method == "mae"


def test_mae_refuses_a_convolutional_network(tiny: Path, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(IsograftError, match=r"(?i)mae.*vi"):
        isograft.pretrain(tiny, out=tmp_path / "model", method="mae", cache_dir=cache, **SMALL)
    assert not (tmp_path / "model").exists()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tiny: Path, cache: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        isograft.pretrain(tiny, out=tmp_path / name, seed=seed, cache_dir=cache, **SMALL)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert weights(tmp_path / "a") != weights(tmp_path / "c")


def test_the_number_of_loader_threads_does_not_change_the_bytes(tiny: Path, cache: Path, tmp_path: Path) -> None:
    for threads in (1, 3):
        isograft.pretrain(tiny, out=tmp_path / str(threads), cache_dir=cache, **{**SMALL, "threads": threads})
    assert weights(tmp_path / "1") == weights(tmp_path / "3")


def test_the_history_holds_loss_rate_and_the_state_of_the_embedding(backbone: Path) -> None:
    text = (backbone / "history.csv").read_text()
    header = text.splitlines()[0].split(",")
    assert {"step", "epoch", "phase", "loss", "lr", "images_per_second", "embedding_std", "effective_rank", "knn_macro_f1"} <= set(header)
    assert ",monitor," in text


def test_a_time_limit_decides_the_number_of_steps(tiny: Path, cache: Path, tmp_path: Path) -> None:
    isograft.pretrain(tiny, out=tmp_path / "model", max_time="10s", cache_dir=cache, **{**SMALL, "epochs": 10_000})
    decided = plan(tmp_path / "model")
    assert decided["total_steps"] < 10_000
    assert decided["pace"][-1] == [decided["total_steps"], 1.0]


def test_a_time_limit_too_short_to_begin_is_refused_with_the_least_that_would_do(tiny: Path, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(IsograftError, match=r"are too short: getting ready took \d+ s here.*give --max-time \d+s or more"):
        isograft.pretrain(tiny, out=tmp_path / "model", max_time=0.01, cache_dir=cache, **{**SMALL, "epochs": "auto"})
    assert not (tmp_path / "model").exists()


def test_a_loss_that_is_not_a_number_stops_the_run_and_says_what_to_do(
    tiny: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = SimCLR.step

    def broken(self: SimCLR, *given: Any) -> Any:
        output = step(self, *given)
        return type(output)(output.loss * float("nan"), output.embedding, output.terms)

    monkeypatch.setattr(SimCLR, "step", broken)
    with pytest.raises(IsograftError, match=r"loss became nan at step 0.*lower --lr"):
        isograft.pretrain(tiny, out=tmp_path / "model", cache_dir=cache, **SMALL)


def test_a_collapse_stops_the_run_and_keeps_the_last_good_state(
    tiny: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def collapsing(std: float, rank: float, dim: int) -> str | None:
        calls.append(1)
        return "all images get the same embedding" if len(calls) == 2 else None

    monkeypatch.setattr("isograft.train.monitoring.collapsed", collapsing)
    with pytest.raises(IsograftError, match=r"collapsed at step 2: all images get the same embedding.*last good state is kept"):
        isograft.pretrain(tiny, out=tmp_path / "model", cache_dir=cache, **SMALL)
    assert (tmp_path / "model" / "checkpoints" / "last.ckpt").exists()
    assert not (tmp_path / "model" / "model.json").exists()


def test_a_pool_of_one_patient_trains_without_the_probe(tiny: Path, cache: Path, tmp_path: Path) -> None:
    rows = "".join(f"{path.relative_to(tiny)},{path.parent.name},same patient\n" for path in sorted(tiny.rglob("*.png")))
    (tmp_path / "rows.csv").write_text("file,label,group\n" + rows)
    isograft.pretrain(tiny, out=tmp_path / "model", labels=tmp_path / "rows.csv", cache_dir=cache, **SMALL)
    assert "knn_macro_f1" not in (tmp_path / "model" / "history.csv").read_text()


def test_a_full_disk_at_a_checkpoint_is_one_sentence(tiny: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("isograft.train.callbacks.sync", no_room)
    with pytest.raises(IsograftError, match=r"cannot save the state .*No space left on device.*--resume"):
        isograft.pretrain(tiny, out=tmp_path / "model", cache_dir=cache, **{**SMALL, "epochs": 4})


def test_continuing_from_a_model_keeps_its_lineage(backbone: Path, tiny: Path, cache: Path, tmp_path: Path) -> None:
    model = isograft.pretrain(tiny, out=tmp_path / "model", init=str(backbone), epochs=1, batch_size=16, cache_dir=cache, threads=1)
    assert model.passport.parents[0]["content_hash"] == isograft.Model.load(backbone).content_hash
    assert plan(tmp_path / "model")["image_size"] == 32


def test_too_small_a_pool_and_too_large_a_batch_are_refused(tiny: Path, image_tree: Path, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(IsograftError, match="--batch-size 500 is more than the 48 usable images"):
        isograft.pretrain(tiny, out=tmp_path / "model", cache_dir=cache, **{**SMALL, "batch_size": 500})
    for path in list(image_tree.rglob("*.png"))[5:]:
        path.unlink()
    with pytest.raises(IsograftError, match="holds 5 usable images; pretraining needs at least 8"):
        isograft.pretrain(image_tree, out=tmp_path / "model", cache_dir=cache, **SMALL)


def test_an_existing_folder_is_refused(backbone: Path, tiny: Path, cache: Path) -> None:
    with pytest.raises(IsograftError, match="already exists"):
        isograft.pretrain(tiny, out=backbone, cache_dir=cache, **SMALL)


def test_supervised_needs_labels_and_says_how_to_give_them(tiny: Path, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(IsograftError, match="--label-column"):
        isograft.pretrain(tiny / "spot", out=tmp_path / "model", method="supervised", cache_dir=cache, **SMALL)


@pytest.mark.parametrize("method", ["simclr", "byol", "dino"])
def test_a_start_from_weights_keeps_its_batch_statistics(method: str, backbone: Path, tiny: Path, cache: Path, tmp_path: Path) -> None:
    isograft.pretrain(tiny, out=tmp_path / "model", init=str(backbone), method=method, epochs=1, batch_size=16, cache_dir=cache, threads=1)
    before, after = (isograft.Model.load(folder).network().state_dict() for folder in (backbone, tmp_path / "model"))
    statistics = [name for name in before if "running_" in name]
    assert statistics
    assert all(torch.equal(before[name], after[name]) for name in statistics)
    assert not all(torch.equal(before[name], after[name]) for name in before)


def test_the_parts_of_a_loss_stand_in_the_history(tiny: Path, cache: Path, tmp_path: Path) -> None:
    isograft.pretrain(tiny, out=tmp_path / "model", method="vicreg", cache_dir=cache, **SMALL)
    header = (tmp_path / "model" / "history.csv").read_text().splitlines()[0].split(",")
    assert {"loss", "invariance", "variance", "covariance"} <= set(header)


def test_weights_that_are_no_numbers_never_replace_a_good_state(
    tiny: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_step = SimCLR.after_step

    def spoil(self: SimCLR, progress: float) -> None:
        after_step(self, progress)
        if progress > 0.6:
            next(self.backbone.parameters()).data.fill_(float("nan"))

    monkeypatch.setattr(SimCLR, "after_step", spoil)
    with pytest.raises(IsograftError, match="holds values that are no numbers at step 8, after the rates were halved 2 times"):
        isograft.pretrain(tiny, out=tmp_path / "model", cache_dir=cache, **{**SMALL, "epochs": 4})
    state = torch.load(tmp_path / "model" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(tensor.isfinite().all() for tensor in state.values())


def test_a_plan_file_replaces_decisions_and_says_so(tiny: Path, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(json.dumps({"weight_decay": 0.2, "resolution": [[32, 1.0]], "lr": 1e-4}))
    isograft.pretrain(tiny, out=tmp_path / "model", plan=tmp_path / "plan.json", cache_dir=cache, **SMALL)
    decided = plan(tmp_path / "model")
    assert (decided["weight_decay"], decided["resolution"], decided["lr"]) == (0.2, [[32, 1.0]], 1e-4)
    (tmp_path / "plan.json").write_text(json.dumps({"weight_decai": 0.2}))
    with pytest.raises(IsograftError, match="did you mean weight_decay"):
        isograft.pretrain(tiny, out=tmp_path / "other", plan=tmp_path / "plan.json", cache_dir=cache, **SMALL)


def test_a_resumed_run_keeps_the_edits_of_its_plan(tiny: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edits = tmp_path / "plan.json"
    edits.write_text(json.dumps({"weight_decay": 0.2, "layer_decay": 0.5}))
    isograft.pretrain(tiny, out=tmp_path / "whole", plan=edits, cache_dir=cache, **SMALL)
    monkeypatch.setattr("isograft.train.pretrain.save_backbone", stop)
    with pytest.raises(KeyboardInterrupt):
        isograft.pretrain(tiny, out=tmp_path / "model", plan=edits, cache_dir=cache, **SMALL)
    monkeypatch.undo()
    isograft.pretrain(tiny, out=tmp_path / "model", plan=edits, cache_dir=cache, resume=True, **SMALL)
    assert plan(tmp_path / "model")["weight_decay"] == 0.2
    assert weights(tmp_path / "model") == weights(tmp_path / "whole")


def test_a_run_with_the_plan_of_another_gives_its_bytes(tiny: Path, cache: Path, tmp_path: Path) -> None:
    asked = {**SMALL, "epochs": "auto"}
    isograft.pretrain(tiny, out=tmp_path / "a", max_time="8s", cache_dir=cache, **asked)
    isograft.pretrain(tiny, out=tmp_path / "b", plan=tmp_path / "a" / "run.json", cache_dir=cache, **asked)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


def test_other_bytes_in_a_weights_file_stop_a_resume(
    backbone: Path, tiny: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "start.safetensors"
    file.write_bytes((backbone / "model.safetensors").read_bytes())
    asked: dict[str, Any] = {"out": tmp_path / "model", "init": file, "cache_dir": cache, **SMALL}
    monkeypatch.setattr("isograft.train.pretrain.save_backbone", stop)
    with pytest.raises(KeyboardInterrupt):
        isograft.pretrain(tiny, **asked)
    from safetensors.torch import load_file, save_file

    save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file)
    with pytest.raises(IsograftError, match="the starting weights changed since the run"):
        isograft.pretrain(tiny, resume=True, **asked)


def stop(*_: Any) -> None:
    raise KeyboardInterrupt


def test_gradients_are_clipped_by_their_common_norm(tiny: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    step = SimCLR.step

    def steep(self: SimCLR, *arguments: Any) -> Any:
        output = step(self, *arguments)
        return replace(output, loss=1e4 * output.loss)

    def look(self: PretrainModule, optimizer: torch.optim.Optimizer) -> None:
        gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        if gradients:
            norms.append(float(torch.stack([gradient.norm() for gradient in gradients]).norm()))

    monkeypatch.setattr(SimCLR, "step", steep)
    monkeypatch.setattr(PretrainModule, "on_before_zero_grad", look)
    isograft.pretrain(tiny, out=tmp_path / "model", cache_dir=cache, **SMALL)
    clipped = [norm for norm in norms if norm > 0]
    assert clipped
    assert max(clipped) == pytest.approx(CLIP, rel=1e-3)


@pytest.mark.parametrize(
    "edits", [{"views_on": "device"}, {"convolutions": "library"}, {"convolutions": "dense"}, {"convolutions": "products"}], ids=str
)
def test_where_views_are_rendered_and_what_trains_convolutions_may_be_chosen_and_is_repeatable(
    edits: dict[str, str], tiny: Path, cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "plan.json").write_text(json.dumps(edits))
    for name in "ab":
        isograft.pretrain(tiny, out=tmp_path / name, plan=tmp_path / "plan.json", cache_dir=cache, **SMALL)
    assert edits.items() <= plan(tmp_path / "a").items()
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


def test_a_place_of_rendering_that_there_is_not_is_refused(tiny: Path, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"views_on": "moon"}')
    with pytest.raises(IsograftError, match="views_on"):
        isograft.pretrain(tiny, out=tmp_path / "a", plan=tmp_path / "plan.json", cache_dir=cache, **SMALL)
