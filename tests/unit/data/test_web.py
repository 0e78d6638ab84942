"""Bytes from a web server that drops, delays, cuts off and refuses."""

from __future__ import annotations

import dataclasses
import time
from email.utils import formatdate

import pytest

from isograft.data import hosts, remote, web
from isograft.data.readers import ReadError
from isograft.errors import IsograftError, Unreachable

BODY = bytes(range(256)) * 300


@pytest.fixture
def file(server) -> str:
    server.files["a.bin"] = BODY
    return server.url("a.bin")


def impatient(monkeypatch: pytest.MonkeyPatch, **changes: float) -> None:
    monkeypatch.setattr(web, "PATIENCE", dataclasses.replace(web.PATIENCE, **changes))


def test_a_file_comes_whole_and_in_pieces(file: str) -> None:
    assert remote.fetch(file) == BODY and remote.length(file) == len(BODY)
    assert remote.fetch(file, 1000, 50) == BODY[1000:1050]
    assert remote.fetch(file, len(BODY) - 3, 50) == BODY[-3:]
    assert remote.fetch(file, 7, 0) == b""


def trouble_of(server, name: str | int):
    return server.status(name) if isinstance(name, int) else getattr(server, name)


@pytest.mark.parametrize("name", ["hangs_up", "cuts_off", 500, 503, 429, "is_silent"])
def test_trouble_that_passes_is_outlived(name: str | int, server, file: str) -> None:
    server.troubles["a.bin"] = [trouble_of(server, name)] * 2
    assert remote.fetch(file) == BODY and len(server.requests) == 3


@pytest.mark.parametrize(
    ("name", "words"),
    [("hangs_up", "closed the connection"), ("cuts_off", "stopped after 38,400 of 76,800 bytes"), (502, "HTTP 502 Bad Gateway")],
)
def test_trouble_that_stays_ends_in_one_sentence_after_a_bounded_number_of_tries(name: str | int, words: str, server, file: str) -> None:
    server.troubles["a.bin"] = [trouble_of(server, name)] * 50
    with pytest.raises(Unreachable, match=rf"a\.bin cannot be fetched: .*{words}.* \(5 tries\); check the network") as caught:
        remote.fetch(file)
    assert len(server.requests) == 5 and not caught.value.gone and caught.value.status == "unreachable"


@pytest.mark.parametrize("wait", ["1", "date"])
def test_retry_after_is_honoured_as_seconds_and_as_a_date(wait: str, server, file: str) -> None:
    wait = formatdate(time.time() + 2, usegmt=True) if wait == "date" else wait
    server.troubles["a.bin"] = [server.status(429, **{"Retry-After": wait})]
    began = time.monotonic()
    assert remote.fetch(file) == BODY
    assert time.monotonic() - began > 0.9


def test_a_server_that_asks_to_wait_too_long_is_not_waited_for(server, file: str) -> None:
    server.troubles["a.bin"] = [server.status(429, **{"Retry-After": "3600"})] * 3
    with pytest.raises(Unreachable, match="HTTP 429 Too Many Requests, which asks to wait 3,600 s \\(1 try\\)"):
        remote.fetch(file)


def test_a_body_that_trickles_in_is_given_up(server, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def trickle(handler, body: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        for number in range(100):
            handler.wfile.write(body[number : number + 1])
            time.sleep(0.05)

    impatient(monkeypatch, tries=1, slowest=1e6)
    server.troubles["a.bin"] = [trickle]
    began = time.monotonic()
    with pytest.raises(Unreachable, match="comes too slowly"):
        remote.fetch(file)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("code", "gone", "words"),
    [(404, True, "Not Found"), (410, True, "Gone"), (403, False, "a signed URL may have expired"), (418, False, "418")],
)
def test_a_clear_no_is_not_asked_again(code: int, gone: bool, words: str, server, file: str) -> None:
    server.troubles["a.bin"] = [server.status(code)]
    with pytest.raises(Unreachable, match=words) as caught:
        remote.fetch(f"{file}?signature=s3cret")
    assert len(server.requests) == 1 and caught.value.gone is gone and "s3cret" not in str(caught.value)


@pytest.mark.parametrize("stated", [True, False])
def test_a_body_larger_than_the_limit_is_refused_while_it_comes(stated: bool, server, file: str, monkeypatch) -> None:
    sent = []

    def bomb(handler, body: bytes) -> None:
        handler.send_response(200)
        if stated:
            handler.send_header("Content-Length", str(1 << 40))
        handler.end_headers()
        for _ in range(2000):
            sent.append(handler.wfile.write(bytes(1 << 16)))

    monkeypatch.setattr(web, "MOST_BYTES", 1 << 20)
    server.troubles["a.bin"] = [bomb]
    with pytest.raises(ReadError, match="more than the limit of 1,048,576") as caught:
        remote.fetch(file)
    assert caught.value.status == "too_large" and len(sent) < 1000


def test_redirects_lead_to_web_servers_only_and_not_in_circles(server, file: str) -> None:
    server.troubles["r"] = [server.status(302, Location="/a.bin")]
    assert remote.fetch(server.url("r")) == BODY
    for place in ("file:///etc/passwd", "ftp://host/x", "data:text/plain,x"):
        server.troubles["r"] = [server.status(302, Location=place)]
        with pytest.raises(Unreachable):
            remote.fetch(server.url("r"))
    server.troubles["r"] = [server.status(302, Location="/r")] * 50
    with pytest.raises(Unreachable):
        remote.fetch(server.url("r"))
    assert len(server.requests) < 40


def test_a_server_without_range_requests_is_named(server, file: str) -> None:
    server.ignores_range = True
    with pytest.raises(IsograftError, match="does not send pieces of a file"):
        remote.fetch(file, 10, 20)
    assert remote.fetch(file) == BODY


def test_a_wrong_piece_is_not_taken(server, file: str) -> None:
    server.troubles["a.bin"] = [
        lambda handler, body: server.answer(handler, 206, body[:20], **{"Content-Range": f"bytes 0-19/{len(body)}"})
    ]
    with pytest.raises(IsograftError, match="does not send pieces"):
        remote.fetch(file, 10, 20)
    short = {"Content-Range": f"bytes 0-4/{len(BODY)}"}
    server.troubles["a.bin"] = [lambda handler, body: server.answer(handler, 206, body[:5], **short)]
    assert remote.fetch(file, 0, 20) == BODY[:20] and len(server.requests) == 3


def test_a_compressed_answer_that_nobody_asked_for_is_refused(server, file: str) -> None:
    server.troubles["a.bin"] = [lambda handler, body: server.answer(handler, 200, body, **{"Content-Encoding": "gzip"})]
    with pytest.raises(Unreachable, match="coding 'gzip'"):
        remote.fetch(file)


def test_a_host_that_fails_again_and_again_is_left_alone_for_a_while(server, file: str, monkeypatch) -> None:
    impatient(monkeypatch, tries=1)
    monkeypatch.setattr(hosts, "FAILURES", 3)
    monkeypatch.setattr(hosts, "REST_SECONDS", 0.3)
    server.troubles["a.bin"] = [server.status(500)] * 3
    for _ in range(3):
        with pytest.raises(Unreachable, match="500"):
            remote.fetch(file)
    with pytest.raises(Unreachable, match="the last 3 requests to its server failed"):
        remote.fetch(file)
    assert len(server.requests) == 3
    time.sleep(0.35)
    assert remote.fetch(file) == BODY


def test_a_network_that_is_down_is_told_in_one_sentence(server, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server.stop()
    with pytest.raises(Unreachable, match=r"Connection refused \(5 tries\)"):
        remote.fetch(file)


@pytest.mark.parametrize(
    ("url", "words"),
    [("ftp://h/a.png", "of the kind ftp://"), ("file:///etc/passwd", "of the kind file://"),
     ("https:///", "names no server"), ("s3://", "names no bucket"),
     ("https://me:word@h/a.png", "holds a user name or password"), ("https://h/a b.png", "%20"), ("https://h/a\n.png", "%20"),
     ("https://h/a.png#x", "%23"), ("https://h:port/a.png", "no valid URL")],
)  # fmt: skip
def test_a_url_that_cannot_be_one_of_an_image_is_refused_before_anything_is_asked(url: str, words: str) -> None:
    with pytest.raises(IsograftError, match=words) as caught:
        remote.fetch(url)
    assert "word@" not in str(caught.value)
