"""The whole story on synthetic images: pool and labels are drawn, then the verbs run one after another as a user would run them."""

from __future__ import annotations

import base64
import json
import shlex
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl

from isograft.console import duration, result, say
from isograft.data.synthetic import CLASSES, SyntheticImage, plan_images, render, write_images
from isograft.errors import IsograftError
from isograft.options import positional
from isograft.report.html import page
from isograft.run import write_atomic
from isograft.settings import DemoSettings, flag
from isograft.verbs import VERBS

FIGURES = ("balanced_accuracy", "macro_f1", "macro_roc_auc", "n_images", "n_groups")
LABELED_PATIENTS_FROM = 1_000_000


@dataclass(frozen=True)
class Scale:
    """How large the demo is; the defaults take a few minutes on two cores.

    Attributes:
        pool: Unlabeled images.
        labeled: Labeled images, of other patients.
        size: Side of the drawn images in pixels.
        labels_per_class: Labels the classifier may train on.
        test_fraction: Share of the labeled patients kept for the test.
        predictions: Images handed to predict.
        pretrain: Further options of pretrain; its epochs bound how long the demo trains, whatever time they take on the machine.
        finetune: Further options of finetune.
    """

    pool: int = 1200
    labeled: int = 500
    size: int = 96
    labels_per_class: int = 25
    test_fraction: float = 0.6
    predictions: int = 12
    pretrain: dict[str, Any] = field(
        default_factory=lambda: {"backbone": "resnet18", "image_size": 64, "epochs": 8, "domain": "dermoscopy"}
    )
    finetune: dict[str, Any] = field(default_factory=lambda: {"domain": "dermoscopy"})


@dataclass
class Story:
    """The commands run so far and where they run."""

    out: Path
    commands: list[str] = field(default_factory=list)

    def run(self, verb: str, **values: Any) -> Any:
        """Run a verb as a user would, and remember its command line."""
        command = command_line(verb, values)
        self.commands.append(command)
        say(f"\n$ {command}")
        return VERBS[verb].run(VERBS[verb].build(values))


def demo(settings: DemoSettings) -> pl.DataFrame:
    """Draw synthetic images, pretrain, fine-tune from the pretrained network and from scratch, evaluate both, and predict.

    Returns:
        One row per start (`pretrained`, `scratch`) with its test figures.

    Raises:
        IsograftError: The folder exists already.
    """
    return tell(settings, Scale())


def tell(settings: DemoSettings, scale: Scale) -> pl.DataFrame:
    """Run the story at a given scale (see `demo`)."""
    began = time.monotonic()
    out = settings.out
    if out.exists():
        raise IsograftError(f"{out} exists already; give another --out, or remove it")
    pool_rows, labeled_rows = _draw(out, settings.seed, scale)
    story = Story(out)
    _ingest(story)
    _train(story, settings.seed, scale)
    rows = []
    for start in ("pretrained", "scratch"):
        metrics = story.run("evaluate", model=out / f"classifier-{start}", out=out / f"evaluation-{start}")
        rows.append({"start": start, **{name: metrics[name] for name in FIGURES}})
    story.run("predict", model=out / "classifier-pretrained", input=str(out / "new-images"), out=out / "predictions.csv")
    table = pl.DataFrame(rows)
    report = _report(story, table, scale, settings.seed, (pool_rows, labeled_rows), time.monotonic() - began)
    _announce(table, scale, out, report)
    return table


def command_line(verb: str, values: dict[str, Any]) -> str:
    """The command line that does the same as `isograft.VERB(**values)`."""
    words = ["isograft", verb]
    fields = VERBS[verb].settings.model_fields
    for name, value in values.items():
        items = [str(item) for item in value] if isinstance(value, tuple | list) else [str(value)]
        if positional(fields[name]):
            words += items
        elif value is True:
            words.append(flag(name))
        elif value is not False:
            words += [word for item in items for word in (flag(name), item)]
    return shlex.join(words)


def verdict(table: pl.DataFrame, labels_per_class: int) -> str:
    """What the two rows say, in one sentence, whichever way it went."""
    first, second = (table.filter(pl.col("start") == start)["macro_f1"].item() for start in ("pretrained", "scratch"))
    if first is None or second is None:
        return "The macro-F1 is undefined for one of the two starts; the reports say why."
    change = first - second
    word = "helped" if change > 0.005 else "made little difference" if change > -0.005 else "hurt"
    return (
        f"With {labels_per_class} labels per class, pretraining on the synthetic pool {word}: "
        f"macro-F1 {first:.3f} against {second:.3f} from scratch ({change:+.3f}; one split, no interval)."
    )


def _draw(out: Path, seed: int, scale: Scale) -> tuple[list[SyntheticImage], list[SyntheticImage]]:
    """Write the pool, the labeled set, and a few images of further patients that predict will see as new."""
    say(f"Drawing {scale.pool} unlabeled and {scale.labeled} labeled synthetic images into {out}")
    pool = plan_images(scale.pool, seed)
    labeled = plan_images(scale.labeled, seed, LABELED_PATIENTS_FROM)
    new = plan_images(scale.predictions, seed, 2 * LABELED_PATIENTS_FROM)
    write_images(out / "pool", pool, seed, scale.size, labels=False)
    write_images(out / "labeled", labeled, seed, scale.size)
    write_images(out / "new-images", new, seed, scale.size)
    return pool, labeled


def _ingest(story: Story) -> None:
    out, columns = story.out, {"path_column": "file", "group_column": "patient", "source_column": "source"}
    story.run("ingest", source=(out / "pool",), out=out / "pool.parquet", labels=out / "pool.csv", **columns)
    labels = {"labels": out / "labeled.csv", "label_column": "diagnosis", **columns}
    story.run("ingest", source=(out / "labeled",), out=out / "labeled.parquet", **labels)


def _train(story: Story, seed: int, scale: Scale) -> None:
    out = story.out
    cache = {"cache_dir": out / "cache", "seed": seed}
    story.run("pretrain", data=str(out / "pool.parquet"), out=out / "pretrained", **scale.pretrain, **cache)
    labels = {"labels_per_class": scale.labels_per_class, "test_fraction": scale.test_fraction, **scale.finetune, **cache}
    for start, init in (("pretrained", str(out / "pretrained")), ("scratch", "scratch")):
        network = {name: scale.pretrain[name] for name in ("backbone", "backbone_arg", "image_size") if name in scale.pretrain}
        story.run("finetune", data=str(out / "labeled.parquet"), out=out / f"classifier-{start}", init=init, **network, **labels)


def _report(story: Story, table: pl.DataFrame, scale: Scale, seed: int, drawn: tuple[list[SyntheticImage], ...], seconds: float) -> Path:
    """Write report.html and demo.json."""
    pool, labeled = drawn
    figures = [{"caption": "Synthetic pool, without labels", "png": _sheet(pool, seed, scale.size)}]
    for name in CLASSES:
        figures.append({"caption": f"Labeled: {name}", "png": _sheet([row for row in labeled if row.label == name], seed, scale.size)})
    rows = [
        {"start": row["start"], "figures": [figure_text(row[name]) for name in FIGURES], "report": f"evaluation-{row['start']}/report.html"}
        for row in table.iter_rows(named=True)
    ]
    columns = [name.replace("_", " ") for name in FIGURES]
    text = page(
        "demo.html.jinja",
        rows=rows,
        columns=columns,
        figures=figures,
        commands=story.commands,
        seconds=duration(seconds),
        verdict=verdict(table, scale.labels_per_class),
    )
    report = story.out / "report.html"
    write_atomic(report, text)
    record = {"images": "synthetic", "seed": seed, "seconds": round(seconds, 1), "results": table.to_dicts(), "commands": story.commands}
    write_atomic(story.out / "demo.json", json.dumps(record, indent=2) + "\n")
    return report


def _announce(table: pl.DataFrame, scale: Scale, out: Path, report: Path) -> None:
    names = [name.replace("_", " ") for name in FIGURES]
    lines = ["", "Test figures on synthetic images:", "  " + f"{'start':<12}" + "".join(f"{name:>19}" for name in names)]
    for row in table.iter_rows(named=True):
        lines.append("  " + f"{row['start']:<12}" + "".join(f"{figure_text(row[name]):>19}" for name in FIGURES))
    lines += ["", verdict(table, scale.labels_per_class), f"Report       {report}", f"Predictions  {out / 'predictions.csv'}"]
    result("\n".join(lines))


def figure_text(value: float | int | None) -> str:
    """A figure for a table; `undefined` where there is none."""
    if value is None:
        return "undefined"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _sheet(rows: list[SyntheticImage], seed: int, size: int, columns: int = 10) -> str:
    """A contact sheet of the first images, as base64 PNG."""
    images = [render(row, seed, size) for row in rows[: 2 * columns]]
    images += [np.full((size, size, 3), 255, np.uint8)] * (-len(images) % columns)
    grid = np.vstack([np.hstack(images[start : start + columns]) for start in range(0, len(images), columns)])
    return base64.b64encode(cv2.imencode(".png", cv2.cvtColor(grid, cv2.COLOR_RGB2BGR))[1].tobytes()).decode()
