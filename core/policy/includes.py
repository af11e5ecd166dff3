"""What roles include, however deep: found in one walk, whatever shape the includes have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import compress
from typing import Final

Includes = Mapping[str, frozenset[str]]
"""The roles that each role includes directly; all of them are keys, too."""

_DENSE: Final = 16
"""One bit in so many: where fewer are set, they are looked for one by one."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Which roles each role reaches, itself only when that goes in a circle.

    Attributes:
        names: the roles, each at its place.
        circles: roles that include each other, a set for each circle.
        masks: for each role, a number in which the bit of every place is set that it reaches.
    """

    names: tuple[str, ...]
    circles: tuple[frozenset[str], ...]
    masks: Mapping[str, int]

    def of(self, name: str) -> frozenset[str]:
        """Every role that this one reaches."""
        mask = self.masks[name]
        if mask.bit_count() * _DENSE < mask.bit_length():
            return frozenset(self._few(mask))
        return frozenset(compress(self.names, map("1".__eq__, reversed(f"{mask:b}"))))

    def count(self, name: str) -> int:
        """How many roles this one reaches."""
        return self.masks[name].bit_count()

    def _few(self, mask: int) -> Iterator[str]:
        while mask:
            lowest = mask & -mask
            yield self.names[lowest.bit_length() - 1]
            mask ^= lowest


def reach(includes: Includes) -> Reach:
    """Walk through all includes once.

    A number's bits stand for roles: to unite two sets of a thousand roles is one step of the machine's, not a
    thousand of ours.
    """
    names = tuple(includes)
    place = {name: at for at, name in enumerate(names)}
    masks: dict[str, int] = {}
    circles: list[frozenset[str]] = []
    # What a group includes comes before the group, so that its masks are known by then.
    for group in _groups(includes):
        mask = 0
        for name in group:
            for other in includes[name]:
                mask |= masks.get(other, 0) | 1 << place[other]
        masks.update(dict.fromkeys(group, mask))
        if len(group) > 1 or group[0] in includes[group[0]]:
            circles.append(frozenset(group))
    return Reach(names, tuple(circles), masks)


def _groups(includes: Includes) -> Iterable[tuple[str, ...]]:
    """Tarjan's strongly connected components, without recursion; a role outside of circles is alone.

    Source: https://doi.org/10.1137/0201010 (Depth-First Search and Linear Graph Algorithms)
    """
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    grouped: set[str] = set()
    for root in includes:
        if root in number:
            continue
        path = [(root, iter(sorted(includes[root])))]
        number[root] = lowest[root] = len(number)
        stack.append(root)
        while path:
            name, ahead = path[-1]
            other = next(ahead, None)
            if other is None:
                path.pop()
                if path:
                    lowest[path[-1][0]] = min(lowest[path[-1][0]], lowest[name])
                if lowest[name] == number[name]:
                    group = [stack.pop()]
                    while group[-1] != name:
                        group.append(stack.pop())
                    grouped.update(group)
                    yield tuple(group)
            elif other not in number:
                number[other] = lowest[other] = len(number)
                stack.append(other)
                path.append((other, iter(sorted(includes[other]))))
            elif other not in grouped:
                lowest[name] = min(lowest[name], number[other])
