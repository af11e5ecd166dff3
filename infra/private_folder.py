"""Folders for what nobody else may read: the database, private keys."""

from __future__ import annotations

from pathlib import Path


def make_private_folder(path: Path) -> None:
    """Make a folder, and those above it, readable by the owner alone; one that is there stays as it is.

    A folder that others could write to would let them put another one in the place of what is in it, so this
    holds for those above it, too.

    Raises:
        OSError: it cannot be made, or something else has its name.
    """
    if path.is_dir():
        return
    make_private_folder(path.parent)
    try:
        path.mkdir(0o700)
    except FileExistsError:
        if path.is_dir():
            return
        raise
    path.chmod(0o700)  # the umask may have taken something away from it, but never added any
