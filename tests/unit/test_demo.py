import shlex

import polars as pl
import pytest

from isograft.cli import main
from isograft.demo import Scale, command_line, demo, figure_text, verdict
from isograft.errors import IsograftError
from isograft.settings import DemoSettings
from isograft.verbs import VERBS


def table(pretrained: float | None, scratch: float | None) -> pl.DataFrame:
    return pl.DataFrame({"start": ["pretrained", "scratch"], "macro_f1": [pretrained, scratch]}, schema_overrides={"macro_f1": pl.Float64})


@pytest.mark.parametrize(
    ("pretrained", "scratch", "word"), [(0.8, 0.7, "helped"), (0.7, 0.8, "hurt"), (0.7, 0.7, "made little difference")]
)
def test_the_verdict_says_what_the_figures_say(pretrained, scratch, word):
    text = verdict(table(pretrained, scratch), 25)
    assert word in text and "synthetic" in text


def test_an_undefined_figure_is_said_to_be_undefined():
    assert "undefined" in verdict(table(None, 0.7), 25)
    assert figure_text(None) == "undefined" and figure_text(3) == "3" and figure_text(0.25) == "0.250"


def test_the_shown_command_line_gives_the_same_settings(monkeypatch, tmp_path):
    values = {
        "source": (tmp_path / "a b", tmp_path / "c"), "out": tmp_path / "m.parquet", "where": "dataset != 'x'", "allow_missing": True,
        "drop_labels": False, "threads": 2,
    }  # fmt: skip
    seen = []
    verb = VERBS["ingest"]
    monkeypatch.setattr(type(verb), "run", lambda self, settings: seen.append(settings))
    with pytest.raises(SystemExit):
        main(shlex.split(command_line("ingest", values))[1:])
    assert seen == [verb.build(values)]


def test_the_length_of_the_demo_is_set_by_epochs_alone_so_that_its_figures_do_not_depend_on_the_machine():
    assert "epochs" in Scale().pretrain
    assert "max_time" not in Scale().pretrain | Scale().finetune


def test_an_existing_folder_is_not_touched(tmp_path):
    (tmp_path / "keep.txt").write_text("mine")
    with pytest.raises(IsograftError, match="exists already"):
        demo(DemoSettings(out=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["keep.txt"]
