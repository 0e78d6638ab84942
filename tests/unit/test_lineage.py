"""Leaks are found by pixels and by group, however far back the image was seen."""

from hashlib import sha256

import polars as pl
import pytest

from isograft.data.manifest import Manifest, arrange
from isograft.errors import LeakageError
from isograft.lineage import SEEN_SCHEMA, leaks, merge_seen, refuse, seen_rows


def manifest(*rows: tuple[str, str | None]) -> Manifest:
    frame = pl.DataFrame(
        {
            "id": [pixels[:1] * 16 for pixels, _ in rows],
            "uri": [f"{index}.png" for index in range(len(rows))],
            "group": [group for _, group in rows],
            "pixel_hash": [pixels for pixels, _ in rows],
            "perceptual_hash": [int(sha256(pixels.encode()).hexdigest()[:16], 16) for pixels, _ in rows],
            "status": ["ok"] * len(rows),
        },
        schema_overrides={"group": pl.String, "perceptual_hash": pl.UInt64},
    )
    return Manifest(arrange(frame))


POOL = seen_rows(manifest(("aa", "ann"), ("bb", None)), "pool", "vienna")


def test_the_same_pixels_leak_whatever_their_name_or_group():
    found = leaks(POOL, manifest(("cc", None), ("bb", "zoe")))
    assert found.to_dicts() == [{"row": 1, "uri": "1.png", "reason": "same pixels", "role": "pool", "origin": "vienna"}]


def test_another_image_of_the_same_group_leaks():
    found = leaks(POOL, manifest(("cc", "ann"), ("dd", "ben")))
    assert found["row"].to_list() == [0] and found["reason"].to_list() == ["same group"]


def test_images_without_a_group_do_not_leak_through_having_none():
    assert leaks(POOL, manifest(("cc", None), ("dd", None))).is_empty()


def test_an_image_is_listed_once_with_the_stronger_reason():
    twice = merge_seen([POOL], seen_rows(manifest(("aa", "ann")), "train", "lesions"))
    found = leaks(twice, manifest(("aa", "ann")))
    assert found["reason"].to_list() == ["same pixels"]


def test_a_leak_is_found_two_generations_later():
    child = merge_seen([POOL], seen_rows(manifest(("ee", "eve")), "train", "lesions"))
    grandchild = merge_seen([child], seen_rows(manifest(("ff", None)), "train", "feet"))
    assert leaks(grandchild, manifest(("xx", "ann"), ("bb", None), ("yy", "eve"), ("zz", "new")))["row"].to_list() == [0, 1, 2]


def test_names_of_groups_are_not_stored():
    assert "ann" not in str(POOL.rows()) and POOL["group_hash"].null_count() == 1


def test_merging_is_sorted_and_holds_each_row_once():
    own = seen_rows(manifest(("zz", None)), "train", "x")
    merged = merge_seen([POOL, POOL], own)
    assert merged.equals(merge_seen([own], POOL)) and len(merged) == 3
    assert dict(merged.schema) == {name: kind() for name, kind in SEEN_SCHEMA.items()}


def test_nothing_seen_is_nothing_leaked():
    assert leaks(pl.DataFrame(schema=SEEN_SCHEMA), manifest(("aa", "ann"))).is_empty()


def test_refusing_lists_the_images_and_counts_the_rest():
    found = leaks(POOL, manifest(*[(f"c{n}", "ann") for n in range(8)]))
    with pytest.raises(LeakageError, match=r"8 of 9 images were seen by m .*0\.png \(same group, pool of vienna\).*and 3 more") as caught:
        refuse(found, 9, "m")
    assert caught.value.exit_code == 3


def test_refusing_lets_unseen_images_pass():
    found = leaks(POOL, manifest(("cc", None)))
    refuse(found, 1, "m")
    assert not len(found)


def test_a_near_duplicate_of_a_seen_image_leaks_and_an_image_that_is_only_alike_does_not():
    def one(pixels: str, hashed: int, look: str) -> Manifest:
        table = manifest((pixels, None)).frame
        return Manifest(table.with_columns(perceptual_hash=pl.lit(hashed, pl.UInt64), look=pl.lit(look)))

    seen = seen_rows(one("aa", 0x0F1E2D3C4B5A6978, "00" * 32), "pool", "vienna")
    copy, alike = (one("bb", 0x0F1E2D3C4B5A697C, look) for look in ("01" + "00" * 31, "f0" * 32))
    assert leaks(seen, copy).select("reason", "role", "origin").rows() == [("near-duplicate", "pool", "vienna")]
    assert leaks(seen, alike).is_empty()
