"""How answers are taken: what a passport keeps of it, and what `predict` and `evaluate` say with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest

import isograft
from isograft.assess.calibration import fit_temperature, log_loss
from isograft.errors import IsograftError
from isograft.inference import Answer, softmax
from isograft.judgement import EMPTY, SETS, Judgement, judge
from isograft.predictions import UNSURE, judged
from isograft.train.evidence import Embedded, Evidence

CLASSES = ["nevus", "melanoma"]


def evidence(rng: np.random.Generator, n: int = 200, **changes: Any) -> Evidence:
    """Held-out answers of a model that is three times too sure, and embeddings around one direction.

    The margin of a class is N(±1.5, 1.5²), so its log-odds are 4/3 of the margin; the model says 4 times the margin.
    """
    labels = rng.integers(0, 2, n)
    margin = rng.normal(size=n) * 1.5 + (2 * labels - 1) * 1.5
    logits = np.column_stack([-margin, margin]).astype(np.float32) * 2
    near = np.array([1.0, 0, 0]) + 0.1 * rng.normal(size=(2 * n, 3))
    cases, held = near[:n].astype(np.float32), near[n:].astype(np.float32)
    given = {
        "case_rows": np.arange(n),
        "embedded": [Embedded(cases, [(cases, held)])],
        "fitted_on": "the 200 images of a test",
        "logits": logits,
        "labels": labels,
        "groups": np.arange(n).astype(str),
        "ids": np.array([f"{row:016x}" for row in range(n)]),
    }
    return Evidence(**(given | changes))


def answers(rng: np.random.Generator, n: int, direction: tuple[float, ...] = (1.0, 0, 0)) -> list[Answer]:
    found = []
    for _ in range(n):
        near = (np.array(direction) + 0.1 * rng.normal(size=3)).astype(np.float32)
        found.append(Answer(rng.normal(size=(1, 2)).astype(np.float32) * 4, near[None]))
    return found


class _Cases:
    """Cases of one network that was trained on all of them."""

    def __init__(self, embeddings: np.ndarray) -> None:
        self.embeddings = embeddings[:, None]

    def trained(self, member: int) -> np.ndarray:
        return np.ones(len(self.embeddings), bool)


@pytest.fixture
def fitted(rng: np.random.Generator) -> tuple[dict[str, Any], Judgement]:
    made = evidence(rng)
    record = judge(made, CLASSES, ["screening: melanoma sensitivity >= 0.95"], 0.9)
    return record, Judgement.of(json.loads(json.dumps(record)), _Cases(made.embedded[0].cases))  # type: ignore[arg-type]


def test_the_temperature_is_that_of_the_held_out_answers(fitted: tuple[dict[str, Any], Judgement], rng: np.random.Generator) -> None:
    record, judgement = fitted
    made = evidence(np.random.default_rng(0))
    assert record["temperature"] == pytest.approx(3.0, rel=0.35) and judgement.temperature == record["temperature"]
    assert record["figures"]["calibrated"]["log_loss"] < record["figures"]["uncalibrated"]["log_loss"]
    again = judge(made, CLASSES, [], 0.9)
    assert again["temperature"] == fit_temperature(made.labels, softmax(made.logits))
    p = softmax(made.logits.astype(float) / again["temperature"])
    assert again["figures"]["calibrated"]["log_loss"] == pytest.approx(log_loss(made.labels, p))


def test_probabilities_are_softmaxes_at_the_temperature(fitted: tuple[dict[str, Any], Judgement], rng: np.random.Generator) -> None:
    _, judgement = fitted
    one = Answer(rng.normal(size=(3, 2)).astype(np.float32), np.zeros((1, 3), np.float32))
    each = softmax(one.logits.astype(float) / judgement.temperature)
    np.testing.assert_allclose(judgement.probabilities([one])[0], each.mean(0))
    np.testing.assert_allclose(judgement.votes([one])[0], np.median(each, axis=0))


def test_sets_hold_the_true_class_of_new_images_about_as_often_as_promised(fitted: tuple[dict[str, Any], Judgement]) -> None:
    _, judgement = fitted
    new = evidence(np.random.default_rng(99), n=4000)
    p = softmax(new.logits.astype(float) / judgement.temperature)
    for rule in judgement.sets.values():
        held = rule.sets(p, new.ids.tolist())
        assert abs(held[np.arange(4000), new.labels].mean() - 0.9) < 0.06


def test_the_columns_say_what_the_sets_and_distances_say(fitted: tuple[dict[str, Any], Judgement], rng: np.random.Generator) -> None:
    _, judgement = fitted
    said = [*answers(rng, 30), None, *answers(rng, 10, (0.0, 1.0, 0.0))]
    ids = [f"{row:016x}" for row in range(41)]
    table = judged(said, ids, judgement, CLASSES)
    assert table.columns == ["predicted", "p_nevus", "p_melanoma", *UNSURE, "screening"]
    assert table.row(30) == (None,) * 8
    told = table.drop_nulls()
    assert told["out_of_domain"].to_list() == (told["domain_distance"] > 1).to_list()
    assert told["out_of_domain"][:30].sum() <= 3 and told["out_of_domain"][30:].all()
    several = told["prediction_set"].str.split("|").list.len() != 1
    empty = told["prediction_set"] == EMPTY
    assert told["abstain"].to_list() == (several | empty | told["out_of_domain"]).to_list()
    threshold = next(point.threshold for point in judgement.points if point.name == "screening")
    assert told["screening"].to_list() == (told["p_melanoma"] >= threshold).to_list()
    held = judgement.sets[SETS].sets(told.select("p_nevus", "p_melanoma").to_numpy(), [*ids[:30], *ids[31:]])
    assert told["prediction_set"].to_list() == ["|".join(np.array(CLASSES)[row]) or EMPTY for row in held]


def test_an_image_has_the_same_columns_whatever_stands_beside_it(
    fitted: tuple[dict[str, Any], Judgement], rng: np.random.Generator
) -> None:
    _, judgement = fitted
    said, ids = answers(rng, 300), [f"{row:016x}" for row in range(300)]
    together = judged(said, ids, judgement, CLASSES)
    apart = pl.concat([judged([one], [key], judgement, CLASSES) for one, key in zip(said, ids, strict=True)])
    assert together.equals(apart)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"missing": "no labeled image was kept"}, "no labeled image was kept"),
        ({"n": 12}, "only 12 labeled images of 12 groups"),
        ({"n": 40, "groups": np.repeat(["p", "q"], 20)}, "only 40 labeled images of 2 groups"),
        ({"n": 40, "labels": np.zeros(40, int)}, "are of one class"),
    ],
)
def test_without_enough_held_out_images_nothing_is_claimed(changes: dict[str, Any], why: str, rng: np.random.Generator) -> None:
    record = judge(evidence(rng, **changes), CLASSES, [], 0.9)
    judgement = Judgement.of(record, None)
    assert why in judgement.missing and judgement.temperature == 1
    table = judged(answers(rng, 3), ["a", "b", "c"], judgement, CLASSES)
    assert all(table[name].null_count() == 3 for name in UNSURE) and table["p_nevus"].null_count() == 0


def test_without_the_cases_there_is_no_distance_but_all_the_rest(rng: np.random.Generator) -> None:
    judgement = Judgement.of(judge(evidence(rng), CLASSES, [], 0.9), None)
    table = judged(answers(rng, 3), ["a", "b", "c"], judgement, CLASSES)
    assert table["domain_distance"].null_count() == 3 and table["prediction_set"].null_count() == 0 == table["abstain"].null_count()


def test_a_passport_of_an_earlier_version_says_so() -> None:
    assert "earlier version" in Judgement.of({}, None).missing


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A probe on random features of spots and stripes, 60 of each."""
    root = tmp_path_factory.mktemp("judged")
    for kind, name in enumerate(CLASSES):
        (root / "images" / name).mkdir(parents=True)
        for seed in range(60):
            draw = np.random.default_rng(100 * kind + seed)
            image = draw.normal(150, 25, size=(40, 40, 3))
            image[:, kind * 4 :: 8] -= draw.uniform(0, 50 * kind + 10)
            cv2.imwrite(str(root / "images" / name / f"{seed}.png"), image.clip(0, 255).astype(np.uint8))
    options: dict[str, Any] = {"init": "scratch", "backbone": "test_resnet", "image_size": 32, "threads": 1, "cache_dir": root / "cache"}
    isograft.finetune(
        root / "images", out=root / "model", epochs=2, val_fraction=0.3, operating_point="screening: melanoma sensitivity >= 0.9", **options
    )
    return root / "model"


def test_a_finetuned_model_carries_its_judgement_and_predict_and_evaluate_agree(classifier: Path, tmp_path: Path) -> None:
    model = isograft.Model.load(classifier)
    judgement = model.judgement()
    assert not judgement.missing and "validation split" in judgement.fitted_on
    metrics = isograft.evaluate(classifier, out=tmp_path / "e")
    evaluated = pl.read_parquet(tmp_path / "e" / "predictions.parquet")
    predicted = isograft.predict(classifier, classifier.parent / "images", out=tmp_path / "p.parquet")
    shared = ["id", "predicted", "p_melanoma", "p_nevus", *UNSURE, "screening"]
    both = evaluated.select(shared).join(predicted.select(shared), on="id", suffix="_again")
    assert len(both) == len(evaluated)
    assert all(both[name].equals(both[f"{name}_again"].alias(name), null_equal=True) for name in shared[1:])
    assert metrics["calibration"]["temperature"] == judgement.temperature
    assert metrics["abstained"]["images"] == evaluated["abstain"].sum()
    (point,) = (one for one in metrics["operating_points"] if one["name"] == "screening")
    assert point["test"]["tp"] + point["test"]["fp"] == evaluated["screening"].sum()


def test_the_held_out_answers_are_those_of_predict(classifier: Path, tmp_path: Path) -> None:
    held = pl.read_parquet(classifier / "held_out.parquet")
    judgement = isograft.Model.load(classifier).judgement()
    split = pl.read_parquet(classifier / "split.parquet")
    assert sorted(held["id"]) == sorted(split.filter(pl.col("split") == "val")["id"])
    logits = held.select("logit_melanoma", "logit_nevus").to_numpy()
    p = softmax(logits.astype(float) / judgement.temperature)
    predicted = isograft.predict(classifier, classifier.parent / "images", out=tmp_path / "p.parquet")
    both = held.with_columns(p=p[:, 0]).join(predicted, on="id")
    assert len(both) == len(held) and (both["p"] == both["p_melanoma"]).all()


def test_the_mean_over_turned_images_is_what_tta_gives(classifier: Path, tmp_path: Path) -> None:
    from isograft.data.symmetries import turned
    from isograft.inference import answers as ask
    from isograft.inference import read_picture

    model = isograft.Model.load(classifier)
    names = next(entry["value"] for entry in model.passport.plan if entry["name"] == "symmetries")
    if len(names) == 1:
        with pytest.raises(IsograftError, match="--tta would change nothing"):
            isograft.predict(classifier, classifier.parent / "images", out=tmp_path / "p.parquet", tta=True)
        return
    image = sorted((classifier.parent / "images" / "nevus").iterdir())[0]
    table = isograft.predict(classifier, image, out=tmp_path / "p.parquet", tta=True)
    pixels = read_picture(image, model.preprocess).pixels
    views = ask(model.network(), model.preprocess, [turned(pixels, name) for name in names])
    mean = np.mean([one.probabilities(model.judgement().temperature) for one in views], axis=0)
    assert table.select("p_melanoma", "p_nevus").row(0) == pytest.approx(tuple(mean), abs=1e-6)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("screening melanoma 0.95", "is not 'NAME: CLASS sensitivity >= SHARE'"),
        ("screening: wart sensitivity >= 0.95", "names the class 'wart'; the classes are melanoma, nevus"),
        ("abstain: melanoma sensitivity >= 0.9", "the name 'abstain' is that of another column of predictions"),
        ("screening: melanoma sensitivity >= 1.5", "with a share above 0 and at most 1"),
    ],
)
def test_a_bad_operating_point_is_refused_before_the_training(text: str, sentence: str, classifier: Path, tmp_path: Path) -> None:
    with pytest.raises(IsograftError, match=sentence):
        isograft.finetune(
            classifier.parent / "images", out=tmp_path / "m", init="scratch", backbone="test_resnet", operating_point=text, image_size=32
        )
    assert not (tmp_path / "m").exists()


def test_a_model_of_an_earlier_version_keeps_its_bytes(classifier: Path) -> None:
    from isograft.passport import Passport, read_passport, render

    passport = read_passport(classifier / "model.json")
    plain = Passport.model_validate(passport.model_dump(mode="json") | {"judgement": {}, "members": 1})
    text = render(plain)
    assert b"judgement" not in text and b'"members"' not in text
    assert b"judgement" in render(passport)


def test_a_threshold_of_single_networks_holds_for_the_majority_of_several() -> None:
    """Five networks of which each fails on its own images: their mean falls below a threshold that four of five reach."""
    rng = np.random.default_rng(5)
    margin = 3 + 0.5 * rng.normal(size=(4000, 1)) + 2 * rng.normal(size=(4000, 5))
    logits = np.stack([np.zeros_like(margin), margin], axis=2).astype(np.float32)
    said = [Answer(one, np.zeros((5, 1), np.float32)) for one in logits]
    threshold = np.quantile(softmax(logits[:, 0].astype(float))[:, 1], 0.2)
    together = Judgement().votes(said)[:, 1] >= threshold
    assert together.mean() >= 0.8


@pytest.mark.parametrize("folds", [None, 3])
def test_a_handful_of_labels_is_no_crash_but_a_sentence(folds: int | None, classifier: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"init": "scratch", "backbone": "test_resnet", "image_size": 32, "threads": 1, "labels_per_class": 2}
    if folds is None:
        model = isograft.finetune(classifier.parent / "images", out=tmp_path / "m", strategy="probe", **options)
        assert "only 4 labeled images" in model.judgement().missing
    else:
        with pytest.raises(IsograftError, match="--folds 3 cannot be filled"):
            isograft.finetune(classifier.parent / "images", out=tmp_path / "m", epochs=1, folds=folds, **options)


def test_a_threshold_that_nothing_could_be_chosen_on_is_refused_before_the_training(classifier: Path, tmp_path: Path) -> None:
    with pytest.raises(IsograftError, match="needs images kept from the training, and none will be"):
        isograft.finetune(
            classifier.parent / "images", out=tmp_path / "m", init="scratch", backbone="test_resnet", image_size=32, labels_per_class=10,
            operating_point="screening: melanoma sensitivity >= 0.9",
        )  # fmt: skip


def test_images_whose_labels_an_ancestor_knows_are_no_evidence(classifier: Path, tmp_path: Path) -> None:
    again = isograft.finetune(
        classifier.parent / "images", out=tmp_path / "m", init=str(classifier), strategy="probe", threads=1, seed=0,
        cache_dir=classifier.parent / "cache",
    )  # fmt: skip
    assert "an ancestor" in again.judgement().missing


@pytest.mark.parametrize("column", ["screening", "abstain"])
def test_images_are_not_pooled_by_a_column_of_the_answer(column: str, classifier: Path, tmp_path: Path) -> None:
    images = sorted((classifier.parent / "images" / "nevus").iterdir())[:2]
    pl.DataFrame({"image": [str(image) for image in images], column: ["P1", "P2"]}).write_csv(tmp_path / "list.csv")
    with pytest.raises(IsograftError, match=f"--pool-by {column}: the answer has a column of that name itself"):
        isograft.predict(classifier, tmp_path / "list.csv", out=tmp_path / "p.csv", pool_by=column)
