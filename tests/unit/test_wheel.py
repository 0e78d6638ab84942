"""The wheel has the same bytes wherever it is built, and holds the package and nothing else."""

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EPOCH = 1_700_000_000


def checkout(folder: Path, mode: int, umask: int) -> Path:
    """The sources in another folder, with other rights, and with what lies about in a folder that is worked in."""
    before = os.umask(umask)
    try:
        shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    finally:
        os.umask(before)
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    for path in folder.rglob("*"):
        path.chmod(mode | (0o111 if path.is_dir() else 0))
    (folder / "src/isograft/__pycache__").mkdir()
    (folder / "src/isograft/__pycache__/cli.cpython-311.pyc").write_bytes(os.urandom(8))
    return folder


@pytest.fixture(scope="module")
def wheels(tool, tmp_path_factory) -> list[Path]:
    build = tool("build_wheel").build
    root = tmp_path_factory.mktemp("wheels")
    made = []
    for name, mode, umask in (("one", 0o600, 0o077), ("another/place", 0o664, 0o000)):
        source, out = checkout(root / name, mode, umask), root / f"out-{mode:o}"
        out.mkdir()
        made.append(build(source, out, EPOCH))
    return made


def test_two_builds_of_the_same_sources_give_the_same_bytes(wheels):
    one, other = (path.read_bytes() for path in wheels)
    assert one == other


def test_the_time_in_the_wheel_is_the_one_that_was_given(tool, wheels, tmp_path):
    with zipfile.ZipFile(wheels[0]) as wheel:
        assert {entry.date_time for entry in wheel.infolist()} == {(2023, 11, 14, 22, 13, 20)}
    later = tool("build_wheel").build(checkout(tmp_path / "source", 0o644, 0o022), tmp_path, EPOCH + 2)
    assert later.read_bytes() != wheels[0].read_bytes()


def test_the_wheel_holds_the_package_whole_and_nothing_else(wheels):
    sources = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src/isograft").rglob("*") if path.is_file()}
    with zipfile.ZipFile(wheels[0]) as wheel:
        names = set(wheel.namelist())
        rights = {entry.external_attr >> 16 & 0o7777 for entry in wheel.infolist()}
    package = {name for name in names if ".dist-info/" not in name}
    assert package == {name for name in sources if "__pycache__" not in name}
    assert package >= {"isograft/py.typed", "isograft/__init__.pyi", "isograft/serve/static/index.html", "isograft/study/template.yaml"}
    assert {Path(name).suffix for name in package} == {".py", ".pyi", ".typed", ".json", ".jinja", ".js", ".css", ".html", ".svg", ".yaml"}
    assert {name.partition(".dist-info/")[2] for name in names - package} == {
        "METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE",
    }  # fmt: skip
    assert rights == {0o644}


def test_make_wheel_builds_the_last_commit_and_not_what_lies_in_the_folder(tool, tmp_path):
    if subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True).returncode:
        pytest.skip("this is no git checkout")
    build_commit = tool("build_wheel").build_commit
    one, other = build_commit(tmp_path / "1"), build_commit(tmp_path / "2")
    assert one.read_bytes() == other.read_bytes()
    committed = subprocess.run(["git", "-C", str(ROOT), "ls-tree", "-r", "--name-only", "HEAD", "src/"], capture_output=True, text=True)
    with zipfile.ZipFile(one) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == {line.removeprefix("src/") for line in committed.stdout.splitlines()}
