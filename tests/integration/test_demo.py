"""The demo at a tiny scale, on synthetic images."""

import json
import re


def test_the_demo_compares_two_starts_on_the_same_test_images(demo):
    _, table = demo
    assert table["start"].to_list() == ["pretrained", "scratch"]
    assert table["n_images"].n_unique() == 1 and table["n_images"][0] > 10


def test_the_report_says_synthetic_shows_the_figures_and_links_to_files_that_exist(demo):
    out, table = demo
    text = (out / "report.html").read_text(encoding="utf-8")
    assert "synthetic" in text and f"{table['balanced_accuracy'][0]:.3f}" in text
    links = re.findall(r'href="([^"]+)"', text)
    assert len(links) == 2 and all((out / link).is_file() for link in links)
    assert not re.search(r'(src|href)="https?:', text)


def test_the_record_holds_the_commands_and_the_seed(demo):
    out, _ = demo
    record = json.loads((out / "demo.json").read_text(encoding="utf-8"))
    assert record["seed"] == 3 and record["images"] == "synthetic"
    assert [command.split()[1] for command in record["commands"]] == [
        "ingest", "ingest", "pretrain", "finetune", "finetune", "evaluate", "evaluate", "predict",
    ]  # fmt: skip


def test_every_new_image_has_a_prediction(demo):
    out, _ = demo
    assert len((out / "predictions.csv").read_text(encoding="utf-8").splitlines()) == 1 + 4
