"""The studies that come with the project: they can be read, compare what they say, and their data are parameters."""

import re
from pathlib import Path

import polars as pl
import pytest

from isograft.data.selection import holds
from isograft.study.arms import arms_of, left_out
from isograft.study.lines import read_document
from isograft.study.spec import StudySpec, read_spec

ROOT = Path(__file__).resolve().parents[3]
STUDIES = sorted((ROOT / "studies").glob("*.yaml"))
HOW_TO = ROOT / "docs" / "how-to" / "study.md"
FOLDERS = ("skin/ham10000/images", "skin/uda1", "foot", "histology/crc_nuclei/images")
TABLES = ("skin/ham10000/metadata.csv", "foot/patches.csv", "histology/crc_nuclei/labels.csv")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders and tables with the names of the real ones."""
    root = tmp_path_factory.mktemp("data")
    for name in FOLDERS:
        (root / name).mkdir(parents=True)
    for name in TABLES:
        (root / name).write_text("file\n", encoding="utf-8")
    return root


def read(name: str, data: Path, preset: str | None = None) -> StudySpec:
    return read_spec(ROOT / "studies" / f"{name}.yaml", preset, (f"data={data}",))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_path_of_a_study_follows_its_parameter_data(path: Path, data: Path) -> None:
    document = read_document(path)
    assert (path.parent / document.data["parameters"]["data"]).resolve() == (ROOT.parent / "shared" / "data").resolve()
    for preset in (None, *document.data["presets"]):
        spec = read_spec(path, preset, (f"data={data}",))
        for entry in (*spec.pools.values(), *spec.tasks.values()):
            assert Path(entry.data).is_relative_to(data) and (entry.labels is None or entry.labels.is_relative_to(data))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_has_a_fast_preset_with_three_repeats(path: Path, data: Path) -> None:
    assert read_spec(path, "fast", (f"data={data}",)).repeats == 3
    assert read_spec(path, None, (f"data={data}",)).repeats == 5


def test_the_skin_study_compares_five_arms_and_leaves_double_out_of_its_own_task(data: Path) -> None:
    spec = read("skin", data, "fast")
    arms = ["scratch", "imagenet", "in-domain", "imagenet-pool", "double"]
    assert [list(arms_of(spec, task, *spec.backbones)) for task in ("uda1", "rosendahl", "foot")] == [arms, arms[:-1], arms]
    assert left_out(spec) == ["The arm double is left out of the task rosendahl, because its chain trains on that task."]
    assert (spec.labels_per_class, spec.image_size, spec.backbones) == ((10, 25, 50), 64, ("tf_efficientnet_lite0",))
    assert read("skin", data).labels_per_class == (10, 25, 50, "all")


def test_the_fast_preset_of_the_skin_study_fits_an_hour_on_two_cores_at_the_measured_rates(data: Path) -> None:
    """Images per second of two cores, and how many images there are, are those of the comment in the file."""
    spec = read("skin", data, "fast")
    images = {"uda1": 546, "rosendahl": 2226, "foot": 1578}
    passes = spec.pretrain.epochs
    pretraining = passes * (7665 / 170 + 7665 / 110 + 2 * images["rosendahl"] / 270)
    features = (sum(images.values()) * (3 + spec.repeats) + images["uda1"] + images["foot"]) / 600
    arms = sum(len(arms_of(spec, task, backbone)) for task in spec.tasks for backbone in spec.backbones)
    runs = arms * len(spec.labels_per_class) * spec.repeats
    assert runs == 126 and spec.finetune.strategy == "probe"
    assert pretraining + features + 4 * runs + 200 < 0.7 * 3600


def test_the_protocol_study_changes_nothing_but_the_protocol(data: Path) -> None:
    spec = read("paper-protocol", data, "fast")
    assert spec.protocols == ("clean", "image-split", "leaky-pool", "paper")
    assert (spec.backbones, spec.backbone_args, spec.finetune.strategy) == (("alzubaidi_dcnn",), ("width=8",), "paper")
    assert read("paper-protocol", data).backbone_args == ("width=32",)


def test_the_rows_that_the_studies_choose_are_as_many_as_they_say_and_share_no_group(real_data: Path) -> None:
    entries = {
        f"{kind}:{name}": entry
        for study in ("skin", "histology")
        for kind, found in (("pool", read(study, real_data).pools), ("task", read(study, real_data).tasks))
        for name, entry in found.items()
    }
    rows = {}
    for name, entry in entries.items():
        if entry.where is not None and entry.labels is not None:
            table = pl.read_csv(entry.labels, infer_schema_length=None)
            rows[name] = table.filter(holds(table, entry.where, name))
    assert {name: len(table) for name, table in rows.items()} == {
        "pool:skin": 7756, "task:rosendahl": 2226, "pool:nuclei": 10384, "task:cells": 9892,
    }  # fmt: skip
    for pool, task in (("pool:skin", "task:rosendahl"), ("pool:nuclei", "task:cells")):
        column = entries[task].group_column
        assert not {*rows[pool][column]} & {*rows[task][column]}


@pytest.mark.parametrize("preset", [None, "fast"])
def test_the_study_of_the_how_to_can_be_read(preset: str | None, tmp_path: Path) -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```", HOW_TO.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for name in ("pool", "labeled"):
        (tmp_path / name).mkdir()
    (tmp_path / "labeled.csv").write_text("file\n", encoding="utf-8")
    (tmp_path / "study.yaml").write_text(text, encoding="utf-8")
    spec = read_spec(tmp_path / "study.yaml", preset)
    assert spec.baselines == ("scratch", "imagenet") and spec.pools["ours"].data == str(tmp_path / "pool")
