"""`DATABASE_URL` for PostgreSQL: what is understood, and what is refused without showing a secret."""

from __future__ import annotations

import pytest

from infra.config.postgres_address import PostgresAddress


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("postgres://u:p@db.example.com:5432/telegate", "telegate on db.example.com:5432"),
        ("postgresql://u:p@db/telegate?sslmode=require", "telegate on db"),
        ("postgresql://user:@/db?host=/socket/dir", "db on /socket/dir"),
        ("postgresql://u@[::1]:5433/d", "d on [::1]:5433"),
        ("postgresql://u:p@a:1,b:2/d?target_session_attrs=read-write", "d on a:1,b:2"),
        ("postgresql://u:p%40%2F@db/d", "d on db"),
        ("postgresql://", "localhost"),
    ],
)
def test_the_forms_that_platforms_hand_out_are_understood(url: str, place: str) -> None:
    assert PostgresAddress.parse(url).place == place


def test_what_the_driver_does_not_know_and_we_do_is_kept_from_it() -> None:
    neon = "postgresql://u:p@db/d?sslmode=require&channel_binding=require&connect_timeout=10"
    assert PostgresAddress.parse(neon).url.reveal() == "postgresql://u:p@db/d?sslmode=require"
    supabase = PostgresAddress.parse("postgresql://u:p@db:6543/d?pgbouncer=true")
    assert (supabase.pooled, supabase.url.reveal()) == (True, "postgresql://u:p@db:6543/d")
    roots = PostgresAddress.parse("postgresql://u:p@db/d?sslmode=verify-full&sslrootcert=system")
    assert (roots.system_roots, roots.url.reveal()) == (True, "postgresql://u:p@db/d")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://u:can@ry@db/d", "%40"),
        ("postgresql://u:can/ary@db/d", "%2F"),
        ("postgresql://u:canary@db:port/d", "host and port"),
        ("postgresql://u:canary@[::1/d", "is no PostgreSQL address"),
        ("postgresql://u:canary@db/d#1", "%23"),
        ("postgresql://u:canary@db/d?schema=public&sslmode=require", "(schema). Remove it"),
        ("postgresql://u:canary@db/d?sslmode=always", "unknown sslmode"),
        ("postgresql://u:canary@db/d?port=canary", "not a number"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_shows_nothing(url: str, told: str) -> None:
    with pytest.raises(ValueError, match=r"^(is|has|cannot) ") as caught:
        PostgresAddress.parse(url)
    assert told in str(caught.value)
    assert "can" not in str(caught.value).replace("cannot", "")


def test_the_password_is_a_secret_as_written_and_as_meant() -> None:
    secrets = PostgresAddress.parse("postgresql://u:p%40ssword-of-many@db/d?password=postgres").secrets
    told = {secret.reveal() for secret in secrets[1:]}
    assert told == {"p%40ssword-of-many", "p@ssword-of-many", ":postgres@"}
    assert "p%40ss" not in repr(PostgresAddress.parse("postgresql://u:p%40ss@db/d"))
    assert PostgresAddress.parse("postgresql://u@db/d").secrets[1:] == ()
