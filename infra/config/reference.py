"""Writes `docs/reference/settings.md` and `.env.example` from the table of settings (`make reference`)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from infra.config.table import TABLE, Setting

_ROOT = Path(__file__).parents[2]

_INTRODUCTION = """\
# Settings

<!-- Written by `make reference` from infra/config/table.py; a test checks that it is current. -->

Settings are read once, at start, from the environment and from a file `.env` in the working directory. When
something is wrong, all problems are told together, and the server does not start (exit code 3).

* **The environment wins** over `.env`. A variable that is set but empty counts as not set, and switches off
  what `.env` says.
* **Every setting is also read from a file**: `BOT_TOKEN_FILE=/run/secrets/bot_token` is `BOT_TOKEN` with what
  that file holds, without the blanks and line breaks around it. Both together are an error. Settings that
  are paths themselves (`PERMISSIONS_FILE`, `TLS_CERT_FILE`, `TLS_KEY_FILE`) have no such twin.
* **Required** are `BOT_TOKEN`, and one way to check tokens: `JWT_SECRET`, a service with a key in the
  policy, or an issuer (`JWT_JWKS_URL` with `JWT_ISSUER`).
* `.env` has lines `NAME=value`, with `export` before them if you like, and comments that begin with `#`. A
  value may stand in single quotes (taken as it is) or double quotes (`\\n`, `\\t`, `\\"` and `\\\\` are
  understood). Nothing is expanded. Names that are no settings are warned about.
"""

_LATER = """\

`DELIVERY_SECRET_<SERVICE>` (`whsec_…`, the secret that signs deliveries to a service) has no effect yet,
either: a warning at start.
"""

_EARLIER = """\

## The files of the earlier layout

A `config/secrets` folder of the earlier layout works as it is:

```sh
BOT_TOKEN_FILE=config/secrets/bot_api.txt
PERSON_ROLES_FILE=config/secrets/allowed_user.txt
TLS_CERT_FILE=config/secrets/certificate.pem
TLS_KEY_FILE=config/secrets/key.pem
```

`allowed_user.txt` holds bare ids, and a bare id gets the role `operator`.
"""

_EXAMPLE_HEAD = """\
# Copy this file to .env, and remove the `#` before what you set. The environment wins over this file.
# docs/reference/settings.md says more about each setting. Written by `make reference`.
"""


def _groups() -> Iterator[tuple[str, list[Setting[Any]]]]:
    for group, settings in itertools.groupby(TABLE, key=lambda setting: setting.group):
        yield group, list(settings)


def _default(setting: Setting[Any]) -> str:
    if setting.required:
        return "**required**"
    if setting.default is not None:
        return f"`{setting.default}`"
    return setting.default_in_words or "none"


def settings_page() -> str:
    """The reference page, as Markdown."""
    parts = [_INTRODUCTION]
    for group, settings in _groups():
        cells = [(f"`{one.name}`", _default(one), one.meaning) for one in settings]
        rows = ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in cells]
        parts.append(
            "\n".join((f"\n## {group}\n", "| setting | default | meaning |", "|---|---|---|", *rows, ""))
        )
    return "".join((*parts, _LATER, _EARLIER))


def env_example() -> str:
    """The file that one copies to `.env`."""
    parts = [_EXAMPLE_HEAD]
    for group, settings in _groups():
        usable = [one for one in settings if one.example or one.default is not None or not one.is_later]
        if usable:
            parts.append(f"\n# {group}\n")
        parts += [f"#{one.name}={one.example or one.default or ''}\n" for one in usable]
    return "".join(parts)


FILES: Final[dict[Path, Callable[[], str]]] = {
    _ROOT / "docs" / "reference" / "settings.md": settings_page,
    _ROOT / ".env.example": env_example,
}

if __name__ == "__main__":
    for path, text in FILES.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text(), encoding="utf-8")
