"""Describe how two configurations differ, key by key."""

from collections.abc import Mapping
from typing import Any

from plgan_tune.config.errors import show
from plgan_tune.config.study import flatten


def describe_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, str]:
    """Return dotted path -> `path: old -> new` for each key that differs or that one of the nested mappings lacks.

    The keys of `before` come first, in their order.
    """
    old, new = flatten(before), flatten(after)
    return {
        key: f"{key}: {show(old.get(key))} -> {show(new.get(key))}"
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    }
