"""The policy that counts now: what the file says of a group also holds for its supergroup."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from core.model.chat import ChatId
from core.policy.policy import Policy


@dataclass(slots=True)
class CurrentPolicy:
    """Call it for the policy; it is the same object as long as nothing has changed.

    Args:
        read: gives what the file says.
        moves: gives the supergroup of each group that has become one.
    """

    read: Callable[[], Policy]
    moves: Callable[[], Mapping[ChatId, ChatId]]
    _made_of: tuple[Policy, Mapping[ChatId, ChatId]] | None = None
    _made: Policy = field(default_factory=Policy)

    def __call__(self) -> Policy:
        """The policy that counts now."""
        # Tuples compare what is in them by identity first, so this is quick.
        made_of = self.read(), self.moves()
        if made_of != self._made_of:
            self._made_of, self._made = made_of, made_of[0].following(made_of[1])
        return self._made
