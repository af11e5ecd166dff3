"""An issuer's keys: when they are fetched, who waits for that, and what counts meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from core.policy.policy import ServiceKey
from infra.auth import KeysAwaited
from infra.auth.issuer import Issuer, KeysNotFetched
from infra.auth.key_set import KeySet

LIMIT = 5.0
ONE, TWO = ServiceKey("one", "ES256", "PEM 1"), ServiceKey("two", "EdDSA", "PEM 2")


class Bench:
    """An issuer whose answers and whose clock a test moves by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.keys: tuple[ServiceKey, ...] = (ONE,)
        self.left_out: tuple[str, ...] = ()
        self.broken: Exception | None = None
        self.fetches = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.issuer = Issuer("https://issuer.example.com", self.fetch, clock=lambda: self.now)

    async def fetch(self) -> KeySet:
        self.fetches += 1
        await self.gate.wait()
        if self.broken is not None:
            raise self.broken
        return KeySet({key.kid: key for key in self.keys}, self.left_out)

    async def key(self, kid: str = "one") -> ServiceKey | None:
        """What a token with that kid gets, which waits for one fetch at most."""
        try:
            return self.issuer.key(kid)
        except KeysAwaited as awaited:
            if awaited.refresh is None:
                raise
            await asyncio.wait_for(asyncio.wait({awaited.refresh}), LIMIT)
            return self.issuer.key(kid)

    async def settle(self) -> None:
        """Let a fetch in the background end."""
        if self.issuer._running is not None:
            await asyncio.wait({self.issuer._running}, timeout=LIMIT)


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    await bench.issuer.close()


async def test_the_first_token_fetches_the_keys_and_the_next_ones_do_not(bench: Bench) -> None:
    assert not bench.issuer.is_known
    assert await bench.key() == ONE
    assert bench.issuer.key("one") == ONE
    assert bench.issuer.is_known
    assert bench.fetches == 1


async def test_warming_fetches_them_before_a_token_comes(bench: Bench) -> None:
    await bench.issuer.warm()
    assert bench.issuer.key("one") == ONE
    await bench.issuer.warm()
    assert bench.fetches == 1


async def test_many_tokens_wait_for_one_fetch(bench: Bench) -> None:
    bench.gate.clear()
    waiting = asyncio.gather(*(bench.key() for _ in range(100)))
    await asyncio.sleep(0)
    bench.gate.set()
    assert set(await waiting) == {ONE}
    assert bench.fetches == 1


async def test_one_that_goes_away_does_not_take_the_fetch_from_the_others(bench: Bench) -> None:
    bench.gate.clear()
    leaving, staying = asyncio.create_task(bench.key()), asyncio.create_task(bench.key())
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait({leaving})
    bench.gate.set()
    assert await staying == ONE
    assert bench.fetches == 1


async def test_after_four_minutes_they_are_fetched_again_and_nobody_waits(bench: Bench) -> None:
    await bench.issuer.warm()
    bench.now += 239
    assert bench.issuer.key("one") == ONE
    await bench.settle()
    assert bench.fetches == 1
    bench.now += 1
    bench.keys = (TWO,)
    assert bench.issuer.key("one") == ONE
    await bench.settle()
    assert bench.fetches == 2
    assert bench.issuer.key("two") == TWO
    assert not bench.issuer.still_has(ONE)


async def test_after_five_minutes_without_a_token_the_next_one_waits(bench: Bench) -> None:
    await bench.issuer.warm()
    bench.now += 300
    bench.keys = (TWO,)
    with pytest.raises(KeysAwaited):
        bench.issuer.still_has(ONE)
    await bench.settle()
    assert not bench.issuer.still_has(ONE)
    assert bench.fetches == 2


async def test_an_unknown_kid_fetches_once_in_30_seconds_and_is_told_at_once_otherwise(bench: Bench) -> None:
    await bench.issuer.warm()
    assert bench.issuer.key("two") is None
    assert bench.fetches == 1
    bench.now += 30
    bench.keys = (ONE, TWO)
    assert await bench.key("two") == TWO
    for _ in range(10_000):
        assert bench.issuer.key("nobody") is None
    assert bench.fetches == 2
    bench.now += 30
    assert await bench.key("nobody") is None
    assert bench.fetches == 3


async def test_while_an_unknown_kid_waits_a_known_one_does_not(bench: Bench) -> None:
    await bench.issuer.warm()
    bench.now += 30
    bench.gate.clear()
    waiting = asyncio.create_task(bench.key("two"))
    await asyncio.sleep(0)
    assert bench.issuer.key("one") == ONE
    bench.gate.set()
    assert await waiting is None


async def test_keys_are_kept_while_they_cannot_be_fetched_again(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.issuer.warm()
    bench.broken = KeysNotFetched("it answered 500")
    with caplog.at_level(logging.INFO, logger="telegate.tokens"):
        for _ in range(100):
            bench.now += 40
            assert await bench.key() == ONE
            await bench.settle()
        assert bench.issuer.trouble is not None
        assert "it answered 500." in bench.issuer.trouble
        assert "count meanwhile" in bench.issuer.trouble
        assert [record.__dict__["action"] for record in caplog.records] == ["issuer_trouble"]
        bench.broken = None
        bench.now += 40
        assert await bench.key() == ONE
        await bench.settle()
    assert bench.issuer.trouble is None
    assert caplog.records[-1].getMessage() == "The keys of the token issuer can be fetched again."


async def test_after_a_long_sleep_with_a_broken_issuer_the_first_token_waits_and_the_others_do_not(
    bench: Bench,
) -> None:
    await bench.issuer.warm()
    bench.now += 10_000
    bench.broken = KeysNotFetched("it answered 500")
    with pytest.raises(KeysAwaited):
        bench.issuer.key("one")
    await bench.settle()
    assert bench.issuer.key("one") == ONE
    assert bench.fetches == 2


async def test_without_any_keys_a_token_is_told_when_to_come_again(bench: Bench) -> None:
    bench.broken = KeysNotFetched("it cannot be reached")
    with pytest.raises(KeysAwaited) as told:
        await bench.key()
    assert told.value.refresh is None
    assert told.value.retry_after == 30
    assert bench.issuer.trouble is not None
    assert "503" in bench.issuer.trouble
    bench.now += 29.5
    with pytest.raises(KeysAwaited) as told:
        await bench.key()
    assert (told.value.retry_after, bench.fetches) == (1, 1)
    bench.now += 0.5
    bench.broken = None
    assert await bench.key() == ONE


async def test_a_set_in_which_no_key_counts_ends_the_old_ones_and_is_told(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.issuer.warm()
    bench.keys, bench.left_out = (), ("The key 'one' does not count: its use is not sig.",)
    bench.now += 300
    with caplog.at_level(logging.INFO, logger="telegate.tokens"):
        assert await bench.key() is None
    assert bench.issuer.trouble == (
        "The token issuer publishes no key that can be used. None of its tokens counts."
    )
    assert "0 count. The key 'one' does not count: its use is not sig." in caplog.text


async def test_a_bug_in_the_fetch_is_logged_and_tried_again(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.broken = ZeroDivisionError("a bug of this test")
    with pytest.raises(KeysAwaited):
        await bench.key()
    (record,) = (record for record in caplog.records if record.exc_info)
    assert record.__dict__["action"] == "bug"
    bench.broken = None
    bench.now += 30
    assert await bench.key() == ONE


async def test_closing_ends_a_fetch_that_hangs(bench: Bench) -> None:
    bench.gate.clear()
    warming = asyncio.create_task(bench.issuer.warm())
    await asyncio.sleep(0)
    await asyncio.wait_for(bench.issuer.close(), LIMIT)
    await asyncio.wait_for(warming, LIMIT)
