"""What was acknowledged is there after a restart."""

from __future__ import annotations

from core.model.effect import Effect
from core.model.job import TELEGRAM
from core.model.lookup import ByToken
from core.model.task import Task
from infra.store import Store
from tests.contract.store.conftest import OpenStore
from tests.contract.store.samples import LEASE, NOW, a_job, a_key, a_question, add, claimed, later, press


async def test_tasks_keys_updates_jobs_and_holds_survive_a_restart(open_store: OpenStore) -> None:
    async with open_store() as store:
        task = await add(store, a_question(), key=a_key())
        await store.receive(1, ByToken(task.token), press, lease=LEASE)
        await store.put([a_job(task.id, lane=None)])
        await store.hold(TELEGRAM, "815", NOW, later(60))
    async with open_store() as store:
        kept = await store.add(a_question(), [], lease=None, idempotency=a_key())
        assert isinstance(kept, Task)
        assert (kept.id, kept.state.value) == (task.id, "answered")
        assert await store.receive(1, None, lambda _: Effect(), lease=LEASE) is None
        assert await store.holds(TELEGRAM, NOW) == {"815": later(60)}
        [(job, about)] = await store.claim(TELEGRAM, NOW, LEASE, 10, claimed, NOW)
        assert (job.subject, about) == (task.id, kept)


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
