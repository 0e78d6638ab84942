from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import isograft
from isograft.data.splits import stratified_folds
from isograft.errors import IsograftError
from isograft.inference import answers
from isograft.networks.ensemble import Ensemble

SMALL: dict[str, Any] = {"image_size": 32, "threads": 1, "init": "scratch", "backbone": "test_resnet"}


@pytest.fixture(scope="module")
def ensemble(tiny: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Three networks trained for two passes each."""
    return isograft.finetune(tiny, out=tmp_path_factory.mktemp("folds") / "model", folds=3, epochs=2, cache_dir=cache, **SMALL)


def test_every_class_is_dealt_in_proportion_and_no_group_is_torn(rng: np.random.Generator) -> None:
    groups = rng.integers(0, 60, 300).astype(str).astype(object)
    labels = np.where([int(group) % 3 == 0 for group in groups], "rare", "usual").astype(object)
    fold = stratified_folds(labels, groups, 5, 0)
    assert all(len(set(fold[groups == group])) == 1 for group in set(groups))
    shares = [(labels[fold == number] == "rare").mean() for number in range(5)]
    assert max(shares) - min(shares) < 0.15 and np.bincount(fold).min() > 40


def test_folds_make_one_model_whose_members_answer_together(ensemble: Any) -> None:
    network = ensemble.network()
    assert isinstance(network, Ensemble) and len(network.members) == ensemble.passport.members == 3
    weights = [
        member.backbone.conv1[0].weight if hasattr(member.backbone.conv1, "__getitem__") else next(member.parameters())
        for member in network.members
    ]
    assert not torch.equal(weights[0], weights[1])
    images = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        mean = torch.stack([member(images).softmax(1) for member in network.members]).mean(0)
        torch.testing.assert_close(network(images).softmax(1), mean)


def test_an_ensemble_gives_the_mean_probability_of_its_members(ensemble: Any, rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    network = ensemble.network()
    (together,) = answers(network, ensemble.preprocess, [image])
    alone = [next(iter(answers(member, ensemble.preprocess, [image]))) for member in network.members]
    np.testing.assert_allclose(together.probabilities(), np.mean([one.probabilities() for one in alone], axis=0), atol=1e-6)
    assert together.logits.shape == (3, 2) and together.embeddings.shape == (3, ensemble.passport.backbone.features)


def test_every_training_image_is_held_out_once_and_nothing_of_the_test_is_seen(ensemble: Any) -> None:
    split = pl.read_parquet(ensemble.folder / "split.parquet")
    cases = pl.read_parquet(ensemble.folder / "cases.parquet")
    assert set(split["split"]) == {"train", "test"}
    assert sorted(cases["id"]) == sorted(split.filter(pl.col("split") == "train")["id"])
    assert set(cases["fold"]) == {0, 1, 2}
    assert len(ensemble.seen()) == len(cases)


def test_the_history_tells_the_folds_apart(ensemble: Any) -> None:
    history = pl.read_csv(ensemble.folder / "history.csv")
    assert set(history["fold"]) == {0, 1, 2} and history["train_loss"].null_count() == 0
    assert not (ensemble.folder / "members").exists()


def test_a_run_stopped_between_folds_ends_in_the_same_bytes(
    ensemble: Any, tiny: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from isograft.train import finetune as module

    real = module.train_member

    def breaks(run: Any, job: Any, number: int) -> Any:
        if number == 2:
            raise KeyboardInterrupt
        return real(run, job, number)

    options: dict[str, Any] = {"folds": 3, "epochs": 2, "cache_dir": cache, **SMALL}
    monkeypatch.setattr(module, "train_member", breaks)
    with pytest.raises(KeyboardInterrupt):
        isograft.finetune(tiny, out=tmp_path / "model", **options)
    monkeypatch.setattr(module, "train_member", real)
    resumed = isograft.finetune(tiny, out=tmp_path / "model", resume=True, **options)
    assert resumed.content_hash == ensemble.content_hash


def test_a_training_does_not_start_from_an_ensemble(ensemble: Any, tiny: Path, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(IsograftError, match="ensemble of 3 networks"):
        isograft.finetune(tiny, out=tmp_path / "next", init=str(ensemble.folder), epochs=1, cache_dir=cache)


def test_more_folds_than_patients_are_refused(tiny: Path, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(IsograftError, match=r"--folds 12 cannot be filled: .* has 8 groups .* use fewer folds"):
        isograft.finetune(tiny, out=tmp_path / "m", folds=12, labels_per_class=4, epochs=1, cache_dir=cache, **SMALL)


def test_the_only_group_of_a_class_is_never_held_out(rng: np.random.Generator) -> None:
    groups = np.array([f"g{number // 2}" for number in range(80)], dtype=object)
    labels = np.where(np.arange(80) < 2, "unique", np.where(np.arange(80) % 4 < 2, "a", "b")).astype(object)
    fold = stratified_folds(labels, groups, 5, 0)
    assert set(fold[:2]) == {-1} and set(fold[2:]) == {0, 1, 2, 3, 4}
    for number in range(5):
        assert set(labels[fold != number]) == {"unique", "a", "b"}


@pytest.mark.parametrize("option", [{"val": "other"}, {"val_fraction": 0.2}])
def test_validation_has_no_place_beside_folds(option: dict[str, Any], tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(IsograftError, match="would be unused with --folds"):
        isograft.finetune(tiny, out=tmp_path / "m", folds=3, **option, **SMALL)


def test_a_probe_of_folds_solves_one_head_per_fold(backbone: Path, tiny: Path, cache: Path, tmp_path: Path) -> None:
    model = isograft.finetune(tiny, out=tmp_path / "m", init=str(backbone), strategy="probe", folds=4, cache_dir=cache, threads=1)
    heads = {name: tensor for name, tensor in model.tensors().items() if name.endswith("head.weight")}
    assert len(heads) == 4 and not torch.equal(heads["members.0.head.weight"], heads["members.1.head.weight"])
    bodies = [tensor for name, tensor in model.tensors().items() if name.endswith("backbone.conv1.weight")]
    assert all(torch.equal(bodies[0], other) for other in bodies)
