"""One rule of what an address is, held against the server's rule as the sandbox has it."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.model.address import has_scheme, is_address, person_of
from infra.sandbox.links import checked_link

ADDRESSES = [
    "HTTPS://example.com",
    "http://example.com:8080/a?b=c#d",
    "http://example.com:00080/",
    "http://10.0.0.1:3000/x",
    "https://[::1]/",
    "https://[2001:db8::1]:8443/x",
    "https://bücher.example/größe",
    "https://ada:secret@example.com/",
    "https://example.com?next=http://localhost",
    "https://example.com/a:b@c",
    "https://example.com./",
    "https://a%2Db.example/",
    "tg://user?id=815",
    "TG://resolve?domain=x",
    "tg:resolve?domain=x",
    "ton://transfer",
    "tonsite://foundation.ton/",
    "example.org",
    "example.org:8080/path",
    "10.0.0.1:8080/x",
]
NO_ADDRESSES = [
    "",
    "https://",
    "https://x",
    "http://localhost",
    "http://jenkins:8080/job/1",
    "http://localhost:8080/a.b",
    "http://localhost./",
    "https://user.name@x/",
    "https://😀",
    "https://.",
    "https://..",
    "https://.example",
    "https://a..b/",
    "https://[",
    "https://[::g]/",
    "https://[::1%25eth0]/",
    "https://[::1]x.example/",
    "https://example.com:/",
    "https://example.com:0/",
    "https://example.com:65536/",
    "https://example.com:port/",
    "https://example.com:-1/",
    "https://example.com:٨٠/",
    "https://exa^mple.com/",
    "https://a@b@example.com/",
    "https://a%2.example/",
    "https://example.com/a b",
    "https://example.com/\n",
    "https://example.com/\u2028",
    "ftp://example.com",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "mailto:ada@example.org",
    "sip:ada@example.org",
    "ada@example.org",
    "tel:12.34",
    "tg://",
    "tg://a.b",
    "tg://a:80",
    "ton://ada@transfer",
    "/relative",
    "./relative.html",
    "../relative.html",
    "#part",
    "v1.2.3",
    "docs/README.md",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_what_telegram_opens_is_an_address(address: str) -> None:
    assert is_address(address)


@pytest.mark.parametrize("address", NO_ADDRESSES)
def test_what_telegram_refuses_or_would_change_is_none(address: str) -> None:
    assert not is_address(address)


PIECES = st.sampled_from(
    [
        *("http://", "https://", "tg:", "ton://", "tonsite:", "//", "a.b", "e.org", "x", ".", ":", "80", "0"),
        *("@", "[", "]", "::1", "%", "41", "/", "?", "#", "^", " ", "é", "😀", "-", "_", "\\", "\u202e"),
    ]
)


@given(st.lists(PIECES, max_size=9).map("".join))
@example("http://[::1]:65536/")
@example("tg:http://e.org")
@example("tonsite://.")
def test_an_address_is_never_one_that_telegram_refuses(address: str) -> None:
    if is_address(address):
        assert checked_link(address) is not None


def test_an_address_with_a_scheme_says_how_it_is_opened() -> None:
    assert has_scheme("https://example.org")
    assert has_scheme("tg:resolve?domain=x")
    assert not has_scheme("example.org")


@pytest.mark.parametrize(
    ("address", "person"),
    [
        ("tg://user?id=815", 815),
        ("TG:user/?id=815#x", 815),
        (f"tg://user?id={2**40 - 1}", 2**40 - 1),
        (f"tg://user?id={2**40}", None),
        ("tg://user?id=0", None),
        ("tg://user?id=x", None),
        ("https://user?id=815", None),
    ],
)
def test_a_link_to_a_person_names_one_that_can_be(address: str, person: int | None) -> None:
    assert person_of(address) == person
