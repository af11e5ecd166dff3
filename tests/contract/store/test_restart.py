"""What was acknowledged is there after a restart."""

from __future__ import annotations

from core.model.update import ByToken, Effect
from infra.store import Store
from tests.contract.store.conftest import OpenStore
from tests.contract.store.samples import a_key, a_question, press


async def test_tasks_keys_and_updates_survive_a_restart(open_store: OpenStore) -> None:
    task = a_question()
    async with open_store() as store:
        await store.add(task, a_key())
        await store.receive(1, ByToken(task.token), press)
    async with open_store() as store:
        kept, new = await store.add(a_question(), a_key())
        assert (kept.id, kept.state.value, new) == (task.id, "answered", False)
        assert await store.receive(1, None, lambda _: Effect()) is None


async def test_the_button_key_is_random_and_stays(open_store: OpenStore) -> None:
    async with open_store() as store:
        [key] = store.button_keys()
    async with open_store() as store:
        assert tuple(store.button_keys()) == (key,)
    assert 0 <= key.id <= 255
    assert len(key.secret) == 32
    assert len(set(key.secret)) > 8


async def test_an_open_store_answers(store: Store) -> None:
    await store.check()
