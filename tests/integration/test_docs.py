"""Every command and every Python line of the documentation is run, with tiny budgets, on synthetic images."""

import re
import shlex
from pathlib import Path

import pytest

from isograft.cli import main
from isograft.data.synthetic import plan_images, write_images
from isograft.settings import Settings
from isograft.verbs import Verb

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TINY = {"backbone": "resnet10t", "image_size": 32, "epochs": 1, "batch_size": 16, "cache_dir": "cache"}
TRAINING = ("pretrain", "finetune")


def blocks(page: Path, language: str) -> list[str]:
    """The fenced code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """The isograft commands of a page, as arguments."""
    lines = [line for language in ("bash", "console") for block in blocks(page, language) for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("isograft ")]


def run(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return caught.value.code


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder the tutorial starts from, with synthetic images, as the working directory."""
    write_images(tmp_path / "pool", plan_images(48, 0), 0, size=40, labels=False)
    write_images(tmp_path / "labeled", plan_images(80, 0, first_patient=10_000), 0, size=40)
    write_images(tmp_path / "new-images", plan_images(3, 0, first_patient=20_000), 0, size=40)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_of_the_tutorial_run(workspace, capsys):
    tiny = [word for name, value in TINY.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    steps = commands(ROOT / "docs" / "tutorial.md")
    assert [step[0] for step in steps[:4]] == ["ingest", "ingest", "pretrain", "finetune"]
    for step in steps:
        assert run([*step, *(tiny if step[0] in TRAINING else [])]) == 0, f"{step}: {capsys.readouterr().err}"
    for name in ("evaluation/report.html", "evaluation/metrics.json", "evaluation-scratch/metrics.json", "predictions.csv"):
        assert (workspace / name).is_file()


def test_the_python_of_the_tutorial_runs_and_returns_what_it_says(workspace, capsys):
    (code,) = blocks(ROOT / "docs" / "tutorial.md", "python")
    shortened, times = re.subn(r"(isograft\.(?:pretrain|finetune)\(.*)\)$", r"\1, **TINY)", code, flags=re.MULTILINE)
    assert times == 2
    names = {"TINY": TINY}
    exec(compile(shortened, "tutorial.md", "exec"), names)
    assert len(names["labeled"]) == 80
    assert names["table"].height == 3
    assert 0 <= names["metrics"]["macro_f1"] <= 1


def test_the_study_of_the_how_to_runs_and_its_results_can_be_read_as_shown(workspace, capsys):
    """On fewer and smaller images; the cluster and the studies of public images are left out."""
    page = ROOT / "docs" / "how-to" / "study.md"
    template, dry, first, again = [step for step in commands(page) if not {"ray"} & {*step} and "studies/" not in " ".join(step)]
    assert run(template) == 0, capsys.readouterr().err
    (text,) = blocks(page, "yaml")
    for old, new in (
        ("image_size: 64", "image_size: 32"),
        ("[10, 25]\n", "[5]\n"),
        ("repeats: 3", "repeats: 2"),
        ("epochs: 2", "epochs: 1"),
    ):
        assert old in text
        text = text.replace(old, new)
    (workspace / "study.yaml").write_text(text, encoding="utf-8")
    written: list[bytes | None] = []
    for step in (dry, first, again):
        assert run([*step, "--cache-dir", "cache"]) == 0, f"{step}: {capsys.readouterr().err}"
        results = workspace / "study-fast" / "results.parquet"
        written.append(results.read_bytes() if results.is_file() else None)
    assert written[0] is None and written[1] is not None and written[2] == written[1]
    for name in re.findall(r"`([a-z.]+\.(?:html|md|json|jsonl|parquet))`", page.read_text(encoding="utf-8").split("## Read it")[1]):
        assert (workspace / "study-fast" / name).is_file(), name
    (code,) = blocks(page, "python")
    names = {}
    exec(compile(code, "study.md", "exec"), names)
    assert names["results"].height == 4 * 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_shown_is_one_the_command_line_accepts(page, monkeypatch, capsys):
    seen: list[Settings] = []
    monkeypatch.setattr(Verb, "run", lambda self, settings: seen.append(settings))
    for step in commands(page):
        assert run(step) == 0, capsys.readouterr().err
    assert len(seen) == len(commands(page))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_between_pages_leads_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_architecture_page_names_modules_that_exist():
    text = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    for name in re.findall(r"`([a-z_/]+(?:\.py|/))`", text):
        assert any(
            (ROOT / "src" / "isograft" / folder / name).exists() for folder in ("", "audit", "data", "explain", "fetch", "train", "..")
        ), name
