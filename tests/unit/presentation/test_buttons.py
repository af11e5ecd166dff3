"""Button data: it names a task and an option in at most 64 bytes, and nobody else can make it."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.model.identity import ButtonKey
from core.presentation.buttons import TOKEN_BYTES, ButtonData

keys = st.builds(ButtonKey, st.integers(0, 255), st.binary(min_size=32, max_size=32))
tokens = st.binary(min_size=TOKEN_BYTES, max_size=TOKEN_BYTES)
options = st.integers(0, 255)
chats = st.integers(-(2**52), 2**52) | st.from_regex(r"@[a-z][a-z0-9_]{3,31}", fullmatch=True)


@given(keys, tokens, options, chats)
def test_what_was_signed_comes_back_and_is_genuine(
    key: ButtonKey, token: bytes, option: int, chat: int | str
) -> None:
    packed = ButtonData.sign(key, token, option, chat).pack()
    unpacked = ButtonData.unpack(packed)
    assert unpacked is not None
    assert (unpacked.token, unpacked.option) == (token, option)
    assert unpacked.genuine((key,), chat)
    assert len(packed.encode()) <= ButtonData.LIMIT


@given(keys, tokens, options, chats, st.data())
def test_one_flipped_bit_makes_it_a_forgery(
    key: ButtonKey, token: bytes, option: int, chat: int | str, data: st.DataObject
) -> None:
    raw = bytearray(base64.urlsafe_b64decode(ButtonData.sign(key, token, option, chat).pack()))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    forged = ButtonData.unpack(base64.urlsafe_b64encode(raw).decode())
    assert forged is not None
    assert not forged.genuine((key,), chat)


@given(keys, tokens, options, chats, st.data())
def test_one_flipped_bit_of_its_text_makes_it_a_forgery_or_nothing(
    key: ButtonKey, token: bytes, option: int, chat: int | str, data: st.DataObject
) -> None:
    text = bytearray(ButtonData.sign(key, token, option, chat).pack().encode())
    bit = data.draw(st.integers(0, len(text) * 8 - 1))
    text[bit // 8] ^= 1 << bit % 8
    forged = ButtonData.unpack(text.decode("latin-1"))
    assert forged is None or not forged.genuine((key,), chat)


@given(keys, tokens, options, chats, chats)
def test_it_counts_in_its_own_chat_only(
    key: ButtonKey, token: bytes, option: int, chat: int | str, other: int | str
) -> None:
    assert ButtonData.sign(key, token, option, chat).genuine((key,), other) is (chat == other)


@given(keys, chats, st.tuples(tokens, options), st.tuples(tokens, options))
def test_its_signature_fits_no_other_token_and_no_other_option(
    key: ButtonKey, chat: int | str, own: tuple[bytes, int], other: tuple[bytes, int]
) -> None:
    mac = ButtonData.sign(key, *own, chat).mac
    moved = ButtonData(key.id, *other, mac)
    assert moved.genuine((key,), chat) is (own == other)


@given(st.text())
def test_any_text_at_all_is_read_without_an_error(text: str) -> None:
    unpacked = ButtonData.unpack(text)
    assert unpacked is None or len(unpacked.token) == TOKEN_BYTES


@given(st.binary(max_size=64))
def test_bytes_of_another_length_never_were_a_button(raw: bytes) -> None:
    unpacked = ButtonData.unpack(base64.urlsafe_b64encode(raw).decode())
    assert (unpacked is not None) is (len(raw) == 24)


def test_an_older_key_still_counts_and_an_unknown_key_never_does() -> None:
    old, new = ButtonKey(1, b"o" * 32), ButtonKey(2, b"n" * 32)
    data = ButtonData.sign(old, b"t" * TOKEN_BYTES, 0, 815)
    assert data.genuine((old, new), 815)
    assert not data.genuine((new,), 815)
    assert not data.genuine((), 815)


def test_two_keys_of_one_number_are_told_apart_by_their_secret() -> None:
    data = ButtonData.sign(ButtonKey(1, b"a" * 32), b"t" * TOKEN_BYTES, 0, 815)
    assert not data.genuine((ButtonKey(1, b"b" * 32),), 815)


def test_a_key_does_not_show_its_secret() -> None:
    shown = repr(ButtonKey(7, b"very secret, thirty-two bytes..."))
    assert "secret, thirty" not in shown
    assert "id=7" in shown


@pytest.mark.parametrize("option", [-1, 256])
def test_an_option_that_does_not_fit_a_byte_is_refused_at_once(option: int) -> None:
    with pytest.raises(ValueError, match="range"):
        ButtonData.sign(ButtonKey(1, b"k" * 32), b"t" * TOKEN_BYTES, option, 815)
