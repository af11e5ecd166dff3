"""The keys that sign buttons, as the database keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from core.model.errors import StorageUnavailable
from core.model.identity import ButtonKey
from infra.store.sql.transactions import Statement, Transaction

_KEYS = Statement("SELECT id, secret FROM telegate_button_keys ORDER BY created_at, id")


class StoredKeys(Sequence[ButtonKey]):
    """The keys, oldest first; the last one signs, the others are still believed.

    Whoever needs one before the database was read gets `StorageUnavailable`.
    """

    def __init__(self) -> None:
        self._known: tuple[ButtonKey, ...] | None = None

    def read(self) -> Transaction[None]:
        """The transaction that reads them; it changes nothing in the database."""
        rows = yield _KEYS
        self._known = tuple(ButtonKey(*row) for row in rows)

    def _read_keys(self) -> tuple[ButtonKey, ...]:
        if self._known is None:
            raise StorageUnavailable("The database was not reached so far. Try again.", retry_after=3)
        return self._known

    @overload
    def __getitem__(self, index: int) -> ButtonKey: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[ButtonKey]: ...

    def __getitem__(self, index: int | slice) -> ButtonKey | Sequence[ButtonKey]:
        return self._read_keys()[index]

    def __len__(self) -> int:
        return len(self._read_keys())
