"""Addresses as Telegram's server reads them: kept in its form, or refused in its words.

Source: td/telegram/LinkManager.cpp (`check_link`, `get_link_user_id`) and tdutils/td/utils/HttpUrl.cpp
(`parse_url`) of https://github.com/tdlib/td, which the Bot API server runs.
"""

from __future__ import annotations

import re
import socket

LARGEST_PORT = 65_535
LARGEST_PERSON = (1 << 40) - 1

_OWN_SCHEME = re.compile(r"(tg|tonsite|ton):(?://)?", re.IGNORECASE)
_SCHEME = re.compile(r"([^:/?#@\[\]]*)://")
_PORT = re.compile(r"0*([1-9][0-9]{0,4})")
_UNALLOWED = re.compile(r"%(?![0-9A-Fa-f]{2})|[^A-Za-z0-9.\-_!$,~*'();&+=%\x80-\U0010ffff]")
_PERSON = re.compile(r"tg:(?://)?user/?\?(?:[^#]*&)?id=([0-9]{1,18})(?:[&#].*)?", re.IGNORECASE | re.DOTALL)


class NoAddressError(ValueError):
    """Telegram makes no link of this; the message is its reason."""


def check_link(given: str) -> str:
    """The address as Telegram keeps it.

    Raises:
        NoAddressError: it is none.
    """
    own = _OWN_SCHEME.match(given)
    rest = given[own.end() :] if own else given
    scheme, user, host, port, query = _parse(rest)
    if own is None:
        if "." not in host and not host.startswith("["):
            raise NoAddressError("Wrong HTTP URL")
        before = f"{user}@" if user else ""
        after = f":{port}" if port else ""
        return f"{scheme}://{before}{host}{after}{query}"
    kind = own[1].lower()
    if rest.lower().startswith("http://") or scheme == "https" or user or port or host.startswith("["):
        raise NoAddressError("Wrong tg URL" if kind == "tg" else "Wrong ton URL")
    if not re.fullmatch(r"[a-z0-9_.-]+" if kind == "tonsite" else r"[a-z0-9_-]+", host):
        raise NoAddressError("Unallowed characters in URL host")
    return f"{kind}://{host}{query[1:] if query.startswith('/?') else query}"


def checked_link(given: str) -> str | None:
    """The address as Telegram keeps it, or None when it is none."""
    try:
        return check_link(given)
    except NoAddressError:
        return None


def user_of(given: str) -> int | None:
    """The person whom `tg://user?id=…` names."""
    found = _PERSON.fullmatch(given)
    person = int(found[1]) if found else 0
    return person if 0 < person <= LARGEST_PERSON else None


def _parse(url: str) -> tuple[str, str, str, int, str]:
    """Scheme, user, host, port (0 for none) and what follows, beginning with `/`."""
    named = _SCHEME.match(url)
    scheme = named[1].lower() if named else "http"
    if scheme not in {"http", "https"}:
        raise NoAddressError("Unsupported URL protocol")
    rest = url[named.end() :] if named else url
    end = next((at for at, sign in enumerate(rest) if sign in "/?#"), len(rest))
    place, query = rest[:end], rest[end:].rstrip(" \t\r\n\0\v")
    port = 0
    colon = max(map(place.rfind, ":]@"))
    if colon > 0 and place[colon] == ":":
        number = _PORT.fullmatch(place[colon + 1 :])
        if number is None or int(number[1]) > LARGEST_PORT:
            raise NoAddressError("Wrong port number specified in the URL")
        place, port = place[:colon], int(number[1])
    user, _, host = place.rpartition("@")
    _check_host(user, host)
    if not query.startswith("/"):
        query = f"/{query}"
    return scheme, user, host.lower(), port, re.sub(r"[\0- ]", lambda sign: f"%{ord(sign[0]):02X}", query)


def _check_host(user: str, host: str) -> None:
    if host.startswith("[") and host.endswith("]"):
        try:
            socket.inet_pton(socket.AF_INET6, host[1:-1])
        except (OSError, ValueError) as error:
            raise NoAddressError("Wrong IPv6 address specified in the URL") from error
        return
    if not host:
        raise NoAddressError("URL host is empty")
    if host == ".":
        raise NoAddressError("Host is invalid")
    for part, name, signs in ((host, "host", ""), (user, "userinfo", ":")):
        if wrong := _UNALLOWED.search(part.replace(signs, "") if signs else part):
            if wrong[0] == "%":
                raise NoAddressError(f"Wrong percent-encoded symbol in URL {name}")
            raise NoAddressError(f"Disallowed character in URL {name}")
