"""The template: written once, never over anything, and itself a study."""

from pathlib import Path

import pytest

from isograft.errors import IsograftError
from isograft.study.lines import read_document
from isograft.study.spec import DataSpec, StudySpec, read_spec
from isograft.study.template import template, write_template


def test_the_template_is_a_study_once_its_folders_exist(tmp_path: Path) -> None:
    path = write_template(tmp_path / "study.yaml")
    with pytest.raises(IsograftError, match="images/pool does not exist"):
        read_spec(path)
    for name in ("pool", "labeled"):
        (tmp_path / "images" / name).mkdir(parents=True)
    spec = read_spec(path)
    assert list(spec.arms) == ["scratch", "imagenet", "pool", "imagenet-pool"] and spec.baselines == ("scratch", "imagenet")
    fast = read_spec(path, "fast")
    assert (fast.repeats, fast.pretrain.epochs, fast.finetune.strategy) == (3, 5, "probe")


def test_the_template_names_every_key_there_is(tmp_path: Path) -> None:
    text = template()
    unnamed = {"backbone_args", "path_column", "batch_size", "lr"}
    assert all(f"{name}:" in text for name in {*StudySpec.model_fields, *DataSpec.model_fields} - unnamed)
    assert {"parameters", "presets"} <= read_document(write_template(tmp_path / "study.yml")).data.keys()


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(IsograftError, match=r"study\.yaml exists already and is not overwritten"):
        write_template(path)
    assert path.read_text(encoding="utf-8") == "mine"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(IsograftError, match=f"there is no folder {tmp_path / 'no'}; make it first"):
        write_template(tmp_path / "no" / "study.yaml")
