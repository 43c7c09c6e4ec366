"""What differs between two recipes, key by key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cyclemlp.config import flatten
from cyclemlp.training import Recipe


def differences(old: Recipe, new: Recipe) -> Iterator[tuple[str, Any, Any]]:
    """(dotted key, old value, new value) of every key that differs."""
    before, after = flatten(old.to_dict()), flatten(new.to_dict())
    for key in dict.fromkeys([*before, *after]):
        if before.get(key) != after.get(key):
            yield key, before.get(key), after.get(key)
