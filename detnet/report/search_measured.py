"""Networks of a search that were trained alone: how well it ranks, and the baselines."""

from collections.abc import Mapping
from typing import Any


def validation_view(found: Mapping[str, Any], score_name: str) -> dict[str, Any] | None:
    return None


def baselines_view(found: Mapping[str, Any], score_name: str) -> dict[str, Any] | None:
    return None
