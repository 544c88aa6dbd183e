"""The page of a search: complete, self-contained, small, and of any state."""

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from detnet.backbones.base import Backbone
from detnet.backbones.spaces.space import Gene, Space, Supernet
from detnet.engine.run_records import RunRecord
from detnet.report.search.page import render, write_search_page
from detnet.report.search.state import Phase, SearchState
from tests.report.search.test_summary import (
    a_thousand,
    candidate,
    made_search,
    published,
    searching,
    some,
)
from tests.report.test_page import Checker


def made_page(state: SearchState) -> tuple[str, Checker]:
    content = render(state)
    return content, Checker(content)


def full_search(**more: Any) -> SearchState:
    """A search that goes on, with all that a page can show."""
    events = [{"event": "step", "iteration": n, "loss": 2.0 / n} for n in range(1, 9)]
    phase = Phase("Supernet: fine-tuning", "finetune", RunRecord("f", {}, {}, events, []))
    known = [published("known_<net>", "110000", 288.1e6), published("other", "000000")]
    return made_search(**{"phases": [phase], "published": known, **more})


class StageSpace(Space):
    """A space whose genes differ: a row per stage, a column per question."""

    @property
    def genes(self) -> tuple[Gene, ...]:
        depths, yes = ("2", "3", "4"), ("no", "yes")
        return (
            Gene("c5", "depth", depths),
            Gene("c5", "projection", yes),
            Gene("c6", "depth", depths),
        )

    def network(self, path: Sequence[int], **_: Any) -> Backbone:
        raise NotImplementedError

    def supernet(self, **_: Any) -> Supernet:
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        return {"kind": "stages"}


def detnet_search() -> SearchState:
    candidates = [
        candidate(0, n, path, 0.2 + n / 100, 1e9 + n) for n, path in enumerate(["012", "201"])
    ]
    return SearchState(searching(StageSpace()), candidates)


def test_everything_is_on_the_page(tmp_path: Path) -> None:
    page = write_search_page(tmp_path / "search.html", full_search())
    text = Checker(page.read_text(encoding="utf-8")).text
    for words in (
        "Progress",
        "AP by generation",
        "1 failed, in generation 0 (1)",
        "Front",
        "limit 300.0 M",
        "Best so far: generation 0, slot 1",
        "111 000",
        "known_<net>",
        "5 of 6 choices alike",
        "What each stage prefers",
        "Supernet: fine-tuning",
        "4 candidates took 10 s",
        "the state so far",
        "Settings of the search",
    ):
        assert words in text, words


def test_nothing_comes_from_elsewhere_and_names_cannot_break_it() -> None:
    failed = candidate(0, 0, "012012", None, 1e6, error="</script><script>alert(1)</script>")
    content, page = made_page(full_search(candidates=[failed, *some()[1:]]))
    assert all(not address.startswith(("http", "//")) for address in page.addresses)
    assert "<script>alert" not in content and "<b>own</b>" not in content
    genes = re.search(r'id="genes">(.*?)</script>', content, re.DOTALL)
    assert genes and json.loads(genes[1])[0]["choices"][2] == "<b>own</b>"


def test_every_point_and_row_is_a_candidate() -> None:
    content, _ = made_page(full_search())
    rows = re.findall(r'<tr id="c(\d+)" data-state="(\w+)" data-path="(\d+)"', content)
    assert [row[0] for row in rows] == list("012345")
    assert rows[2][1:] == ("failed", "111111") and rows[5][1] == "waiting"
    points = re.findall(r'class="dot pt ([\w-]+)" d="[^"]+" data-c="(\d)"', content)
    assert {number for _, number in points} == set("013"), "what has no score has no point"
    assert [number for style, number in points if style == "winner"] == ["1"]
    assert {number for style, number in points if style == "front"} == {"0", "1"}
    assert re.search(r'class="limit"', content)


def test_the_best_network_and_where_the_published_one_differs() -> None:
    content, _ = made_page(full_search())
    best = content[content.index('id="best-network"') : content.index('id="known"')]
    assert re.findall(r'class="gene k(\d)" data-gene="(\d)"', best) == [
        *(("1", str(n)) for n in range(3)),
        *(("0", str(n)) for n in range(3, 6)),
    ]
    known = content[content.index('id="known"') : content.index("What each stage prefers")]
    first = known[: known.index("choices alike", known.index("choices alike") + 1)]
    assert re.findall(r'differs" data-gene="(\d)"', first) == ["2"]


def test_genes_of_different_kinds_are_a_table() -> None:
    content, page = made_page(detnet_search())
    assert content.count('class="stages"') == 1
    best = content[content.index('id="best-network"') : content.index("What each stage")]
    assert re.findall(r"<th>(\w+)</th>", best) == ["depth", "projection"]
    assert re.findall(r"<b>(\w+)</b>", best) == ["4", "no", "3"]
    assert "depth" in page.text and "Ranking" not in page.text


@pytest.mark.parametrize(
    "record",
    [
        SearchState(searching()),
        made_search([candidate(0, 0, "000000", None, 1e6, state="waiting", seconds=None)]),
        made_search([candidate(0, 0, "000000", None, 1e6, error="NaN")]),
        made_search([candidate(0, 0, "000000", 0.0, 1e6)]),
        made_search([candidate(0, 0, "000000", 0.5, 0, costs={})]),
    ],
    ids=["nothing", "waiting", "failed", "one", "no costs"],
)
def test_little_is_shown_as_little(record: SearchState) -> None:
    content, page = made_page(record)
    assert record.run.name in page.text
    assert ("Best network" in page.text) == bool(record.scored)
    assert content.count('<tr id="c') == len(record.candidates)


def test_a_thousand_candidates_are_no_burden(tmp_path: Path) -> None:
    record = full_search(candidates=a_thousand())
    begun = time.process_time()
    page = write_search_page(tmp_path / "search.html", record)
    assert time.process_time() - begun < 3
    assert page.stat().st_size < 2_000_000
    assert page.read_text(encoding="utf-8").count('<tr id="c') == 1000
