"""Tables whose cells name their files exactly: no folder is listed, and anything less exact is left to the search."""

from __future__ import annotations

from pathlib import Path

import pytest

from isograft.data.named import NamedFiles, read_named
from isograft.errors import IsograftError

NO_ROLES: dict[str, str | None] = {}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "x").mkdir()
    for name in ("a.png", "x/b.JPG", "note.txt"):
        (tmp_path / name).touch()
    return tmp_path


def table(folder: Path, text: str) -> Path:
    (folder / "t.csv").write_text(text)
    return folder / "t.csv"


@pytest.mark.parametrize("cell", ["x/b.JPG", "./x/b.JPG", "x\\b.JPG", "x/../x/b.JPG", "{folder}/x/b.JPG"])
def test_a_cell_names_a_file_relative_to_the_table_or_absolutely(cell: str, folder: Path) -> None:
    assert NamedFiles(folder).find(cell.format(folder=folder)) == [str(folder / "x" / "b.JPG")]


@pytest.mark.parametrize("cell", ["b.JPG", "a", "note.txt", "x", "", None, "gone.png"])
def test_what_is_no_exact_name_of_an_image_finds_nothing(cell: str | None, folder: Path) -> None:
    assert NamedFiles(folder).find(cell) == []


def test_the_column_that_names_files_is_found_and_every_wanted_row_has_its_file(folder: Path) -> None:
    named = read_named(table(folder, "age,file\n50,a.png\n60,x/b.JPG\n70,gone.png\n"), None, NO_ROLES, "age < 65")
    assert named is not None
    assert named.table.path_column == "file" and named.rows["age"].to_list() == [50, 60]
    assert named.paths == [str(folder / "a.png"), str(folder / "x" / "b.JPG")]
    assert [(image.root, image.relative) for image in named.images()] == [(str(folder), "a.png"), (str(folder), "x/b.JPG")]


def test_a_file_named_twice_is_listed_once_and_one_elsewhere_belongs_to_its_own_folder(folder: Path) -> None:
    (folder / "t").mkdir()
    named = read_named(table(folder / "t", f"file\n../a.png\n../a.png\n{folder}/x/b.JPG\n"), None, NO_ROLES, None)
    assert named is not None and len(named.paths) == 3
    assert [(image.root, image.relative) for image in named.images()] == [(str(folder), "a.png"), (str(folder / "x"), "b.JPG")]


@pytest.mark.parametrize(
    "text", ["file\na.png\ngone.png\n", "file\na.png\nb.JPG\n", "file,n\na.png,1\n,2\n", "name\na\n", "file\nnote.txt\n"]
)
def test_one_row_without_an_exact_name_leaves_all_to_the_search(text: str, folder: Path) -> None:
    assert read_named(table(folder, text), None, NO_ROLES, None) is None


def test_what_is_wrong_with_the_table_itself_is_said_at_once(folder: Path) -> None:
    with pytest.raises(IsograftError, match="no column wrong for --path-column"):
        read_named(table(folder, "file\na.png\n"), "wrong", NO_ROLES, None)
    with pytest.raises(IsograftError, match="cannot be applied"):
        read_named(table(folder, "file\na.png\n"), None, NO_ROLES, "age > 3")
