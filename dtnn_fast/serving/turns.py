# SPDX-License-Identifier: MIT
"""A queue in which owners take turns, so that one with much work does not keep others waiting."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """Items of several owners: one of each in turn; those of one owner in the order in which they were added."""

    def __init__(self) -> None:
        self._items: OrderedDict[Hashable, deque[T]] = OrderedDict()

    def add(self, owner: Hashable, item: T) -> None:
        """Add an item of an owner; a new owner comes behind the others."""
        self._items.setdefault(owner, deque()).append(item)

    def next(self) -> T | None:
        """Return the item whose turn it is, which stays; None without items."""
        return next(iter(self._items.values()))[0] if self._items else None

    def take(self) -> T:
        """Remove and return the item whose turn it is.

        Raises:
            KeyError: there is none.
        """
        owner, items = self._items.popitem(last=False)
        item = items.popleft()
        if items:
            self._items[owner] = items
        return item
