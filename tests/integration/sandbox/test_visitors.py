"""No page of another site can use the sandbox, on any of its routes, and nobody can guess its bot's token."""

from __future__ import annotations

from urllib.parse import quote

import aiohttp
import pytest
from aiohttp import web

from infra.config import table
from infra.sandbox import Sandbox
from infra.sandbox.server import build_application
from tests.integration.sandbox.conftest import TOKEN, Caller

EVIL = "http://evil.example"
FOREIGN = {
    "a name that was pointed at this machine": {"Host": "evil.example:{port}"},
    "a name that begins like this machine's": {"Host": "localhost.evil.example:{port}"},
    "a name that begins like an address": {"Host": "127.0.0.1.evil.example"},
    "no name at all": {"Host": ""},
    "a page of another site": {"Origin": EVIL},
    "a page of another port": {"Origin": "http://127.0.0.1:1"},
    "a page of the same name with TLS": {"Origin": "https://127.0.0.1:{port}"},
    "a page from a file or in a frame": {"Origin": "null"},
    "a picture on a page of another site": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    "a script on a page of another port": {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
}


FITTING = {"token": TOKEN, "method": "getMe", "name": "app.js", "path": "a/b", "id": "1", "number": "1"}


def _routes(sandbox: Sandbox) -> list[tuple[str, str]]:
    """Every route with a path that fits it, and one that is none."""
    found = []
    for route in build_application(sandbox.double).router.routes():
        assert route.resource is not None
        path = route.resource.canonical
        for name, value in {
            "token": TOKEN,
            "method": "getMe",
            "name": "app.js",
            "path": "a/b",
            "id": "1",
        }.items():
            path = path.replace(f"{{{name}}}", quote(value))
        path = path.replace("{number}", "1")
        assert "{" not in path
        found.append(("POST" if route.method == "*" else route.method, path))
    return [*found, ("GET", "/nowhere")]


@pytest.mark.parametrize("name", FOREIGN)
async def test_no_route_answers_a_page_of_another_site(
    name: str, sandbox: Sandbox, http: aiohttp.ClientSession
) -> None:
    port = sandbox.api_url.rpartition(":")[2]
    headers = {field: value.format(port=port) for field, value in FOREIGN[name].items()}
    routes = _routes(sandbox)
    assert len(routes) > 20
    for method, path in routes:
        async with http.request(method, sandbox.api_url + path, headers=headers) as response:
            assert response.status == 403, (method, path)
            if method != "HEAD":
                told = await response.json()
                assert not told["ok"]
                assert "sandbox" in told["error"]
    assert list(sandbox.calls) == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "localhost"},
        {"Host": "LOCALHOST:8081"},
        {"Host": "telegram.localhost:9"},
        {"Host": "[::1]:8081"},
        {"Host": "192.168.1.7:8081"},
        {"Host": "localhost:8081", "Origin": "http://localhost:8081", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
)
async def test_programs_and_the_own_page_are_answered_by_whatever_name_this_machine_has(
    headers: dict[str, str], sandbox: Sandbox, http: aiohttp.ClientSession
) -> None:
    for path in (f"/bot{TOKEN}/getMe", "/sandbox/calls", "/"):
        async with http.get(sandbox.api_url + path, headers=headers) as response:
            assert response.status == 200, path


async def test_a_link_on_another_page_leads_to_the_chat_page(
    sandbox: Sandbox, http: aiohttp.ClientSession
) -> None:
    visit = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    async with http.get(sandbox.page_url, headers=visit) as response:
        assert response.status == 200
    async with http.get(f"{sandbox.api_url}/bot{TOKEN}/getMe", headers=visit) as response:
        assert response.status == 403


async def test_each_sandbox_has_another_token_and_it_is_one_that_the_gateway_takes() -> None:
    tokens = set()
    for _ in range(3):
        async with Sandbox.start() as sandbox, aiohttp.ClientSession() as http:
            tokens.add(sandbox.token)
            assert table.BOT_TOKEN.parse(sandbox.token).reveal() == sandbox.token
            async with http.get(f"{sandbox.api_url}/bot{sandbox.token}/getMe") as response:
                assert response.status == 200
    assert len(tokens) == 3
    assert min(len(token.partition(":")[2]) for token in tokens) > 30


async def test_a_call_that_was_let_in_is_one_of_the_log(call: Caller, sandbox: Sandbox) -> None:
    await call.result("getMe")
    assert [one.method for one in sandbox.calls] == ["getMe"]
    assert isinstance(build_application(sandbox.double), web.Application)
