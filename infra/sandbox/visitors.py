"""Who may speak to the sandbox: programs of this machine and its own page, and no page of another site.

A browser takes every page's requests to this machine. It says which page asks (`Origin`, `Sec-Fetch-Site`),
and by which name it has found this machine (`Host`): a name of somebody else's may point here at any moment.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from infra.sandbox.answers import dump

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def refuse_other_sites(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a request through when no page of another site can have made it; on every route alike."""
    trouble = _trouble(request)
    if trouble is None:
        return await handler(request)
    # As the Bot API refuses, and as the control routes do.
    refusal = {"ok": False, "error_code": 403, "description": f"Forbidden: {trouble}", "error": trouble}
    return web.Response(body=dump(refusal), status=403, content_type="application/json")


def _trouble(request: web.Request) -> str | None:
    hosts = request.headers.getall(hdrs.HOST, [])
    if len(hosts) != 1 or not _is_this_machine(hosts[0]):
        return "Call this sandbox by the name of its machine: localhost, or an address."
    for origin in request.headers.getall(hdrs.ORIGIN, []):
        if origin.lower() != f"http://{hosts[0].lower()}":
            return f"Pages of {origin} may not use this sandbox."
    # What is fetched as a picture or a script says no Origin.
    site = request.headers.get("Sec-Fetch-Site", "none")
    if site not in {"none", "same-origin"} and not _is_visit(request):
        return "Pages of another site may not use this sandbox."
    return None


def _is_visit(request: web.Request) -> bool:
    """Whether somebody follows a link to the chat page."""
    return request.path == "/" and request.headers.get("Sec-Fetch-Mode") == "navigate"


def _is_this_machine(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return name.lower() == "localhost" or name.lower().endswith(".localhost")
    return True
