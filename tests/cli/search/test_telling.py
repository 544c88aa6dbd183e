"""A candidate's line on the screen."""

from typing import Any

import pytest

from detnet.cli.search.telling import candidate_text

EVENT: dict[str, Any] = {
    "event": "candidate",
    "text": "21 03",
    "state": "done",
    "values": (0.25,),
    "costs": {"macs": 12.5e6},
    "seconds": 3.0,
    "error": None,
    "settled": 2,
    "candidates": 6,
    "best": 0.5,
}
WHERE = "  candidate 2 of 6: 21 03, 12.5 M multiply-adds, 3.0 s: "


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "score 25.00 (best so far 50.00)"),
        ({"best": None}, "score 25.00"),
        ({"state": "waiting", "values": None, "error": "NaN"}, "failed: NaN; tried again"),
        ({"state": "failed", "values": None, "error": "NaN"}, "failed: NaN; left out"),
    ],
)
def test_what_is_said_of_a_candidate(changes: dict[str, Any], expected: str) -> None:
    assert candidate_text({**EVENT, **changes}) == WHERE + expected
