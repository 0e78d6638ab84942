"""A pool read from its shards: the right pixels, few requests, each process its own, and nothing that has changed."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from isograft.data import shard_images
from isograft.data import shards as of_shards
from isograft.data.blocks import LANES
from isograft.data.cache import ImageCache
from isograft.data.ingest import ingest
from isograft.data.loader import Batch, ViewLoader, ViewSpec
from isograft.data.manifest import Manifest
from isograft.data.policy import POLICIES
from isograft.data.preprocess import Preprocess
from isograft.data.shard_images import ShardImages, lie_in_shards
from isograft.errors import IsograftError, Unreachable
from isograft.settings import IngestSettings

PREPROCESS = Preprocess(image_size=16, working_size=20)
BLOCK = 1 << 14
BATCH = 8


@pytest.fixture
def pool(tmp_path: Path, shards) -> Manifest:
    """120 images in three shards, with labels between them."""
    for number in range(3):
        path = tmp_path / "pool" / f"{number}.tar"
        path.parent.mkdir(exist_ok=True)
        members = {}
        for image in range(40 * number, 40 * number + 40):
            members |= {f"{image:03d}.png": shards.png(image), f"{image:03d}.cls": b"a"}
        path.write_bytes(shards.tar(members))
    return ingest(IngestSettings(source=(str(tmp_path / "pool"),), out=tmp_path / "m.parquet")).usable()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """What is read of shards from now on."""
    found: list[tuple[str, int, int]] = []
    real = of_shards.read_bytes

    def noted(file: str, offset: int, size: int) -> bytes:
        found.append((Path(file).name, offset, size))
        return real(file, offset, size)

    monkeypatch.setattr(of_shards, "read_bytes", noted)
    return found


def loader(manifest: Manifest, images: object = None, **options: object) -> ViewLoader:
    images = images or ShardImages(manifest, PREPROCESS).in_blocks(BLOCK)
    chosen = {"threads": 2, **options}
    return ViewLoader(images, manifest.ids(), [ViewSpec(2, 16, POLICIES["general"])], BATCH, 3, **chosen)  # type: ignore[arg-type]


def same(ones: list[Batch], others: list[Batch]) -> bool:
    return len(ones) == len(others) and all(
        torch.equal(one.index, other.index) and all(map(torch.equal, one.views, other.views))
        for one, other in zip(ones, others, strict=True)
    )


def test_ingest_notes_where_in_its_shard_every_image_lies(pool: Manifest, shards, tmp_path: Path) -> None:
    assert lie_in_shards(pool)
    for uri, offset, size in pool.frame.select("uri", "member_offset", "member_size").rows():
        number = int(uri.partition("#")[2][:3])
        assert (tmp_path / uri.partition("#")[0]).read_bytes()[offset : offset + size] == shards.png(number)


def test_images_that_lie_elsewhere_too_are_no_pool_of_shards(pool: Manifest, shards, tmp_path: Path) -> None:
    (tmp_path / "loose").mkdir()
    (tmp_path / "loose" / "a.png").write_bytes(shards.png(500))
    both = ingest(IngestSettings(source=(str(tmp_path / "pool"), str(tmp_path / "loose")), out=tmp_path / "both.parquet"))
    assert both.frame["member_offset"].null_count() == 1 and not lie_in_shards(both)
    loose = ingest(IngestSettings(source=(str(tmp_path / "loose"),), out=tmp_path / "loose.parquet"))
    assert "member_offset" not in loose.frame.columns and not lie_in_shards(loose)


def test_the_pixels_are_those_of_the_cache_one_by_one_and_in_blocks(pool: Manifest, tmp_path: Path) -> None:
    cached = ImageCache.build(pool, PREPROCESS, tmp_path / "cache", threads=1)
    single = ShardImages(pool, PREPROCESS)
    blocks = single.in_blocks(BLOCK)
    assert len(single) == len(blocks) == 120
    assert np.array_equal(single.shapes, cached.shapes) and np.array_equal(blocks.shapes, cached.shapes)
    for row in range(120):
        assert np.array_equal(single[row], cached[row]) and np.array_equal(blocks[row], cached[row])


def test_rows_in_another_order_are_still_the_images_they_name(pool: Manifest) -> None:
    turned = pool.take(np.random.default_rng(0).permutation(120))
    rows = [(one, int(np.flatnonzero(turned.ids() == pool.ids()[one])[0])) for one in range(0, 120, 7)]
    here, there = ShardImages(pool, PREPROCESS), ShardImages(turned, PREPROCESS).in_blocks(BLOCK)
    assert all(np.array_equal(here[one], there[other]) for one, other in rows)


def test_an_epoch_reads_every_block_once(pool: Manifest, reads: list) -> None:
    images = ShardImages(pool, PREPROCESS).in_blocks(BLOCK)
    assert images.blocks.max() >= 20  # more than one window for every lane
    assert len(list(loader(pool, images).epoch(0))) == 15
    assert len(reads) == images.blocks.max() + 1 and set(Counter(reads).values()) == {1}


def test_a_block_that_was_let_go_is_read_again_only_where_the_cut_between_two_lanes_goes_through_it(pool: Manifest, reads: list) -> None:
    images = ShardImages(pool, PREPROCESS).in_blocks(1 << 13)
    assert images.blocks.max() > 50  # more than are held
    list(loader(pool, images).epoch(0))
    assert images.blocks.max() + 1 <= len(reads) <= images.blocks.max() + LANES and max(Counter(reads).values()) <= 2


def test_what_is_held_does_not_grow_with_the_pool(pool: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_images, "LANES", 2)
    images = ShardImages(pool, PREPROCESS).in_blocks(1)  # every image a block
    most = 0
    for _ in loader(pool, images, threads=1).epoch(0):
        most = max(most, len(images._held))
    assert 4 < most <= 2 * 2 * 3


@pytest.mark.parametrize("threads", [1, 4])
def test_any_number_of_threads_gives_the_same_bytes(pool: Manifest, threads: int) -> None:
    assert same(list(loader(pool, threads=threads).epoch(1)), list(loader(pool).epoch(1)))


@pytest.mark.parametrize("ranks", [2, 4])
def test_processes_read_their_own_blocks_and_see_together_what_one_sees(pool: Manifest, reads: list, ranks: int) -> None:
    whole = list(loader(pool).epoch(2))
    reads.clear()
    shares, read = [], []
    for rank in range(ranks):
        shares.append(list(loader(pool, rank=rank, world_size=ranks).epoch(2)))
        read.append(set(reads))
        reads.clear()
    blocks = set.union(*read)
    assert sum(map(len, read)) - len(blocks) <= ranks - 1  # a block may lie on the cut between two
    assert max(map(len, read)) <= len(blocks) / ranks + 2
    for number, batch in enumerate(whole):
        assert torch.equal(torch.cat([share[number].index for share in shares]), batch.index)
        for place, view in enumerate(batch.views):
            assert torch.equal(torch.cat([share[number].views[place] for share in shares]), view)


def test_an_epoch_entered_late_goes_on_as_one_never_left_and_skips_what_is_behind(pool: Manifest, reads: list) -> None:
    wanted = list(loader(pool).epoch(5))
    everything = len(set(reads))
    reads.clear()
    assert same(list(loader(pool).epoch(5, start=11)), wanted[11:])
    assert len(set(reads)) < everything


def test_what_was_to_be_read_ahead_is_not_begun_once_the_epoch_is_left(pool: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    images = ShardImages(pool, PREPROCESS).in_blocks(1 << 13)
    begun, busy, go_on = [], threading.Barrier(5), threading.Event()
    real = of_shards.read_bytes

    def slow(file: str, offset: int, size: int) -> bytes:
        begun.append(offset)
        busy.wait(60)
        go_on.wait(60)
        return real(file, offset, size)

    monkeypatch.setattr(of_shards, "read_bytes", slow)
    first = int(images.order(3, 0, BATCH, 0, 1)[0])
    asking = threading.Thread(target=lambda: images[first])
    asking.start()
    busy.wait(60)  # four readers are at work
    patience = time.monotonic() + 60
    while len(images._held) <= 4:  # and more is asked for
        assert time.monotonic() < patience
        time.sleep(0.01)
    images.stop()
    go_on.set()
    asking.join(60)
    images._readers.shutdown()
    assert len(begun) == len(images._held) == 4


def test_leaving_an_epoch_stops_the_reading_ahead(pool: Manifest) -> None:
    images = ShardImages(pool, PREPROCESS).in_blocks(BLOCK)
    epoch = loader(pool, images).epoch(0)
    next(epoch)
    assert images._coming
    epoch.close()  # type: ignore[attr-defined]
    assert not images._coming


def test_images_read_one_by_one_are_read_once_while_there_is_room(pool: Manifest, reads: list, monkeypatch: pytest.MonkeyPatch) -> None:
    images = ShardImages(pool, PREPROCESS)
    first = [images[row].copy() for row in (5, 9, 5)]
    assert len(reads) == 2 and np.array_equal(first[0], first[2])
    monkeypatch.setattr(shard_images, "KEPT_BYTES", 10)
    images[20]
    assert not images._kept and images._kept_bytes == 0


def test_an_image_that_was_replaced_by_another_of_the_same_length_is_refused_by_name(pool: Manifest, shards, tmp_path: Path) -> None:
    path = tmp_path / "pool" / "1.tar"
    data, old = bytearray(path.read_bytes()), shards.png(50)
    new = next(one for one in map(shards.png, range(1000, 5000)) if len(one) <= len(old))
    place = data.index(old)
    data[place : place + len(old)] = new.ljust(len(old), b"\0")
    path.write_bytes(data)
    images = ShardImages(pool, PREPROCESS)
    for one in (images, images.in_blocks(BLOCK)):
        with pytest.raises(IsograftError, match=r"1\.tar#050\.png has changed since the manifest was made"):
            one[50]
    assert images[51].shape == (20, 25, 3)  # its neighbours are still what they were


def test_a_shard_that_was_written_anew_or_cut_off_or_is_gone_is_refused(pool: Manifest, shards, tmp_path: Path) -> None:
    path = tmp_path / "pool" / "2.tar"
    whole = path.read_bytes()
    path.write_bytes(shards.tar({"x.txt": b"?" * 700}) + whole)
    with pytest.raises(IsograftError, match=r"2\.tar#\d+\.png (has changed|cannot be read)"):
        list(loader(pool).epoch(0))
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(IsograftError, match=r"2\.tar#119\.png cannot be read any more"):
        ShardImages(pool, PREPROCESS).in_blocks(BLOCK)[119]
    path.unlink()
    with pytest.raises(IsograftError, match=r"2\.tar#\d+\.png cannot be read any more"):
        list(loader(pool).epoch(0))


def test_shards_behind_a_server_are_read_in_ranges_and_a_failure_is_tried_again(server, shards, tmp_path: Path) -> None:
    server.files["p/0.tar"] = shards.tar({f"{number:03d}.png": shards.png(number) for number in range(40)})
    manifest = ingest(IngestSettings(source=(server.url("p/0.tar"),), out=tmp_path / "m.parquet")).usable()
    wanted = list(loader(manifest).epoch(0))
    images = ShardImages(manifest, PREPROCESS).in_blocks(BLOCK)
    server.requests.clear()
    server.troubles["p/0.tar"] = [server.status(503), server.hangs_up]
    assert same(list(loader(manifest, images).epoch(0)), wanted)
    assert len(server.requests) == images.blocks.max() + 1 + 2 and all(asked for _, asked in server.requests)
    server.files.clear()
    images = ShardImages(manifest, PREPROCESS).in_blocks(BLOCK)
    with pytest.raises(Unreachable):
        images[0]


def test_a_block_that_could_not_be_had_is_asked_for_again(pool: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    images = ShardImages(pool, PREPROCESS).in_blocks(BLOCK)
    real, broken = of_shards.read_bytes, threading.Event()
    broken.set()

    def flaky(file: str, offset: int, size: int) -> bytes:
        if broken.is_set():
            raise Unreachable(file, "the network is down")
        return real(file, offset, size)

    monkeypatch.setattr(of_shards, "read_bytes", flaky)
    with pytest.raises(Unreachable):
        images[3]
    broken.clear()
    assert images[3].shape == (20, 25, 3)
