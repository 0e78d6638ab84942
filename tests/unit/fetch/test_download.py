from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isograft.fetch.client import Client, Refused, Unreachable, check_url
from isograft.fetch.download import Item, download

BODY = b"\xff\xd8\xff" + bytes(range(256)) * 2000


@pytest.fixture
def item(replay, tmp_path: Path) -> Item:
    replay.bodies["/a.jpg"] = BODY
    return Item(f"{replay.base}/a.jpg", tmp_path / "a.jpg", "image", 1 << 20, size=len(BODY))


def got(client: Client, item: Item) -> bytes:
    received = download(client, item, item.target.with_name("part"))
    content = item.target.read_bytes()
    assert received == (len(content), hashlib.sha256(content).hexdigest())
    assert [path.name for path in item.target.parent.iterdir()] == [item.target.name]
    return content


@pytest.mark.parametrize("fault", ["drop", 429, 503, "html", "larger"])
def test_a_fault_that_passes_leaves_the_whole_file(replay, client, item, fault) -> None:
    replay.faults["/a.jpg"] = [fault]
    assert got(client, item) == BODY


def test_a_dropped_file_goes_on_where_it_stopped(replay, client, item) -> None:
    replay.faults["/a.jpg"] = ["drop"]
    assert got(client, item) == BODY
    assert [asked for _, asked in replay.asked] == [None, f"bytes={len(BODY) // 2}-"]


def test_a_file_dropped_more_often_than_there_are_attempts_is_got_while_it_grows(replay, client, item) -> None:
    replay.bodies["/a.jpg"] = BODY * 20
    replay.faults["/a.jpg"] = ["drop", 503, 503, "drop", 503, "drop"]
    replay_item = Item(item.url, item.target, "image", 1 << 30, size=len(BODY) * 20)
    with pytest.raises(Unreachable):
        got(client, replay_item)
    assert got(client, replay_item) == BODY * 20


def test_without_a_version_nothing_old_is_continued(replay, client, item) -> None:
    replay.etags = False
    replay.faults["/a.jpg"] = ["drop"]
    assert got(client, item) == BODY
    assert [asked for _, asked in replay.asked] == [None, None]


@pytest.mark.parametrize("setup", ["no-ranges", "wrong-range"])
def test_a_server_that_cannot_give_parts_gives_the_whole(replay, client, item, setup) -> None:
    replay.ranges = setup != "no-ranges"
    replay.faults["/a.jpg"] = ["drop", setup]
    assert got(client, item) == BODY


def test_a_file_whose_md5_is_wrong_is_fetched_once_more_and_then_refused(replay, client, item) -> None:
    wrong = Item(item.url, item.target, "image", 1 << 20, md5="0" * 32)
    with pytest.raises(Refused, match="MD5"):
        got(client, wrong)
    assert len(replay.asked) == 2
    assert not list(item.target.parent.iterdir())


@pytest.mark.parametrize(("fault", "said"), [("html", "no image"), ("larger", "announced"), ("drop", "broke off"), (404, "404")])
def test_a_fault_that_stays_is_named_and_leaves_no_file(replay, client, item, fault, said) -> None:
    replay.faults["/a.jpg"] = [fault] * 100
    with pytest.raises(Refused, match=said):
        got(client, item)
    assert not item.target.exists()


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://user@127.0.0.1/x", "gopher://x", "/a.jpg"])
def test_a_redirect_elsewhere_or_in_circles_is_refused(replay, client, item, target) -> None:
    replay.faults["/a.jpg"] = [f"redirect:{target}"] * 100
    with pytest.raises(Refused):
        got(client, item)
    assert not item.target.exists()


def test_a_good_redirect_is_followed(replay, client, item) -> None:
    replay.bodies["/b.jpg"] = BODY
    replay.faults["/a.jpg"] = [f"redirect:{replay.base}/b.jpg"]
    assert got(client, item) == BODY


def test_https_is_never_left_for_http() -> None:
    with pytest.raises(Refused):
        check_url("http://example.org/x", secure=True)


@given(st.text(max_size=60))
def test_any_text_as_an_address_is_http_or_refused(text: str) -> None:
    try:
        check_url(text)
    except Refused:
        return
    assert text.lower().startswith("http")


def test_a_server_that_asks_for_too_long_a_wait_is_given_up_at_once(replay, item) -> None:
    replay.retry_after = "3600"
    replay.faults["/a.jpg"] = [429] * 9
    with pytest.raises(Unreachable, match="3,600 s"):
        download(Client(backoff=0.01), item, item.target.with_name("part"))
    assert len(replay.asked) == 1


def test_a_wait_the_server_asks_for_is_kept(replay, client, item) -> None:
    replay.retry_after = "0.3"
    replay.faults["/a.jpg"] = [503]
    began = time.monotonic()
    assert got(client, item) == BODY
    assert time.monotonic() - began >= 0.3


def test_a_server_that_says_nothing_is_given_up(item) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        silent = Item(f"http://127.0.0.1:{mute.getsockname()[1]}/a.jpg", item.target, "image", 99)
        with pytest.raises(Unreachable):
            download(Client(timeout=0.1, attempts=2, backoff=0.01), silent, item.target.with_name("part"))


def test_a_server_that_trickles_is_given_up(item) -> None:
    def trickle(server: socket.socket) -> None:
        connection = server.accept()[0]
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(b"x")
                time.sleep(0.02)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=trickle, args=(server,))
        thread.start()
        slow = Item(f"http://127.0.0.1:{server.getsockname()[1]}/a.jpg", item.target, "image", 1 << 20)
        with pytest.raises(Unreachable, match="bytes came in"):
            download(Client(attempts=1, stall=0.2), slow, item.target.with_name("part"))
        thread.join()
