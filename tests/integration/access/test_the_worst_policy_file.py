"""No policy file, however it is written, takes much longer to read than an ordinary one of the same size."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from core.policy.policy import Policy
from infra.config.permissions.file import PolicyFile, PolicyFileError, load_policy
from infra.config.permissions.nodes import LARGEST_FILE

HEAD = "version: 1\n"
LONGEST = 8.0
"""Times as long as the ordinary file; what grew with the square or the cube of the input took thousands."""


def _cut(text: str) -> str:
    """As much of it as a file may have, in whole lines."""
    return text if len(text) <= LARGEST_FILE else text[:LARGEST_FILE].rpartition("\n")[0] + "\n"


def _ordinary() -> str:
    return _cut(HEAD + "chats:\n" + "".join(f"  chat-{number}: {number + 1}\n" for number in range(20_000)))


def _roles(lines: list[str], section: str = "service_roles") -> str:
    return _cut(f"{HEAD}{section}:\n" + "".join(lines))


def _circle(count: int, section: str) -> str:
    return _roles([f"  r{one}: {{includes: [r{(one + 1) % count}]}}\n" for one in range(count)], section)


def _chain(count: int, section: str = "service_roles") -> str:
    links = [f"  r{one}: {{includes: [r{one + 1}]}}\n" for one in range(count)]
    return _roles([*links, f"  r{count}: {{}}\n"], section)


def _listed(values: list[str]) -> str:
    return "[" + ", ".join(values) + "]"


WORST: dict[str, Callable[[], str]] = {
    "a circle of 400 includes": lambda: _circle(400, "service_roles"),
    "a circle of 9,000 includes": lambda: _circle(9_000, "service_roles"),
    "a circle of 9,000 roles of people": lambda: _circle(9_000, "person_roles"),
    "a chain of 600 includes": lambda: _chain(600),
    "a chain of 9,000 includes": lambda: _chain(9_000),
    "a chain of 600 roles of people": lambda: _chain(600, "person_roles"),
    "each of 300 roles includes all before it": lambda: _roles(
        [
            f"  r{one}: {{includes: {_listed([f'r{before}' for before in range(one)])}}}\n"
            for one in range(300)
        ]
    ),
    "many circles, each including the next": lambda: _roles(
        [
            f"  r{one}: {{includes: [r{one ^ 1}{f', r{one + 2}' if one % 2 and one < 5_998 else ''}]}}\n"
            for one in range(6_000)
        ]
    ),
    "4,000 roles include one with 10,000 chats": lambda: _roles(
        [f"  a: {{chats: {_listed([str(-one - 1) for one in range(10_000)])}}}\n"]
        + [f"  r{one}: {{includes: [a]}}\n" for one in range(4_000)]
    ),
    "49 aliases of 20,000 chats": lambda: _roles(
        [f"  a: {{chats: &all {_listed([str(-one - 1) for one in range(20_000)])}}}\n"]
        + [f"  r{one}: {{chats: *all}}\n" for one in range(49)]
    ),
    "thousands of names that are all nearly right": lambda: _roles(
        [f"  role-{one}: {{includes: [rloe-{one}]}}\n" for one in range(6_000)]
    ),
    "thousands of endpoints that are all nearly right": lambda: _roles(
        [f"  a: {{endpoints: {_listed([f'POST /v1/mesages{one}' for one in range(10_000)])}}}\n"]
    ),
    "two very long names that are nearly the same": lambda: _roles(
        [f"  {'a' * 60_000}: {{}}\n", f"  b: {{includes: [{'a' * 250}]}}\n"]
    ),
    "thousands of unknown sections": lambda: _cut(
        HEAD + "".join(f"servicez{one}: 1\n" for one in range(20_000))
    ),
    "one key thousands of times": lambda: _cut(HEAD + "chats:\n" + "  a: 1\n" * 40_000),
    "thousands of public keys": lambda: _cut(
        f"{HEAD}services:\n  a:\n    keys:\n"
        + "".join(
            f"    - {{kid: k{one}, jwk: {{kty: OKP, crv: Ed25519, x: {'A' * 38}{one:05}}}}}\n"
            for one in range(10_000)
        )
    ),
    "nothing but tabs": lambda: _cut(HEAD + "\tx\n" * 80_000),
    "brackets without an end": lambda: _cut(f"{HEAD}x: {'[' * 200_000}\n"),
    "a number of 200,000 digits": lambda: _cut(f"{HEAD}x: {'1' * 200_000}\n"),
    "a number to the base of 60": lambda: _cut(f"{HEAD}x: 1{':11' * 80_000}x\n"),
    "a list of 100,000 things": lambda: _cut(
        f"{HEAD}services:\n  a: {{revoked: {_listed([str(one) for one in range(40_000)])}}}\n"
    ),
}


def _seconds(path: Path, text: str) -> float:
    """Of this thread alone: what else the machine does is not counted. The least of a few tries."""
    path.write_text(text)
    tries = []
    for _ in range(3):
        began = time.thread_time()
        with contextlib.suppress(PolicyFileError):
            load_policy(path, {})
        tries.append(time.thread_time() - began)
    return min(tries)


@cache
def _fixed(path: Path) -> float:
    return _seconds(path, _ordinary())


def test_the_ordinary_file_is_in_order(tmp_path: Path) -> None:
    (tmp_path / "permissions.yaml").write_text(_ordinary())
    assert len(load_policy(tmp_path / "permissions.yaml", {}).chats) > 10_000


@pytest.mark.parametrize("name", WORST)
def test_the_worst_file_takes_a_few_times_as_long_as_an_ordinary_one(
    name: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    fixed = _fixed(tmp_path_factory.getbasetemp() / "ordinary.yaml")
    taken = _seconds(tmp_path / "permissions.yaml", WORST[name]())
    assert taken < LONGEST * fixed, f"{taken:.3f} s, against {fixed:.3f} s for an ordinary file"


def test_a_chain_of_400_includes_still_means_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "permissions.yaml"
    path.write_text(_chain(400).replace("  r400: {}", '  r400: {endpoints: ["GET /v1/tasks"], chats: ["*"]}'))
    policy = load_policy(path, {})
    assert policy.service_roles["r0"].endpoints == {"GET /v1/tasks"}
    assert len(policy.service_roles["r0"].includes) == 400
    assert policy.service_roles["r399"].includes == {"r400"}


def test_of_thousands_of_problems_the_first_hundred_are_told_and_that_there_are_more(tmp_path: Path) -> None:
    path = tmp_path / "permissions.yaml"
    path.write_text(WORST["thousands of unknown sections"]())
    with pytest.raises(PolicyFileError) as refused:
        load_policy(path, {})
    assert len(refused.value.problems) == 101
    assert refused.value.problems[-1].message == "From here on there are more; mend these first."
    assert len(refused.value.detail) < 100_000


async def test_while_a_large_file_is_read_again_the_loop_answers_others(tmp_path: Path) -> None:
    path = tmp_path / "permissions.yaml"
    path.write_text(HEAD)
    file = PolicyFile(path, {})
    changed = asyncio.Event()
    file.on_change(lambda _: changed.set())
    path.write_text(_ordinary())
    mine = time.thread_time()
    watching = asyncio.create_task(file.watch(0.001))
    async with asyncio.timeout(60):
        await changed.wait()
    mine = time.thread_time() - mine
    watching.cancel()
    await asyncio.wait({watching})
    assert isinstance(file.current, Policy)
    assert len(file.current.chats) > 10_000
    assert mine < _fixed(tmp_path / "ordinary.yaml") / 4
