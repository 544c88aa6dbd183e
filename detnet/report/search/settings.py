"""Nested settings as rows of a table."""

from collections.abc import Mapping
from typing import Any


def flat_settings(values: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Writes nested settings as (dotted name, text).

    Args:
        values: a mapping, and within the recursion whatever it holds.
        prefix: the dotted name so far.
    """
    if isinstance(values, Mapping) and values:
        return [
            pair
            for key, value in values.items()
            for pair in flat_settings(value, f"{prefix}.{key}" if prefix else str(key))
        ]
    if not prefix:
        return []
    if isinstance(values, list):
        separator = " " if prefix.endswith("command") else ", "
        return [(prefix, separator.join(map(str, values)) or "–")]
    return [(prefix, "–" if values in (None, {}) else str(values))]
