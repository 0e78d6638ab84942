"""The model card: metadata that a machine can read, and Markdown that no odd name breaks."""

from __future__ import annotations

import re

import pytest
import yaml
from huggingface_hub import ModelCard
from tests.unit.report.made_up import SKIN, passport

from isograft.card import metadata, model_card

ODD = ("<b>nv</b>", "a|b", "x: [y", "$E=mc^2$", "*_`mel`_*", "# df\n---", "=1+1", "{{ 7 * 7 }}", "'\"\\", "ü…")


def test_the_head_is_valid_metadata_of_a_model_card_with_the_types_the_hub_asks_for() -> None:
    data = ModelCard(model_card(passport())).data
    assert data.library_name == "isograft" and data.pipeline_tag == "image-classification"
    assert all(isinstance(tag, str) and tag for tag in data.tags) and "probe-then-full" in data.tags
    assert data.license is None and data.datasets is None and data.base_model is None
    (balanced, f1) = data.eval_results
    assert (balanced.task_type, balanced.metric_type, balanced.metric_value) == ("image-classification", "balanced_accuracy", 0.71)
    assert "validation during training" in f1.metric_name and f1.dataset_split == "validation" and f1.dataset_name == "lesions"


def test_a_backbone_has_another_task_and_no_results() -> None:
    card = ModelCard(model_card(passport(None)))
    assert card.data.pipeline_tag == "image-feature-extraction" and card.data.eval_results is None
    assert "isograft finetune LABELED_IMAGES --init FOLDER" in card.text and "Calibration and thresholds" not in card.text


def test_a_classifier_without_figures_has_no_index_of_results() -> None:
    bare = passport().model_copy(update={"metrics": {}})
    assert {"model-index", "metrics"}.isdisjoint(metadata(bare))
    assert "No figure was recorded during training" in model_card(bare)


def test_the_base_model_is_named_only_where_it_lies_on_the_hub() -> None:
    hub = passport().model_copy(update={"init": {"source": "hf-hub:timm/resnet10t.c3_in1k"}})
    assert metadata(hub)["base_model"] == "timm/resnet10t.c3_in1k"
    assert "base_model" not in metadata(passport())


@pytest.mark.parametrize("classes", [SKIN, None], ids=["classifier", "backbone"])
def test_every_section_is_there(classes: tuple[str, ...] | None) -> None:
    sections = re.findall(r"^## (.+)$", model_card(passport(classes)), re.MULTILINE)
    first = ["Intended use", "Use", "Training data", "Training procedure", "Evaluation"]
    assert sections == [*first, "Limitations and bias", "Lineage", "Environment", "Please cite"]


def test_odd_names_break_neither_the_metadata_nor_the_markdown_nor_become_markup() -> None:
    odd = passport(ODD).model_copy(
        update={
            "method": "--- {{ x }}: #y",
            "data": [{"role": "train", "name": "a: b | <i>", "images": 5, "groups": None}],
            "plan": [{"name": "views", "value": {"a|b": "$x$"}, "reason": "two\nlines | <script>"}],
            "judgement": {
                "fitted_on": "*some* images",
                "operating_points": [{"name": "a|b", "of": "x: [y", "rule": ">= 0.9", "threshold": 0.5}],
            },
        }
    )
    text = model_card(odd)
    assert ModelCard(text).data.tags[-1] == "--- {{ x }}: #y"
    body = text.split("\n---\n", 1)[1]
    assert not re.search(r"(?<!\\)<[a-z/]", body) and "{{ 7 \\* 7 }}" in body
    assert not re.search(r"(?<!\\)\$", re.sub(r"```.*?```", "", body, flags=re.DOTALL))
    for line in body.splitlines():
        if line.startswith("| ") and "content hash" not in line:
            assert len(re.findall(r"(?<!\\)\|", line)) in (3, 4, 5), line
    assert [line for line in body.splitlines() if line.startswith("# ")] == [
        line for line in body.splitlines() if line.startswith("# resnet10t")
    ]


def test_the_card_says_what_the_figures_are_and_why_there_is_no_calibration() -> None:
    assert "they are not a test" in model_card(passport())
    assert "Fitted on 160 images that were kept from the training: a temperature of 2" in model_card(passport())
    missing = passport(judged=False).model_copy(update={"judgement": {"missing": "only 12 labeled images were kept"}})
    assert "None, because only 12 labeled images were kept." in model_card(missing)


def test_ancestors_are_listed_by_generation() -> None:
    grandparent = {"content_hash": "99" * 32, "kind": "backbone", "method": "mae", "data": [{"name": "pool"}], "parents": []}
    child = passport()
    child.parents[0]["parents"] = [grandparent]
    assert "- backbone 121212121212, simclr\n  - backbone 999999999999, mae, trained on pool" in model_card(child)


def test_the_metadata_is_plain_yaml_without_tags_of_python() -> None:
    head = model_card(passport(ODD)).split("---\n")[1]
    assert "!!" not in head and yaml.safe_load(head)["library_name"] == "isograft"
