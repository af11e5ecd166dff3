"""What an address is to Telegram: one rule for links in texts and for buttons that open something."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

LARGEST_PORT: Final = 65_535
MOST_PORT_DIGITS: Final = 5

_BLANK = re.compile(r"[\s\x00-\x1f\x7f]")
_OWN_SCHEME = re.compile(r"(tg|ton|tonsite):(?://)?", re.IGNORECASE)
_WEB_SCHEME = re.compile(r"https?://", re.IGNORECASE)
_PARTS = re.compile(r"(?:([^/?#]*)@)?(\[[^/?#@]*\]|[^/?#@:]*)(?::([^/?#@:]*))?(?:[/?#].*)?", re.DOTALL)
_OWN_HOST = re.compile(r"[a-z0-9_-]+", re.IGNORECASE)
_SITE_HOST = re.compile(r"[a-z0-9_.-]+", re.IGNORECASE)
_SIGNS = r"(?:[A-Za-z0-9.\-_!$,~*'();&+={extra}\x80-\U0010ffff]|%[0-9A-Fa-f]{{2}})"
_USER = re.compile(_SIGNS.format(extra=":") + "*")
_HOST = re.compile(_SIGNS.format(extra="") + "+")
_NAME_OF_HOST = re.compile(r"[^.]+(?:\.[^.]+)+")
_TOP_LEVEL = re.compile(r"[^\W\d_]{2,}|xn--[a-z0-9-]+", re.IGNORECASE)
_PERSON = re.compile(r"tg:(?://)?user/?\?id=([0-9]{1,13})(?:[&#].*)?", re.IGNORECASE | re.DOTALL)
_LARGEST_PERSON = 2**40 - 1


def is_address(address: str) -> bool:
    """Whether Telegram makes a link of this; with any other as a link or button it refuses the whole message.

    `https`, `http`, `tg`, `ton` and `tonsite`, or a bare host such as `example.org/path`.

    Source: `check_link` in td/telegram/LinkManager.cpp and `parse_url` in tdutils/td/utils/HttpUrl.cpp, which
    the Bot API server runs; https://github.com/tdlib/td. Stricter where the server would make something else
    of it than is written: blanks, a host whose only dot is at its end, and other schemes (it reads
    `mailto:ada@example.org` as a user's name and a host).
    """
    if _BLANK.search(address):
        return False
    if own := _OWN_SCHEME.match(address):
        return _is_own(own[1].lower(), address[own.end() :])
    if web := _WEB_SCHEME.match(address):
        parts = _PARTS.fullmatch(address, web.end())
        return parts is not None and _is_web(*parts.groups())
    parts = _PARTS.fullmatch(address)
    return parts is not None and parts[1] is None and _is_web(*parts.groups()) and _is_bare_host(parts[2])


def has_scheme(address: str) -> bool:
    """Whether an address says how it is opened, rather than beginning with a host."""
    return bool(_OWN_SCHEME.match(address) or _WEB_SCHEME.match(address))


def person_of(address: str) -> int | None:
    """The person whom Telegram's own link `tg://user?id=…` names, or None.

    Source: `get_link_user_id` in td/telegram/LinkManager.cpp; an id above 2^40 - 1 is nobody's (UserId.h).
    """
    found = _PERSON.fullmatch(address)
    person = 0 if found is None else int(found[1])
    return person if 0 < person <= _LARGEST_PERSON else None


def _is_own(scheme: str, rest: str) -> bool:
    """Telegram's own kinds: a name, then anything; no user, no port."""
    host = re.split("[/?#]", rest, maxsplit=1)[0]
    return (_SITE_HOST if scheme == "tonsite" else _OWN_HOST).fullmatch(host) is not None and host != "."


def _is_web(user: str | None, host: str, port: str | None) -> bool:
    if port is not None and not _is_port(port):
        return False
    if host.startswith("["):
        return _is_ipv6(host[1:-1])
    return bool(
        _HOST.fullmatch(host)
        and _USER.fullmatch(user or "")
        and _NAME_OF_HOST.fullmatch(host.removesuffix("."))
    )


def _is_port(port: str) -> bool:
    digits = port.lstrip("0")
    return (
        port.isascii()
        and digits.isdecimal()
        and len(digits) <= MOST_PORT_DIGITS
        and int(digits) <= LARGEST_PORT
    )


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.IPv6Address(host).scope_id is None
    except ValueError:
        return False


def _is_bare_host(host: str) -> bool:
    """Whether it looks like a host also without a scheme: `v1.2.3` and `../x` do not."""
    try:
        return host.startswith("[") or bool(ipaddress.IPv4Address(host))
    except ValueError:
        return _TOP_LEVEL.fullmatch(host.removesuffix(".").rpartition(".")[2]) is not None
