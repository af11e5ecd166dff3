"""Secrets: values that never show themselves by accident."""

from __future__ import annotations

from typing import final


@final
class Secret:
    """Text that `repr`, `str`, `format` and `%s` do not show.

    Args:
        value: the secret itself.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself; call it where it is used, and keep no copy."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(hidden)"

    def __str__(self) -> str:
        return "(hidden)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(("telegate.secret", self._value))

    def __reduce__(self) -> str:
        raise TypeError("A secret is not written to disk or sent to another process.")
