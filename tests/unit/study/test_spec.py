"""The study file: what it may say, and that every mistake is named with file, line and a way on."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from isograft.errors import IsograftError
from isograft.networks.weights import IMAGENET_BACKBONE
from isograft.study.spec import StudySpec, read_spec

TEXT = """\
title: A study
parameters: {images: images}
pools:
  ours: {data: "${images}/pool"}
tasks:
  lesions:
    data: ${images}/labeled
    labels: ${images}/labeled.csv
    label_column: diagnosis
arms:
  scratch: []
  pool: ["pool:ours"]
backbones: [resnet10t]
pretrain: {epochs: 3}
presets:
  fast:
    pretrain: {lr: 1e-3}
    labels_per_class: 10
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with what the study names."""
    for name in ("pool", "labeled", "model"):
        (tmp_path / "images" / name).mkdir(parents=True)
    (tmp_path / "images" / "labeled.csv").write_text("file,diagnosis\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def read(folder: Path):
    def reader(*changes: tuple[str, str], preset: str | None = None, parameters: tuple[str, ...] = ()) -> StudySpec:
        text = TEXT
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (folder / "study.yaml").write_text(text, encoding="utf-8")
        return read_spec(folder / "study.yaml", preset, parameters)

    return reader


def test_a_study_is_read_with_absolute_paths_defaults_and_its_baselines(read, folder: Path) -> None:
    spec = read()
    assert spec.pools["ours"].data == str(folder / "images/pool")
    assert spec.tasks["lesions"].labels == folder / "images/labeled.csv"
    assert spec.arms == {"scratch": (), "pool": ("pool:ours",)} and spec.baselines == ("scratch",)
    assert (spec.labels_per_class, spec.repeats, spec.test_fraction, spec.metric) == ((10, 25, 50, "all"), 5, 0.4, "macro_f1")
    assert (spec.pretrain.epochs, spec.finetune.strategy, spec.protocols) == (3, "auto", ("clean",))


def test_paths_are_seen_from_the_folder_of_the_study_not_of_the_user(read, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    assert read().tasks["lesions"].data == str(folder / "images/labeled")
    (folder / "other").mkdir()
    (folder / "other" / "study.yaml").write_text(TEXT, encoding="utf-8")
    spec = read_spec(Path("../other/study.yaml"), parameters=(f"images={folder / 'images'}",))
    assert spec.pools["ours"].data == str(folder / "images/pool")


def test_a_link_stays_as_it_was_written(read, folder: Path) -> None:
    (folder / "linked").symlink_to(folder / "images")
    assert read(parameters=("images=linked",)).pools["ours"].data == str(folder / "linked/pool")


def test_a_preset_is_applied_and_checked_like_the_file(read) -> None:
    spec = read(preset="fast")
    assert (spec.pretrain.epochs, spec.pretrain.lr, spec.labels_per_class) == (3, 0.001, (10,))
    with pytest.raises(IsograftError, match=r"line 17: pretrain\.lr is 'x' but must be a number above 0, or auto"):
        read(("1e-3", "x"), preset="fast")


def test_a_chain_may_start_from_a_model_folder_seen_from_the_study(read, folder: Path) -> None:
    spec = read(('["pool:ours"]', '[images/model, "pool:ours"]'))
    assert spec.arms["pool"] == (str(folder / "images/model"), "pool:ours")


def test_what_was_read_can_be_read_again_elsewhere(read) -> None:
    """study.json is such a copy; a machine without the images must be able to open it."""
    spec = read().model_copy(update={"title": "copy"})
    dumped = spec.model_dump(mode="json")
    dumped["pools"]["ours"]["data"] = "/nowhere"
    again = StudySpec.model_validate(dumped)
    assert again.pools["ours"].data == "/nowhere" and again.arms == spec.arms and again.tasks == spec.tasks


def test_the_baselines_are_the_bare_starts_unless_others_are_named(read) -> None:
    assert read(("scratch: []", "random: [scratch]\n  pretrained: [imagenet]"), ("resnet10t", "resnet18")).baselines == (
        "random",
        "pretrained",
    )
    assert read(("title:", "baselines: pool\ntitle:")).baselines == ("pool",)


def test_the_default_backbone_is_the_one_whose_imagenet_weights_need_no_network() -> None:
    assert StudySpec.model_fields["backbones"].default == (IMAGENET_BACKBONE,)


MISTAKES: list[tuple[str, str, str]] = [
    ("label_column:", "label_colum:", "line 9: tasks.lesions.label_colum is no key; did you mean label_column?"),
    ("title: A study", "titel: A study", "line 1: titel is no key; did you mean title?"),
    ("title: A study", "titel: A study", "the study lacks title: What is asked"),
    ("    data: ${images}/labeled\n", "", "line 6: tasks.lesions lacks data: A manifest, a class-per-folder tree"),
    ("title:", "xyz: 1\ntitle:", "line 1: xyz is no key; there are title, pools, tasks"),
    ("epochs: 3", "epochs: 0", "line 14: pretrain.epochs is 0 but must be a whole number of at least 1"),
    ("epochs: 3", "epochs: yes", "line 14: pretrain.epochs is 'yes' but must be a whole number of at least 1"),
    ("epochs: 3", "method: simclrr", "pretrain.method is 'simclrr' but must be one of auto, simclr"),
    ("epochs: 3", "method: simclrr", "did you mean simclr?"),
    ("{epochs: 3}", "", "line 14: pretrain is empty but must be a mapping with the keys method, epochs, batch_size, lr"),
    ("{epochs: 3}", "3", "line 14: pretrain is 3 but must be a mapping with the keys"),
    ('{data: "${images}/pool"}', "images", "line 4: pools.ours is 'images' but must be a mapping with the keys data, labels"),
    ("images: images", "images: imgs", "line 4: pools.ours.data: "),
    ("images: images", "images: imgs", "imgs/labeled.csv does not exist; paths are seen from the folder of the study"),
    ("title:", "labels_per_class: [5, al]\ntitle:", "line 1: labels_per_class, entry 2 is 'al' but must be a whole number of at least 1"),
    ("title:", "labels_per_class: [5, 5]\ntitle:", "line 1: labels_per_class, entry 2: 5 is given twice; keep one"),
    ("title:", "labels_per_class: []\ntitle:", "line 1: labels_per_class is empty but must be a list, each a whole number"),
    ("title:", "test_fraction: 1\ntitle:", "line 1: test_fraction is 1 but must be a number above 0 and below 1"),
    ("title:", "protocols: [clean, sloppy]\ntitle:", "protocols, entry 2 is 'sloppy' but must be one of clean, image-split"),
    ("title:", "metric: f1\ntitle:", "line 1: metric is 'f1' but must be one of macro_f1, macro_roc_auc"),
    ("title:", "baselines: [scrach]\ntitle:", "line 1: baselines, entry 1: there is no arm scrach; did you mean scratch?"),
    ("  ours:", "  our pool:", "line 4: pools.our pool: a name consists of letters, digits"),
    ("pool:ours", "pool:our", "line 12: arms.pool, entry 1: there is no pool our; did you mean ours?"),
    ("pool:ours", "task:foot", "line 12: arms.pool, entry 1: there is no task foot; there is lesions"),
    ('["pool:ours"]', '["pool:ours", imagenet]', "line 12: arms.pool, entry 2: imagenet can only come first"),
    ('["pool:ours"]', "[imagent]", "line 12: arms.pool, entry 1: 'imagent' is neither scratch, imagenet"),
    ('["pool:ours"]', "[imagent]", "did you mean imagenet?"),
    ('["pool:ours"]', "[scratch]", "line 12: arms.pool: this is the same chain as scratch; keep one"),
    ('["pool:ours"]', "{a: 1}", "line 12: arms.pool is a mapping but must be a list, each text"),
    ("  scratch: []\n", "", "line 10: arms: no arm is a baseline; add scratch: [] or imagenet: [imagenet]"),
    ("  scratch: []\n  pool: [\"pool:ours\"]\n", "", "line 10: arms is empty but must be a mapping of names with at least one entry"),
    ("  scratch: []\n", "  imagenet: [imagenet]\n", "line 10: no baseline is left for the task lesions with the backbone alzubaidi_light"),
    ("resnet10t", "resnet10", "line 13: backbones: there is no backbone 'resnet10'; did you mean"),
    ("title:", "backbone_args: width\ntitle:", "line 1: backbone_args: --backbone-arg 'width' is not key=value"),
    ("title:", "finetune: {strategy: probe, epochs: 3}\ntitle:", "line 1: finetune.epochs: 3 would be unused with strategy probe: "),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES)
def test_a_mistake_is_named_with_its_line(read, folder: Path, old: str, new: str, message: str) -> None:
    changes = [(old, new)]
    if "alzubaidi_light" in message:
        changes.append(("resnet10t", "alzubaidi_light"))
    with pytest.raises(IsograftError) as caught:
        read(*changes)
    assert str(caught.value).startswith(f"{folder / 'study.yaml'}, line ")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_all_mistakes_are_named_in_the_order_of_the_lines(read) -> None:
    with pytest.raises(IsograftError) as caught:
        read(("label_column", "label_colum"), ("epochs: 3", "epochs: 0"), ("title:", "repeats: 0\ntitle:"))
    lines = [part.split(":")[0] for part in str(caught.value).split("line ")[1:]]
    assert lines == ["1", "10", "15"]


@pytest.mark.parametrize("text", ["", "[1, 2]", "a study"])
def test_what_is_no_mapping_is_told_the_keys_and_the_template(folder: Path, text: str) -> None:
    (folder / "study.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(IsograftError, match=r"line 1: a study is a mapping with the keys title, pools, .*--init FILE writes a template"):
        read_spec(folder / "study.yaml")


def test_a_mistake_is_found_without_importing_anything_heavy(folder: Path) -> None:
    (folder / "study.yaml").write_text(TEXT.replace("epochs: 3", "epochs: 0"), encoding="utf-8")
    code = f"""if True:
        import sys
        try:
            from isograft.study.spec import read_spec
            from pathlib import Path
            read_spec(Path({str(folder / "study.yaml")!r}))
        except Exception as error:
            print(type(error).__name__, *[name for name in ("torch", "timm", "polars", "sklearn", "cv2") if name in sys.modules])"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["IsograftError"]


@pytest.mark.parametrize(
    "value", [{"title": "t", "tasks": {"a": {"data": "x"}}, "arms": {"scratch": []}, "further": 1}, {"title": "t", "tasks": {}, "arms": {}}]
)
def test_a_study_made_in_python_is_checked_too(value: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        StudySpec.model_validate(value)
