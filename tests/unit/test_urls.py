from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isograft import console
from isograft.data.address import Address
from isograft.errors import IsograftError, Unreachable
from isograft.urls import folder_and_name, is_url, is_web, suffix_of, without_query, without_secrets

SIGNED = "https://bucket.example.org/a/b%20c.png?X-Amz-Credential=AKIA/1&X-Amz-Signature=5ec2e7"


@pytest.mark.parametrize("text", ["https://a/b.png", "s3://b/c d.png", "gs://b", "a+b://x"])
def test_urls_are_told_from_paths(text: str) -> None:
    assert is_url(text)


@pytest.mark.parametrize("text", ["a/b.png", "/x/y://z", "C://x", "C:\\x", "://x", "a b://c", ""])
def test_paths_are_told_from_urls(text: str) -> None:
    assert not is_url(text)


def test_the_name_the_folder_and_the_suffix_of_a_url_leave_the_query_out() -> None:
    assert folder_and_name(SIGNED) == ("https://bucket.example.org/a", "b%20c.png") and suffix_of(SIGNED) == ".png"
    assert without_query(SIGNED) == "https://bucket.example.org/a/b%20c.png?"
    assert folder_and_name("s3://b/x/what?.PNG") == ("s3://b/x", "what?.PNG") and suffix_of("s3://b/x/what?.PNG") == ".png"
    assert not is_web("s3://b/x") and is_web("HTTPS://b/x")


def test_no_message_shows_a_signature_or_a_password(capsys: pytest.CaptureFixture[str]) -> None:
    place = Address(SIGNED, "x.png")
    told = [str(place), repr(place), place.name, str(IsograftError(f"no {SIGNED} here")), str(Unreachable(SIGNED, f"{SIGNED} is gone"))]
    told.append(Unreachable(SIGNED, f"at {SIGNED}").reason)
    console.say(f"{SIGNED}, https://me:pass@host/x")
    console.warn(SIGNED)
    told.append(capsys.readouterr().err)
    assert not [text for text in told if "5ec2e7" in text or "AKIA" in text or "pass" in text]
    assert place.file == SIGNED and told[0] == "https://bucket.example.org/a/b%20c.png?...#x.png"


WORD = st.text(st.characters(categories=("L", "N"), include_characters="-_.%&=+/"), min_size=1)


@given(before=st.text(), path=WORD, secret=WORD, user=WORD.filter(lambda text: "/" not in text))
def test_whatever_stands_around_a_url_its_query_and_user_are_taken_out(before: str, path: str, secret: str, user: str) -> None:
    marked = f"QQ{secret}QQ"
    text = without_secrets(f"{before} https://{user}:{marked.replace('/', '')}@host/{path}?{marked} end")
    assert "QQ" not in text and text.endswith(f"https://host/{path}?... end")
