"""Names of files as operators give them: it may be the secret itself that stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

NOT_SHOWN: Final = "something that is not shown here, because it may be the secret itself"

_LIKE_A_SECRET: Final = re.compile(
    r"-----BEGIN|[\x00-\x1f\x7f]"  # a key, whole
    r"|[0-9]{5,}:[A-Za-z0-9_-]{3}"  # a bot's token
    r"|://"  # an address, perhaps with a password
    r"|eyJ[A-Za-z0-9_-]{8}"  # a signed token
    r"|[^/]{129}"  # no folder has such a name, and a key without its first line may be one
)
_LONGEST: Final = 512


def is_like_a_secret(name: str) -> bool:
    """Whether this looks more like a secret than like the name of a file."""
    return len(name) > _LONGEST or _LIKE_A_SECRET.search(name) is not None


def shown_name(name: Path) -> str | None:
    """The name of a file that was to hold a secret, or None when it may be that secret.

    What can be told apart for certain is shown: a file that exists, or a name in a folder that does. A
    secret may begin with a slash, so the root is no such folder, and neither is the working directory.
    """
    if is_like_a_secret(str(name)):
        return None
    try:
        certain = name.exists() or (name.parent not in {Path(), Path("/")} and name.parent.is_dir())
    except (OSError, ValueError):
        certain = False
    return str(name) if certain else None
