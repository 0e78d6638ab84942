from __future__ import annotations

import os
from pathlib import Path

import pytest

from isograft.data.files import find_images, folder_labels
from isograft.errors import IsograftError


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def found(*sources: Path) -> list[str]:
    return [image.relative for image in find_images(sources).images]


def labels(root: Path) -> dict[str, tuple[str | None, str | None]]:
    images = find_images([root]).images
    return dict(zip((image.relative for image in images), folder_labels(images), strict=True))


def test_images_are_found_to_any_depth_in_sorted_order_and_other_files_are_named(tmp_path: Path) -> None:
    tree(tmp_path, "b/2.PNG", "b/1.jpg", "a/deep/3.tiff", "readme.txt", "ü/Bild ä.webp")
    listing = find_images([tmp_path])
    assert [image.relative for image in listing.images] == ["a/deep/3.tiff", "b/1.jpg", "b/2.PNG", "ü/Bild ä.webp"]
    assert listing.others == [str(tmp_path / "readme.txt")]


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    assert found(tree(tmp_path, "1.png", ".2.png", ".git/3.png", "__MACOSX/4.png", "._5.jpg")) == ["1.png"]


def test_loops_of_links_end_and_each_folder_is_entered_once(tmp_path: Path) -> None:
    tree(tmp_path, "a/1.png")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path / "a")
    assert found(tmp_path) == ["a/1.png"]


def test_a_link_to_nowhere_is_listed(tmp_path: Path) -> None:
    tree(tmp_path, "1.png")
    (tmp_path / "2.png").symlink_to(tmp_path / "gone.png")
    assert found(tmp_path) == ["1.png", "2.png"]


def test_overlapping_sources_list_an_image_once(tmp_path: Path) -> None:
    tree(tmp_path, "a/1.png", "2.png")
    assert found(tmp_path, tmp_path / "a") == ["2.png", "a/1.png"]
    assert found(tmp_path / "2.png", tmp_path) == ["2.png", "a/1.png"]


def test_a_named_file_is_taken_whatever_its_suffix(tmp_path: Path) -> None:
    assert found(tree(tmp_path, "scan.dat") / "scan.dat") == ["scan.dat"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("empty", "holds no image"), ("texts", "1 other files, such as a.txt"), ("none", "does not exist"),
     ("m.parquet", "is a manifest already"), ("t.csv", "--labels")],
)  # fmt: skip
def test_a_source_without_images_is_refused(name: str, words: str, tmp_path: Path) -> None:
    tree(tmp_path, "texts/a.txt", "m.parquet", "t.csv", "good/1.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(IsograftError, match=words) as caught:
        find_images([tmp_path / "good", tmp_path / name])
    assert name in str(caught.value)


def test_a_folder_that_cannot_be_read_is_refused_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "good/1.png", "locked/2.png")
    real = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(IsograftError, match="locked cannot be read: Permission denied"):
        find_images([tmp_path])


def test_the_top_folder_is_the_class(tmp_path: Path) -> None:
    tree(tmp_path, "nevus/1.png", "melanoma/p7/2.png", "3.png")
    assert labels(tmp_path) == {"nevus/1.png": ("nevus", None), "melanoma/p7/2.png": ("melanoma", None), "3.png": (None, None)}


def test_folders_called_like_splits_are_splits(tmp_path: Path) -> None:
    tree(tmp_path, "train/a/1.png", "test/b/2.png")
    assert labels(tmp_path) == {"train/a/1.png": ("a", "train"), "test/b/2.png": ("b", "test")}


def test_a_lone_generic_folder_is_no_class_but_a_lone_class_is(tmp_path: Path) -> None:
    assert labels(tree(tmp_path / "x", "images/1.png")) == {"images/1.png": (None, None)}
    assert labels(tree(tmp_path / "y", "melanoma/1.png")) == {"melanoma/1.png": ("melanoma", None)}
