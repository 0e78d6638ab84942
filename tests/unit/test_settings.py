"""Options that would have no effect are refused before anything is read."""

from typing import Any

import pytest

from isograft.errors import IsograftError
from isograft.settings import IDLE, FinetuneSettings, PredictSettings
from isograft.verbs import VERBS

FINETUNE: dict[str, Any] = {"data": "d", "out": "o", "init": "scratch"}
GIVEN: dict[str, Any] = {
    "epochs": 3, "batch_size": 8, "lr": 0.1, "domain": "histology", "precision": "fp32", "val": "v", "val_fraction": 0.3,
}  # fmt: skip


@pytest.mark.parametrize(("strategy", "name"), [(strategy, name) for strategy, names in IDLE.items() for name in names])
def test_an_option_that_a_strategy_has_no_use_for_is_refused_by_name(strategy: str, name: str) -> None:
    spelled = f"--{name.replace('_', '-')} {GIVEN[name]} would be unused with --strategy {strategy}: "
    with pytest.raises(IsograftError, match=f"^finetune: {spelled}.*leave it out, or choose --strategy full$"):
        VERBS["finetune"].build({**FINETUNE, "strategy": strategy, name: GIVEN[name]})


@pytest.mark.parametrize("strategy", [*IDLE, "auto", "full", "probe-then-full"])
def test_what_a_strategy_uses_is_taken_and_so_is_what_only_says_its_default(strategy: str) -> None:
    used = {name: value for name, value in GIVEN.items() if name not in IDLE.get(strategy, {}) and name != "val_fraction"}
    plain = {"epochs": "auto", "domain": "auto", "val_fraction": 0, "val": None} | used
    settings = VERBS["finetune"].build({**FINETUNE, "strategy": strategy, **plain})
    assert isinstance(settings, FinetuneSettings) and settings.val_fraction == 0


def test_a_share_for_validation_beside_given_validation_data_is_refused() -> None:
    with pytest.raises(IsograftError, match=r"--val-fraction 0\.2 would be unused, as --val v is given"):
        VERBS["finetune"].build({**FINETUNE, "val": "v", "val_fraction": 0.2})


@pytest.mark.parametrize("name", ["labels", "path_column", "label_column", "group_column", "cache_dir"])
def test_evaluate_takes_no_description_of_data_that_are_not_given(name: str) -> None:
    given = {"model": "m", "out": "o", name: "x"}
    with pytest.raises(IsograftError, match=f"--{name.replace('_', '-')} is about DATA, but none is given"):
        VERBS["evaluate"].build(given)
    VERBS["evaluate"].build(given | {"data": "d"})


@pytest.mark.parametrize("name", ["labels", "label_column", "group_column", "cache_dir"])
def test_predict_has_no_option_about_labels_or_caches(name: str) -> None:
    assert name not in PredictSettings.model_fields
    with pytest.raises(IsograftError, match=f"^predict: there is no option {name}"):
        VERBS["predict"].build({"model": "m", "input": "i", "out": "x.csv", name: "x"})


STUDY: dict[str, Any] = {"study": "s.yaml", "out": "o"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "STUDY is required: the study file; isograft study --init study.yaml writes a template of one"),
        ({"out": "o"}, "STUDY is required"),
        ({"study": "s.yaml"}, "--out is required: the folder to write; --dry-run only lists the jobs and needs none"),
        ({"study": "s.yaml", "init": "t.yaml"}, "STUDY s.yaml would be unused with --init, which only writes a template"),
        ({"init": "t.yaml", "out": "o"}, "--out o would be unused with --init"),
        ({"init": "t.yaml", "dry_run": True}, "--dry-run would be unused with --init"),
        ({"init": "t.yaml", "param": ["a=1", "b=2"]}, "--param a=1 --param b=2 would be unused with --init"),
        ({"init": "t.yaml", "engine": "ray"}, "--engine ray would be unused with --init"),
        ({"init": "template"}, "--init template must end in .yaml or .yml"),
        (STUDY | {"param": "data"}, "--param data is not name=value; write for example --param data=/images"),
        (STUDY | {"param": "=3"}, "--param =3 is not name=value"),
        (STUDY | {"param": ["a=1", "a=2"]}, "--param gives a twice; keep one"),
    ],
)
def test_study_says_in_one_sentence_what_is_missing_or_too_much(given: dict[str, Any], message: str) -> None:
    with pytest.raises(IsograftError) as caught:
        VERBS["study"].build(given)
    assert str(caught.value).startswith(f"study: {message}") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "given", [STUDY, {"study": "s.yaml", "dry_run": True}, {"init": "t.yml"}, STUDY | {"param": ["a=b=c", "d="], "resume": True, "jobs": 2}]
)
def test_study_takes_a_file_with_a_place_to_write_a_dry_run_or_a_template(given: dict[str, Any]) -> None:
    built = VERBS["study"].build(given)
    assert {name for name in given if getattr(built, name) in (None, (), False)} == set()
