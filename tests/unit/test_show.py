"""`show` tells the whole story of a chain of models."""

import polars as pl
import pytest

from isograft.data.preprocess import Preprocess
from isograft.errors import IsograftError
from isograft.lineage import seen_table
from isograft.model import BackboneRecord, Model, Passport
from isograft.networks.backbones import build_backbone
from isograft.networks.heads import Classifier, build_head
from isograft.settings import ShowSettings
from isograft.show import show

SEEN = pl.DataFrame({"pixel_hash": ["aa", "bb"], "role": ["pool", "train"], "origin": ["p", "t"]}).with_columns(
    pl.lit(1).cast(pl.UInt64).alias("perceptual_hash"), pl.lit(None).cast(pl.String).alias("group_hash")
)


def write(folder, parents=(), classes=None, **fields) -> Model:
    network = build_backbone("alzubaidi_light", {"width": 2}, 32)
    features = network.num_features
    if classes:
        network = Classifier(network, build_head("linear", features, len(classes)))
        fields |= {"kind": "classifier", "head": "linear", "classes": classes}
    passport = Passport(
        **{"kind": "backbone", **fields},
        backbone=BackboneRecord(name="alzubaidi_light", arguments={"width": 2}, features=features),
        preprocess=Preprocess(image_size=32, working_size=48),
        parents=[parent.passport.parent_entry() for parent in parents],
    )
    return Model.write(folder, passport, network.state_dict(), seen_table(SEEN))


@pytest.fixture(scope="module")
def chain(tmp_path_factory) -> list[Model]:
    root = tmp_path_factory.mktemp("chain")
    pool = write(root / "pool", method="simclr", data=[{"role": "pool", "name": "vienna", "images": 7756, "groups": 5000}])
    lesions = write(
        root / "lesions", [pool], ["mel", "nv"], method="probe-then-full", data=[{"role": "train", "name": "uda1", "images": 50}]
    )
    feet = write(
        root / "feet",
        [lesions],
        ["skin", "ulcer"],
        method="probe",
        plan=[{"name": "epochs", "value": 12, "reason": "fifty labels"}],
        metrics={"validation": {"macro_f1": 0.87654, "curve": [1, 2]}, "auc": float("nan")},
        citations=["Someone 2021"],
    )
    return [pool, lesions, feet]


def test_the_whole_chain_is_shown_on_stdout_and_returned(chain, capsys):
    text = show(ShowSettings(model=chain[2].folder))
    assert capsys.readouterr().out == text + "\n"
    order = [text.index(f"by {method}") for method in ("probe,", "probe-then-full", "simclr")]
    assert order == sorted(order)
    assert all(model.content_hash[:12] in text for model in chain)
    assert "pool: vienna, 7,756 images, 5,000 groups" in text and "started from scratch" in text


def test_plan_reasons_figures_and_citations_are_shown(chain):
    text = show(ShowSettings(model=chain[2].folder))
    assert "epochs  12  (fifty labels)" in text
    assert "validation.macro_f1  0.8765" in text and "undefined" in text and "curve" not in text
    assert "Someone 2021" in text and "2 by this model and its ancestors" in text


def test_ancestors_are_shown_when_only_the_last_folder_is_left(chain, tmp_path):
    alone = chain[2].folder.rename(tmp_path / "moved")
    try:
        assert chain[0].content_hash[:12] in show(ShowSettings(model=alone))
    finally:
        alone.rename(chain[2].folder)


def test_a_folder_that_is_no_model_is_an_error(tmp_path):
    with pytest.raises(IsograftError, match="no model folder"):
        show(ShowSettings(model=tmp_path))
