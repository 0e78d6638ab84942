"""The index of a tar file, of whole ones as tarfile has it, and of hostile ones."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import tarfile
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isograft.data.readers import ReadError
from isograft.data.tar import Contents, Piecewise, scan

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def window(data: bytes, block: int = 8192) -> Piecewise:
    return Piecewise(lambda start, count: data[start : start + count], len(data), block)


def scanned(data: bytes, **options: Any) -> Contents:
    return scan(window(data), **options)


def refusal(data: bytes) -> tuple[str, str]:
    began = time.monotonic()
    with pytest.raises(ReadError) as caught:
        scanned(data)
    assert time.monotonic() - began < 5
    return caught.value.status, caught.value.reason


def harmless(data: bytes) -> None:
    """It is refused, or its members lie in it; both at once."""
    began = time.monotonic()
    with contextlib.suppress(ReadError):
        assert all(0 <= one.offset <= one.offset + one.size <= len(data) for one in scanned(data).members.values())
    assert time.monotonic() - began < 5


def one_member(**changes: Any) -> bytes:
    info = tarfile.TarInfo("a.png")
    for name, value in changes.items():
        setattr(info, name, value)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(info)
    return stream.getvalue()


def header(name: bytes = b"a.png", size: bytes = b"00000000000\0", kind: bytes = b"0") -> bytes:
    """A ustar header with a right checksum, whatever it says."""
    block = bytearray(512)
    block[: len(name)] = name
    block[100:108], block[108:116], block[116:124] = b"0000644\0", b"0000000\0", b"0000000\0"
    block[124:136], block[136:148], block[148:156], block[156:157] = size, b"00000000000\0", b" " * 8, kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\\:"), min_size=1, max_size=140).filter(
    lambda name: name not in (".", "..") and len(name.encode()) < 250
)


@settings(max_examples=60)
@given(
    members=st.dictionaries(NAMES, st.binary(max_size=2000), min_size=1, max_size=8),
    kind=st.sampled_from(FORMATS[1:]),
    block=st.sampled_from([512, 4096, 1 << 20]),
)
def test_every_member_lies_where_tarfile_finds_it(members: dict[str, bytes], kind: int, block: int) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=kind) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    data = stream.getvalue()
    found = scan(window(data, block), keep={name.partition(".")[2].lower() for name in members})
    assert {name: data[one.offset : one.offset + one.size] for name, one in found.members.items()} == members == found.kept


@settings(max_examples=300)
@given(st.binary(max_size=3000))
def test_random_bytes_are_an_empty_tar_or_refused(data: bytes) -> None:
    with contextlib.suppress(ReadError):
        assert not scanned(data).members


def test_a_tar_cut_off_anywhere_is_refused(shards) -> None:
    data = shards.tar({"a.png": b"x" * 700, "b.png": b"y" * 100})
    end = 512 + 1024 + 512 + 512
    for cut in [*range(0, end + 1, 37), 512, 1536, 2048, end]:
        assert refusal(data[:cut])[0] in ("truncated", "empty", "corrupt"), cut
    assert list(scanned(data[: end + 512]).members) == ["a.png", "b.png"]


@settings(max_examples=150)
@given(at=st.integers(0, 2559), value=st.integers(0, 255))
def test_a_flipped_byte_never_crashes_and_never_hides_a_member(at: int, value: int) -> None:
    data = bytearray(one_member(name="a.png")[:512] + header(b"b.png") + header(b"c.png") + bytes(1024))
    data[at] = value
    with contextlib.suppress(ReadError):
        assert len(scanned(bytes(data)).members) == 3


def test_a_broken_header_in_the_middle_is_no_end() -> None:
    assert refusal(header() + b"garbage".ljust(512, b"x") + header(b"b.png") + bytes(1024))[0] == "corrupt"


def test_one_archive_behind_another_is_told() -> None:
    status, reason = refusal(header() + bytes(1024) + header(b"b.png") + bytes(1024))
    assert status == "corrupt" and "lies something else" in reason


@pytest.mark.parametrize("name", ["/etc/passwd", "../a.png", "x/../../a.png", "x\\..\\a.png", "C:/a.png", "\\\\server\\a.png"])
def test_names_that_lead_out_are_refused(name: str) -> None:
    status, reason = refusal(one_member(name=name))
    assert status == "unsupported" and "leads out" in reason


@pytest.mark.parametrize(
    ("kind", "words"),
    [(tarfile.SYMTYPE, "a link"), (tarfile.LNKTYPE, "a link"), (tarfile.CHRTYPE, "a device"), (tarfile.BLKTYPE, "a device"),
     (tarfile.FIFOTYPE, "no ordinary file")],
)  # fmt: skip
def test_links_and_devices_are_refused(kind: bytes, words: str) -> None:
    assert words in refusal(one_member(type=kind, linkname="/etc/passwd"))[1]


def test_sparse_members_are_refused() -> None:
    pax = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "0,1", "GNU.sparse.size": "99999999999"}
    assert "a sparse file" in refusal(one_member(pax_headers=pax))[1]


def test_a_member_twice_is_refused(shards) -> None:
    assert "twice" in refusal(header() + header() + bytes(1024))[1]


SIZES = [
    b"77777777777\0", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"\xff" * 4 + struct.pack(">q", -512), b"-0000000512\0", b"99999999999\0",
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_hostile_sizes_are_refused(size: bytes) -> None:
    refusal(header(size=size) + header(b"b.png") + bytes(2048))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K", b"S", b"7", b"V"])
def test_hostile_sizes_of_extended_headers_end_at_once(size: bytes, kind: bytes) -> None:
    harmless(header(size=size, kind=kind) + header(b"b.png") + bytes(2048))


@pytest.mark.parametrize(
    "text", [b"20 size=-1000000000\n", b"28 size=9999999999999999999\n", b"0 size=1\n", b"99999999 size=1\n", b"13 path=/etc\n"]
)
def test_hostile_pax_records_end_at_once(text: bytes) -> None:
    harmless(header(kind=b"x", size=b"%011o\0" % len(text)) + text.ljust(512, b"\0") + header() + bytes(1024))


def test_a_chain_of_extended_headers_and_a_huge_one_are_refused() -> None:
    refusal(header(kind=b"x", size=b"00000000000\0") * 5000 + header() + bytes(1024))
    assert "a header of" in refusal(header(kind=b"x", size=b"00037777777\0") + bytes(9_000_000))[1]


def test_no_more_is_read_than_headers_and_what_is_wanted() -> None:
    read = []
    size = 1 << 40
    tail = bytes(1024)

    def piece(start: int, count: int) -> bytes:
        read.append(count)
        if start < 512:
            return header(size=b"%011o\0" % 0).replace(b"00000000000\0", b"00000000000\0", 1)[start : start + count]
        return tail[:count]

    assert list(scan(Piecewise(piece, 1536, 512)).members) == ["a.png"]
    assert sum(read) < 10_000
    with pytest.raises(ReadError, match="lie behind the last member"):
        scan(Piecewise(piece, size, 512))


def test_labels_larger_than_any_label_are_refused(shards) -> None:
    with pytest.raises(ReadError, match="has 100,000 bytes"):
        scanned(shards.tar({"a.cls": b"x" * 100_000}), keep=("cls",))


def test_names_that_are_no_unicode_survive() -> None:
    (name,) = scanned(header(b"caf\xe9.png") + bytes(1024)).members
    assert os.fsencode(name) == b"caf\xe9.png"
