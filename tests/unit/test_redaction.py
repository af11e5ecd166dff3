"""Secrets of ours are taken out of words that come from outside, in whatever form they stand there."""

from __future__ import annotations

import pytest

from infra.config.secret import Secret
from infra.observability.redaction import KnownSecrets

TOKEN = "123456:canary-Token_0123456789"
HALF = TOKEN.partition(":")[2]
KNOWN = KnownSecrets(map(Secret, (TOKEN, HALF, "webhook/secret+of=ours", "short")))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (f"POST /bot{TOKEN}/sendMessage failed", "POST /bot(hidden)/sendMessage failed"),
        ("/bot123456%3Acanary-Token_0123456789/", "/bot(hidden)/"),
        ("/bot123456%3acanary-token_0123456789/", "/bot(hidden)/"),
        ("canary-Token_0123456789", "(hidden)"),
        ("bot 123456 is unknown", "bot 123456 is unknown"),
        ("webhook/secret+of=ours", "(hidden)"),
        ("webhook%2Fsecret%2Bof%3Dours", "(hidden)"),
        ("in short, no", "in short, no"),
        (f"{TOKEN}{TOKEN}", "(hidden)(hidden)"),
        ("", ""),
    ],
)
def test_no_secret_is_left_in_the_words_and_nothing_else_is_missing(words: str, told: str) -> None:
    assert KNOWN.hide(words) == told


def test_what_is_too_short_for_a_secret_is_left_alone() -> None:
    assert KnownSecrets([Secret("1:A")]).hide("1:A is no token") == "1:A is no token"
