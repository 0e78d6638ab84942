from __future__ import annotations

import unicodedata
from pathlib import Path

import polars as pl
import pytest

from isograft.data.files import ImageFile
from isograft.data.tables import AMBIGUOUS, CONFLICTING, MISSING, REPEATED, UNLISTED, FileIndex, Problems, Table, match, read_table
from isograft.errors import IsograftError

NO_ROLES: dict[str, str | None] = {"label": None, "group": None, "source": None, "split": None}


def images(*names: str, root: str = "/data") -> list[ImageFile]:
    return [ImageFile(f"{root}/{name}", root, name) for name in names]


def index(*names: str, folder: str = "/data") -> FileIndex:
    return FileIndex(images(*names), Path(folder))


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("cell", ["a.png", "a", "x/a.png", "x/a", "./x/a.png", "x\\a.png", "/data/x/a.png", "data/x/a", "../data/x/a.png"])
def test_a_cell_names_a_file_with_or_without_folder_and_extension(cell: str) -> None:
    assert index("x/a.png", "x/b.png").find(cell) == [0]


@pytest.mark.parametrize("cell", ["c.png", "a.jpg", "y/a.png", "x", "", None, "ab", ".", "/other/x/a.png"])
def test_a_cell_that_names_another_file_finds_nothing(cell: str | None) -> None:
    assert index("x/a.png").find(cell) == []


def test_names_with_dots_are_no_extensions() -> None:
    assert index("scan.1.png", "scan.2.png").find("scan.2") == [1]


def test_equal_names_in_different_folders_need_the_folder() -> None:
    files = index("x/a.png", "y/a.png", "a.jpg", "a.png")
    assert files.find("x/a.png") == [0]
    assert files.find("a.jpg") == [2]
    assert len(files.find("a")) == 4
    assert files.find("a.png") == [3]  # it lies exactly there, as seen from the table


def test_accents_match_in_either_unicode_form() -> None:
    name = "Läsion é.png"
    assert index(unicodedata.normalize("NFD", name)).find(unicodedata.normalize("NFC", name)) == [0]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_path_column_is_the_one_that_finds_most_files(separator: str, tmp_path: Path) -> None:
    lines = ["patient,file,age", "1,1,50", "1,2,60", "2,3,70"]
    table = read_table(
        write(tmp_path / "t.csv", "\n".join(lines).replace(",", separator)), index("1.png", "2.png", "3.png"), None, NO_ROLES
    )
    assert table.path_column == "file"
    assert table.frame["age"].dtype == pl.Int64


def test_roles_are_text_and_columns_called_like_a_role_are_taken(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "\ufefffile,label,patient\na.png, 01 ,007\nb.png,,8\n")
    table = read_table(path, index("a.png", "b.png"), None, NO_ROLES | {"group": "patient"})
    assert table.role("label").to_list() == ["01", None]
    assert table.role("group").to_list() == ["007", "8"]
    assert table.role("source") is None


@pytest.mark.parametrize(
    ("text", "roles", "words"),
    [
        ("file,x\n", {}, "no rows"),
        ("file\nzzz.png\n", {}, "--path-column"),
        ("file\na.png\n", {"label": "dx"}, "no column dx for --label-column"),
    ],
)
def test_a_table_that_cannot_serve_is_refused(text: str, roles: dict[str, str], words: str, tmp_path: Path) -> None:
    with pytest.raises(IsograftError, match=words):
        read_table(write(tmp_path / "t.csv", text), index("a.png"), None, NO_ROLES | roles)


def test_a_table_that_is_no_text_or_absent_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"file\nL\xe4sion.png\n")
    with pytest.raises(IsograftError, match="UTF-8"):
        read_table(tmp_path / "t.csv", index("a.png"), None, NO_ROLES)
    with pytest.raises(IsograftError, match="none"):
        read_table(tmp_path / "none.csv", index("a.png"), None, NO_ROLES)


def matched(
    cells: list[str], labels: list[str], *names: str, keep: list[bool] | None = None
) -> tuple[list[int | None], set[int], Problems]:
    frame = pl.DataFrame({"file": cells, "label": labels})
    table = Table(Path("/data/t.csv"), frame, "file", {"label": "label"})
    return match(table, index(*names), images(*names), pl.Series(keep or [True] * len(cells)))


def test_a_table_that_fits_has_no_problems() -> None:
    rows, unwanted, problems = matched(["b", "a"], ["1", "2"], "a.png", "b.png")
    assert rows == [1, 0] and not unwanted and not problems


def test_everything_that_does_not_fit_is_named() -> None:
    rows, _, problems = matched(
        ["a", "a", "b", "b", "gone.png", "c"], ["1", "1", "1", "2", "1", "1"], "a.png", "b.png", "x/c.png", "y/c.png", "d.png"
    )
    assert rows == [0, 2, None, None, None]
    assert problems.found == {
        REPEATED: ["a", "b"], MISSING: ["gone.png"], AMBIGUOUS: ["c (x/c.png, y/c.png)"], CONFLICTING: ["b.png (1, 2)"],
        UNLISTED: ["x/c.png", "y/c.png", "d.png"],
    }  # fmt: skip


def test_unwanted_rows_claim_their_files_and_are_never_missing() -> None:
    rows, unwanted, problems = matched(["a", "b", "gone"], ["1", "2", "3"], "a.png", "b.png", keep=[True, False, False])
    assert rows == [0, None] and unwanted == {1} and not problems


def test_a_list_of_problems_shows_ten_names_and_counts_the_rest() -> None:
    problems = Problems()
    problems.add(MISSING, [f"{n}.png" for n in range(13)])
    assert str(problems).startswith("13 CSV rows without a file: 0.png, ")
    assert str(problems).endswith("9.png and 3 more")
